"""The stager's shell: reads the record, asks the core, performs its effects.

One object, one writer. It works on any `Store`, so the crash explorer runs this very
code on a simulated disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping

import attrs

from continuon.errors import ContinuonError, DataError
from continuon.ota.plans import (
    INCOMING,
    ROOT,
    SLOTS,
    STATE,
    STATE_NEW,
    TRIAGE,
    collect_plan,
    prepare_plan,
    record_plan,
)
from continuon.ota.record import MAX_RECORD_BYTES, Record, decode_record
from continuon.ota.space import Evictable, plan_room
from continuon.ota.stager import (
    Activate,
    Commit,
    Contact,
    Event,
    Recover,
    Rollback,
    Stage,
    Step,
    advance,
)
from continuon.ota.store import Check, Store, perform

__all__ = ["Recovery", "Slots"]

MAX_TRIAGE_FILE_BYTES = 1 << 20
MAX_TRIAGE_BYTES = 8 << 20
_KEPT_FROM_SLOT = ("edge_manifest.json", "model.sig")


@attrs.frozen
class Recovery:
    """What starting up found and did."""

    before: Record
    after: Record
    lost: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Return whether the record had to be written."""
        return self.before.seq != self.after.seq


class Slots:
    """Slots and their record on one store.

    `check(path, bundle)` verifies the bundle at a path of the store, from the medium.
    `facts` are small files about the device that go into every triage folder.
    """

    def __init__(
        self,
        store: Store,
        check: Check,
        *,
        facts: Callable[[], Mapping[str, bytes]] = dict,
    ) -> None:
        self.store = store
        self.check = check
        self.facts = facts
        self._settled = False

    def load(self) -> Record:
        """Return the record; a fresh one where nothing was ever installed.

        Raises:
            DataError: E-OTA-RECORD-..., the record cannot be read.
        """
        if not self.store.exists(STATE):
            return Record()
        data = self.store.read(STATE, max_bytes=MAX_RECORD_BYTES + 1)
        return decode_record(data, where=STATE)

    def prepare(self) -> None:
        """Make the top directories if they are missing."""
        missing = [p for p in (SLOTS, INCOMING, TRIAGE) if not self.store.exists(p)]
        perform(prepare_plan(missing), self.store, self.check)

    def stage(
        self,
        bundle: str,
        release_counter: int,
        files: Mapping[str, str] | None = None,
        *,
        retry: bool = False,
    ) -> Step:
        """Make a slot of a bundle, from outside files or from `incoming/`."""
        self.prepare()
        record = self.load()
        event = Stage(
            bundle=bundle, release_counter=release_counter, files=files, retry=retry
        )
        advance(record, event)
        kept = frozenset({bundle})
        half = [name for name in self.store.entries(INCOMING) if name not in kept]
        self._remove(self._unreferenced(record, keep=kept))
        self._remove(tuple(f"{INCOMING}/{name}" for name in half))
        return self._run(record, event)

    def admit(self, bundle: str, release_counter: int, *, retry: bool = False) -> None:
        """Return if the bundle could be staged; change nothing.

        Raises:
            TrustError: E-OTA-RELEASE-..., E-OTA-STATE-004.
        """
        event = Stage(bundle=bundle, release_counter=release_counter, retry=retry)
        advance(self.load(), event)

    def activate(
        self,
        bundle: str,
        release_counter: int,
        *,
        tries: int = 3,
        retry: bool = False,
        learned: Contact | None = None,
    ) -> Step:
        """Put a staged bundle on trial; its bytes are verified once more before."""
        event = Activate(
            bundle=bundle,
            release_counter=release_counter,
            tries=tries,
            retry=retry,
            learned=learned,
        )
        return self._run(self.load(), event)

    def commit(self, bundle: str) -> Step:
        """Make the bundle on trial the good one. Once this returns it is durable."""
        return self._run(self.load(), Commit(bundle=bundle))

    def rollback(
        self, code: str, reason: str, triage: Mapping[str, bytes] | None = None
    ) -> Step:
        """Return to the good (or the previous) bundle, keeping what tells why."""
        record = self.load()
        kept = self._triage(record.active, code, reason, triage or {})
        return self._run(record, Rollback(code=code, reason=reason, triage=kept))

    def contact(
        self,
        *,
        t_floor_ns: int = 0,
        grant_seq: int = 0,
        owner_epoch: int = 0,
        offline_ns: int | None = None,
    ) -> Step:
        """Remember floors that signed messages set."""
        event = Contact(
            t_floor_ns=t_floor_ns,
            grant_seq=grant_seq,
            owner_epoch=owner_epoch,
            offline_ns=offline_ns,
        )
        self.prepare()
        return self._run(self.load(), event)

    def recover(self) -> Recovery:
        """Decide at start what runs; a trial loses one of its tries.

        Idempotent where nothing is on trial, and safe to be cut anywhere.
        """
        self.store.remove(STATE_NEW)
        with contextlib.suppress(OSError):  # what runs does not depend on it, and the
            self._settle()  # next change on such a medium meets the refusal again
        record = self.load()
        intact = frozenset(
            bundle for bundle in record.roles if self.is_intact(f"{SLOTS}/{bundle}")
        )
        lost = tuple(bundle for bundle in record.roles if bundle not in intact)
        if record.trial is None and not lost:
            return Recovery(record, record, ())
        self.prepare()
        code = "E-OTA-SLOT-001" if lost else "E-OTA-TRIAL-001"
        triage = self._triage(record.active, code, "found at start", {})
        step = self._run(record, Recover(intact=intact, triage=triage))
        return Recovery(record, step.record, lost)

    def collect(self, *, keep: Iterable[str] = ()) -> tuple[str, ...]:
        """Remove what neither a role, nor the last failure, nor `keep` refers to."""
        gone = self._unreferenced(self.load(), keep=frozenset(keep))
        self._remove(gone)
        return gone

    def make_room(self, need_bytes: int, *, min_free_bytes: int = 0) -> tuple[str, ...]:
        """Remove old slots until `need_bytes` fit; the active and good one stay.

        Raises:
            BudgetError: E-OTA-SPACE-001.
        """
        record = self.load()
        needed = {record.active, record.good}
        rest = [name for name in self.store.entries(SLOTS) if name not in needed]
        last = record.failed[-1].bundle if record.failed else None
        rank = {record.previous: 1, last: 2}
        rest.sort(key=lambda name: (rank.get(name, 0), name))
        evictable = [
            Evictable(f"{SLOTS}/{name}", self.store.tree_bytes(f"{SLOTS}/{name}"))
            for name in rest
        ]
        gone = plan_room(
            need_bytes, self.store.space(), evictable, min_free_bytes=min_free_bytes
        )
        self._remove(gone)
        return gone

    def spare(self) -> tuple[str, ...]:
        """Return complete slots that hold no role and did not fail: staged or old."""
        record = self.load()
        taken = {*record.roles, *(item.bundle for item in record.failed)}
        return tuple(name for name in self.store.entries(SLOTS) if name not in taken)

    def is_intact(self, path: str) -> bool:
        """Return whether the bundle at `slots/<id>` verifies as that bundle."""
        try:
            self.check(path, path.rpartition("/")[2])
        except (ContinuonError, OSError):
            return False
        return True

    def _run(self, record: Record, event: Event) -> Step:
        step = advance(record, event)
        if step.best_effort:
            try:
                perform(step.best_effort, self.store, self.check)
            except OSError:
                assert step.without_triage is not None
                step = attrs.evolve(
                    step,
                    record=step.without_triage,
                    effects=record_plan(step.without_triage),
                )
        perform(step.effects, self.store, self.check)
        if step.effects and step.record != record:
            self._settled = True
        return step

    def _triage(
        self, bundle: str | None, code: str, reason: str, files: Mapping[str, bytes]
    ) -> dict[str, bytes]:
        kept = {"reason.txt": f"{code}: {reason}\n".encode()}
        for name in _KEPT_FROM_SLOT:
            path = f"{SLOTS}/{bundle}/{name}"
            if bundle is None or not self.store.exists(path):
                continue
            try:
                kept[name] = self.store.read(path, max_bytes=MAX_TRIAGE_FILE_BYTES)
            except OSError as error:
                kept[f"{name}.unreadable"] = str(error).encode()
        room = MAX_TRIAGE_BYTES - sum(len(data) for data in kept.values())
        told = {**self.facts(), **files}
        for name in sorted(told):
            data = told[name][-min(MAX_TRIAGE_FILE_BYTES, max(0, room)) :]
            kept[name.replace("/", "_")] = data
            room -= len(data)
        return kept

    def _unreferenced(self, record: Record, *, keep: frozenset[str]) -> tuple[str, ...]:
        last = record.failed[-1].bundle if record.failed else None
        wanted = {*record.roles, last, *keep}
        names = [n for n in self.store.entries(SLOTS) if n not in wanted]
        stale = [n for n in self.store.entries(TRIAGE) if n != last]
        return (
            *(f"{SLOTS}/{name}" for name in names),
            *(f"{TRIAGE}/{name}" for name in stale),
        )

    def _settle(self) -> None:
        """Make durable what an earlier process may have renamed and not flushed.

        It may have died between the two. Its record is what everybody reads, so nothing
        may be told or removed because of it before a power cut can no longer undo it.
        """
        if not self._settled and self.store.exists(STATE):
            self.store.sync_directory(ROOT)
        self._settled = True

    def _remove(self, paths: tuple[str, ...]) -> None:
        if paths:
            self._settle()
        perform(collect_plan(paths), self.store, self.check)


def require_active(record: Record) -> str:
    """Return the active bundle.

    Raises:
        DataError: E-OTA-STATE-005, nothing was ever activated.
    """
    if record.active is None:
        raise DataError(
            "E-OTA-STATE-005",
            "no bundle is active on this device",
            hint="continuon ota stage, then activate",
            exit_code=4,
        )
    return record.active
