"""The updater: what a command line or a robot calls.

It holds the writer's lock for each change, verifies with the keys it was given, and
lets every reason through verbatim. What runs is changed by `activate`, `rollback` and
`recover` alone, and by them only in the record: the control loop switches by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

import continuon
from continuon.bundle.keys import VerifyingKey
from continuon.bundle.manifest import MANIFEST_NAME, Manifest
from continuon.bundle.manifest_codec import MAX_MANIFEST_BYTES, parse_manifest
from continuon.bundle.safety import SafetyManifest, merge_safety
from continuon.bundle.tree_io import read_file
from continuon.bundle.verify import VerifiedBundle, verify_bundle
from continuon.clock import Clock, SystemClock
from continuon.errors import ContinuonError, GateMissedError, TrustError, UsageError
from continuon.ota.compat import Device, check_fit
from continuon.ota.disk import DiskStore, drop_page_cache, no_space
from continuon.ota.download import Downloader
from continuon.ota.entitlement import Entitlement, OpenEntitlement
from continuon.ota.gate import GateReport, judge
from continuon.ota.grant import Ask
from continuon.ota.lock_io import hold_lock
from continuon.ota.plans import INCOMING, SLOTS, TRIAGE
from continuon.ota.record import Record
from continuon.ota.reports import (
    ActivateReport,
    CheckReport,
    CommitReport,
    FetchReport,
    RecoverReport,
    RollbackReport,
    SlotFacts,
    StageReport,
    StatusReport,
)
from continuon.ota.slots import Slots, require_active

__all__ = ["Updater"]


class Updater:
    """One device's bundles below `model_dir`.

    `public_keys` with `threshold` sign bundles; `repository` brings new ones and may be
    None on a device that is only updated by hand. `entitlement` says whether this robot
    may have a bundle; it never touches what runs.
    """

    def __init__(
        self,
        model_dir: Path,
        public_keys: Sequence[VerifyingKey],
        *,
        threshold: int = 1,
        clock: Clock | None = None,
        device: Device | None = None,
        repository: Downloader | None = None,
        entitlement: Entitlement | None = None,
    ) -> None:
        self.model_dir = model_dir
        self.public_keys = tuple(public_keys)
        self.threshold = threshold
        self.clock = clock or SystemClock()
        self.device = device or Device(library_version=continuon.__version__)
        self.repository = repository
        self.entitlement: Entitlement = entitlement or OpenEntitlement()
        self.slots = Slots(DiskStore(model_dir), self._check_slot)

    # -- reading

    def active_slot(self) -> Path | None:
        """Return the directory of the bundle that is to run, None before the first.

        `recover` has verified it at start; `activate` has before it went on trial.
        """
        active = self.slots.load().active
        return None if active is None else self._slot_dir(active)

    def safety(self) -> SafetyManifest:
        """Return the base rules tightened by the active bundle's own limits."""
        base = self.device.base_rules
        active = self.active_slot()
        return (
            base if active is None else merge_safety(base, self._verify(active).safety)
        )

    def status(self) -> StatusReport:
        """Return what runs, what is good, what failed and why, and what comes next."""
        record = self.slots.load()
        staged = self._staged(record)
        last = record.failed[-1] if record.failed else None
        triage = self.model_dir / TRIAGE / last.bundle if last else None
        return StatusReport(
            active=self._facts(record.active),
            good=self._facts(record.good),
            previous=self._facts(record.previous),
            staged=staged,
            on_trial=record.trial is not None,
            tries_left=record.trial.tries_left if record.trial else None,
            failed=record.failed,
            triage=triage if triage is not None and triage.is_dir() else None,
            release_high=record.release_high,
            entitlement=self.entitlement.describe(record, wall_ns=self.clock.wall_ns()),
            next_step=_next_step(record, staged),
        )

    def check(self, *, model_name: str | None = None) -> CheckReport:
        """Ask the repository for the newest bundle on offer; change no role.

        Raises:
            UsageError: E-OTA-REPO-003, no repository. TrustError: E-OTA-TUF-...
        """
        repository = self._repository()
        record = self.slots.load()
        offer = repository.newest(model_name, t_floor_ns=record.t_floor_ns)
        why_not = None
        if offer is None:
            why_not = "nothing is on offer"
        elif offer.bundle in record.roles:
            why_not = "it is installed already"
        elif offer.release_counter <= record.release_high:
            why_not = f"release {record.release_high} was committed here"
        return CheckReport(
            repository=repository.name,
            channel=repository.channel,
            bundle=offer.bundle if offer else None,
            version=offer.version if offer else None,
            release_counter=offer.release_counter if offer else None,
            total_bytes=offer.total_bytes if offer else None,
            newer=why_not is None,
            why_not=why_not,
        )

    # -- changing

    def fetch(
        self,
        *,
        model_name: str | None = None,
        allow_full: bool = True,
        retry: bool = False,
    ) -> FetchReport:
        """Bring the newest bundle on offer to the device, whole and verified.

        With `allow_full` false, a file that cannot be had as a patch or from an
        installed slot is refused instead of being downloaded whole.

        Raises:
            UsageError: E-OTA-REPO-003. TrustError: E-OTA-TUF-..., E-OTA-GRANT-...,
            E-OTA-RELEASE-..., E-BUNDLE-... ContractError: E-OTA-COMPAT-...
            BudgetError: E-OTA-SPACE-001, E-OTA-FETCH-003 and -006.
        """
        repository = self._repository()
        with hold_lock(self.model_dir), _plain_io(self.model_dir):
            self.slots.prepare()
            record = self.slots.load()
            offer = repository.newest(model_name, t_floor_ns=record.t_floor_ns)
            if offer is None:
                raise UsageError(
                    "E-OTA-REPO-004",
                    "the repository offers nothing that this robot may fetch",
                    seen=repository.channel,
                    exit_code=1,
                )
            self.slots.admit(offer.bundle, offer.release_counter, retry=retry)
            offered = repository.statement(
                offer, self.public_keys, threshold=self.threshold
            )
            self._admit(record, offer.bundle, offered.manifest)
            check_fit(offered.manifest, self.device, installed=self._installed())
            self.slots.make_room(
                offered.manifest.total_bytes,
                min_free_bytes=offered.manifest.compat.min_free_bytes,
            )
            target = self.model_dir / INCOMING / offer.bundle
            known = [self._slot_dir(name) for name in self._slot_names()]
            cost = repository.fetch(offered, target, known=known, allow_full=allow_full)
            self._verify(target, expected=offer.bundle)
            return FetchReport(
                bundle=offer.bundle,
                version=offered.manifest.version,
                release_counter=offered.manifest.release_counter,
                fetched_bytes=cost.fetched_bytes,
                reused_bytes=cost.reused_bytes,
                resumed_bytes=cost.resumed_bytes,
                patched_files=cost.patched_files,
            )

    def stage(self, source: Path | None = None, *, retry: bool = False) -> StageReport:
        """Make a slot from what was fetched, or from a bundle directory at hand.

        A directory at hand (a USB stick) has no freeze protection, and the report says
        so.

        Raises:
            TrustError: E-BUNDLE-..., E-OTA-RELEASE-..., E-OTA-STATE-004.
            ContractError: E-OTA-COMPAT-... BudgetError: E-OTA-SPACE-001.
        """
        with hold_lock(self.model_dir), _plain_io(self.model_dir):
            self.slots.prepare()
            found = self._fetched() if source is None else source
            bundle = self._verify(found)
            manifest = bundle.manifest
            check_fit(manifest, self.device, installed=self._installed())
            merge_safety(self.device.base_rules, bundle.safety)
            self.slots.admit(bundle.bundle_id, manifest.release_counter, retry=retry)
            removed: tuple[str, ...] = ()
            files = None
            if source is not None:
                names = (*bundle.files, "model.sig")
                files = {name: str(source.absolute() / name) for name in names}
                removed = self.slots.make_room(
                    bundle.total_bytes, min_free_bytes=manifest.compat.min_free_bytes
                )
            self.slots.stage(
                bundle.bundle_id, manifest.release_counter, files, retry=retry
            )
            return StageReport(
                bundle=bundle.bundle_id,
                version=manifest.version,
                release_counter=manifest.release_counter,
                directory=self._slot_dir(bundle.bundle_id),
                origins=manifest.origins,
                freeze_protection=source is None,
                removed=removed,
            )

    def activate(
        self, bundle: str | None = None, *, tries: int = 3, retry: bool = False
    ) -> ActivateReport:
        """Put the staged bundle on trial, in the record only.

        Its bytes are verified again from the medium and the entitlement is asked
        again. The control loop then switches to `active_slot()`.

        Raises:
            UsageError: E-OTA-STATE-006 nothing is staged, -001 another trial.
            TrustError: E-BUNDLE-..., E-OTA-GRANT-..., E-OTA-RELEASE-...
        """
        with hold_lock(self.model_dir), _plain_io(self.model_dir):
            record = self.slots.load()
            chosen = bundle or self._staged_bundle(record)
            verified = self._verify(self._slot_dir(chosen), expected=chosen)
            manifest = verified.manifest
            check_fit(manifest, self.device, installed=self._installed())
            self._admit(record, chosen, manifest)
            step = self.slots.activate(
                chosen, manifest.release_counter, tries=tries, retry=retry
            )
            trial = step.record.trial
            return ActivateReport(
                bundle=chosen,
                directory=self._slot_dir(chosen),
                previous=step.record.good,
                tries_left=trial.tries_left if trial else 0,
            )

    def commit(self, report: GateReport) -> CommitReport:
        """Make the bundle on trial the good one, if the gate's figures allow it.

        Raises:
            GateMissedError: E-OTA-GATE-001, with every bound that was missed; nothing
                is changed, and the caller rolls back.
            UsageError: E-OTA-STATE-003, that bundle is not on trial.
        """
        with hold_lock(self.model_dir), _plain_io(self.model_dir):
            record = self.slots.load()
            manifest = self._verify(self._slot_dir(require_active(record))).manifest
            misses = judge(manifest.health_gate, report)
            if misses:
                raise GateMissedError(
                    "E-OTA-GATE-001",
                    "the trial missed its health gate",
                    seen="; ".join(map(str, misses)),
                    hint="continuon ota rollback; the failed bundle is kept",
                )
            staged = self._staged(record)
            step = self.slots.commit(report.bundle)
            self.slots.collect(keep={staged.bundle} if staged else ())
            return CommitReport(
                bundle=report.bundle,
                version=manifest.version,
                release_counter=manifest.release_counter,
                previous=step.record.previous,
            )

    def rollback(
        self,
        reason: str,
        *,
        code: str = "E-OTA-GATE-001",
        evidence: Mapping[str, bytes] | None = None,
    ) -> RollbackReport:
        """Return to the good bundle, or from a committed one to the previous.

        `evidence` are small files (gate report, last ticks, log) for the triage folder;
        the failed bundle itself stays on the device.

        Raises:
            UsageError: E-OTA-STATE-002, there is nothing to return to.
        """
        with hold_lock(self.model_dir), _plain_io(self.model_dir):
            failed = require_active(self.slots.load())
            record = self.slots.rollback(code, reason, evidence).record
            triage = self.model_dir / TRIAGE / failed
            active = record.active
            return RollbackReport(
                failed=failed,
                code=code,
                reason=reason,
                active=active,
                active_directory=self._slot_dir(active) if active else None,
                triage=triage if record.failed[-1].triage else None,
            )

    def recover(self) -> RecoverReport:
        """Decide what runs; every start of the robot calls this first.

        Consumes one start of a trial; falls back when none is left or when a slot no
        longer verifies.

        Raises:
            DataError: E-OTA-RECORD-..., the record cannot be read; a person must act.
        """
        with hold_lock(self.model_dir), _plain_io(self.model_dir):
            found = self.slots.recover()
            known = {item.bundle for item in found.before.failed}
            fresh = [item for item in found.after.failed if item.bundle not in known]
            trial = found.after.trial
            return RecoverReport(
                active=found.after.active,
                on_trial=trial is not None,
                tries_left=trial.tries_left if trial else None,
                rolled_back=fresh[-1] if fresh else None,
                lost=found.lost,
            )

    def note_uptime(self, powered_on_s: float) -> None:
        """Let powered-on time raise the time floor, and count it as time offline.

        The robot calls this now and then with the monotonic time since its last call.
        """
        with hold_lock(self.model_dir), _plain_io(self.model_dir):
            record = self.slots.load()
            passed_ns = max(0, int(powered_on_s * 1e9))
            floor_ns = record.t_floor_ns + passed_ns if record.t_floor_ns else 0
            self.slots.contact(
                t_floor_ns=floor_ns, offline_ns=record.offline_ns + passed_ns
            )

    # -- inside

    def _check_slot(self, path: str, bundle: str) -> None:
        """Verify from the medium, not from what was just written to memory."""
        directory = self.model_dir / path
        if directory.is_dir():
            drop_page_cache(directory)
        self._verify(directory, expected=bundle)

    def _verify(
        self, directory: Path, *, expected: str | None = None
    ) -> VerifiedBundle:
        bundle = verify_bundle(directory, self.public_keys, threshold=self.threshold)
        if expected is not None and bundle.bundle_id != expected:
            raise TrustError(
                "E-OTA-SLOT-002",
                "a slot holds another bundle than its name says",
                seen=bundle.bundle_id,
                allowed=expected,
                where=directory,
            )
        return bundle

    def _admit(self, record: Record, bundle: str, manifest: Manifest) -> None:
        """Ask whether this robot may have the bundle; remember what was signed."""
        ask = Ask(
            bundle=bundle,
            release_counter=manifest.release_counter,
            channel=self.repository.channel if self.repository else None,
            safety_critical=manifest.safety_critical,
        )
        told = self.entitlement.admit(record, ask, wall_ns=self.clock.wall_ns())
        if told is not None:
            self.slots.contact(
                t_floor_ns=told.t_floor_ns,
                grant_seq=told.grant_seq,
                owner_epoch=told.owner_epoch,
                offline_ns=0 if told.fresh else None,
            )

    def _repository(self) -> Downloader:
        if self.repository is None:
            raise UsageError(
                "E-OTA-REPO-003",
                "this device knows no repository",
                hint="give one, or stage a bundle directory at hand",
            )
        return self.repository

    def _fetched(self) -> Path:
        names = self.slots.store.entries(INCOMING)
        ready = [name for name in names if not name.startswith("parts")]
        if len(ready) != 1:
            raise UsageError(
                "E-OTA-STATE-006",
                "there is no fetched bundle to stage",
                seen=f"{len(ready)} in {INCOMING}/",
                hint="continuon ota fetch, or give a bundle directory",
            )
        return self.model_dir / INCOMING / ready[0]

    def _staged_bundle(self, record: Record) -> str:
        staged = self._staged(record)
        if staged is None:
            raise UsageError(
                "E-OTA-STATE-006",
                "no bundle is staged",
                hint="continuon ota stage",
            )
        return staged.bundle

    def _staged(self, record: Record) -> SlotFacts | None:
        """Return the newest spare slot that is newer than what was committed."""
        facts = [self._facts(name) for name in self.slots.spare()]
        newer = [
            item
            for item in facts
            if item is not None and item.release_counter > record.release_high
        ]
        return max(newer, key=lambda item: item.release_counter, default=None)

    def _facts(self, bundle: str | None) -> SlotFacts | None:
        """Return what a slot's manifest says; for people, never for deciding."""
        if bundle is None:
            return None
        directory = self._slot_dir(bundle)
        try:
            data = read_file(directory / MANIFEST_NAME, max_bytes=MAX_MANIFEST_BYTES)
            manifest = parse_manifest(data)
        except (ContinuonError, OSError):
            return SlotFacts(
                bundle=bundle,
                model_name="unreadable slot",
                version="?",
                release_counter=-1,
                directory=directory,
                origins=("unknown",),
            )
        return SlotFacts(
            bundle=bundle,
            model_name=manifest.model_name,
            version=manifest.version,
            release_counter=manifest.release_counter,
            directory=directory,
            origins=manifest.origins,
        )

    def _installed(self) -> frozenset[str]:
        return frozenset(self.slots.load().roles)

    def _slot_names(self) -> list[str]:
        return self.slots.store.entries(SLOTS)

    def _slot_dir(self, bundle: str) -> Path:
        return self.model_dir / SLOTS / bundle


@attrs.define
class _plain_io:  # noqa: N801
    """Turn a medium's refusal into an error that a person understands."""

    where: Path

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Translate OSError; errors of our own pass."""
        if isinstance(error, OSError) and not isinstance(error, ContinuonError):
            raise no_space(error, self.where) from error


def _next_step(record: Record, staged: SlotFacts | None) -> str:
    if record.trial is not None:
        return "drive the soak, then commit or roll back"
    if staged is not None:
        return f"activate {staged.version}"
    if record.active is None:
        return "stage a first bundle"
    return "check for a newer bundle"
