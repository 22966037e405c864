"""Explore every state that a power cut can leave, at every operation of a workload.

For each state: recover, check the invariants of specs/stager, cut the recovery itself
at each of its operations (to `depth`), and see that a fresh update still succeeds.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from continuon.bundle.paths import is_hex_digest
from continuon.errors import ContinuonError
from continuon.ota.record import Record
from continuon.ota.simfs import SimDisk, Tree
from continuon.ota.slots import Slots
from continuon.ota.toy import (
    LAST,
    LAST_COUNTER,
    OUTSIDE,
    sim_slots,
    toy_bundle,
    toy_counter,
    toy_files,
)

__all__ = ["Explorer", "Reported", "Violation", "full_life", "one_update"]

Workload = Callable[[Slots, "Reported"], None]


@attrs.define
class Reported:
    """What the stager has told its caller as done. It must never be lost again."""

    good: str | None = None
    seq: int = 0
    release_high: int = -1
    staged: str | None = None

    def note(self, record: Record) -> None:
        """Remember a record whose write was reported as done."""
        self.good = record.good
        self.seq = max(self.seq, record.seq)
        self.release_high = max(self.release_high, record.release_high)


@attrs.frozen
class Violation:
    """One broken invariant and the way to it."""

    trace: str
    what: str


@attrs.define
class Explorer:
    """Counts and findings of one exploration.

    `states` counts every state that a cut could leave, `distinct` those that differ in
    their tree or in what had been reported as done; each of these was recovered.
    Without `update_after` a recovered device is not updated again, so I5 is left out.
    """

    depth: int = 2
    skip: frozenset[tuple[str, str]] = frozenset()
    max_states: int | None = None
    stop_at_first: bool = False
    update_after: bool = True
    points: int = 0
    states: int = 0
    distinct: int = 0
    recoveries: int = 0
    violations: list[Violation] = attrs.field(factory=list)
    seen: dict[object, int] = attrs.field(factory=dict)
    updated: set[object] = attrs.field(factory=set)

    def run(self, workload: Workload, *, tree: Tree = ()) -> Explorer:
        """Explore a workload that starts from `tree`; return self."""
        reported = Reported()
        disk = self._disk(tree)
        reported.note(sim_slots(disk).load())
        disk.hook = self._hook(reported, 1, "")
        workload(sim_slots(disk), reported)
        self._cut(disk, reported, 1, "")
        return self

    def run_deaths(self, workload: Workload, *, tree: Tree = ()) -> Explorer:
        """Let the process die at each operation, start again, then cut the power.

        What the dead process did is visible to the next one and not all durable yet.
        """
        reported = Reported()
        disk = self._disk(tree)
        reported.note(sim_slots(disk).load())
        disk.hook = lambda disk: self._restart(disk.clone(), attrs.evolve(reported))
        workload(sim_slots(disk), reported)
        return self

    def _restart(self, disk: SimDisk, reported: Reported) -> None:
        place = f"dead at {disk.count}:{disk.log[-1]}, boot"
        disk.hook = self._hook(reported, 1, place)
        slots = sim_slots(disk)
        reported.note(slots.recover().after)
        reported.staged = None
        slots.collect()
        self._cut(disk, reported, 1, place)

    def run_sequences(self, length: int) -> Explorer:
        """Explore every sequence of up to `length` of the stager's operations."""
        self._grow(self._disk(()), Reported(), length)
        return self

    def _grow(self, disk: SimDisk, reported: Reported, length: int) -> None:
        for operation in OPERATIONS if length else ():
            branch, told = disk.clone(), attrs.evolve(reported)
            branch.hook = self._hook(told, 1, operation.__name__)
            try:
                operation(sim_slots(branch), told)
            except ContinuonError:
                continue
            branch.hook = None
            self._cut(branch, told, 1, operation.__name__)
            if self.done():
                return
            self._grow(branch, told, length - 1)

    def _hook(
        self, reported: Reported, level: int, trace: str
    ) -> Callable[[SimDisk], None]:
        return lambda disk: self._cut(disk, reported, level, trace)

    def done(self) -> bool:
        """Return whether nothing more needs to be looked at."""
        full = self.max_states is not None and self.states >= self.max_states
        return full or (self.stop_at_first and bool(self.violations))

    def _disk(self, tree: Tree) -> SimDisk:
        return SimDisk(tree, outside=OUTSIDE, skip=self.skip)

    def _cut(self, disk: SimDisk, reported: Reported, level: int, trace: str) -> None:
        if self.done():
            return
        self.points += 1
        floor = (reported.good, reported.seq, reported.release_high, reported.staged)
        place = f"{trace} > {disk.count}:{disk.log[-1] if disk.log else 'start'}"
        for tree in disk.crash_states():
            if self.done():
                break
            self.states += 1
            key = (tree, *floor)
            before = self.seen.get(key)
            if before is not None and before <= level:
                continue
            self.distinct += before is None
            self.seen[key] = level
            try:
                self._recover(tree, reported, level, place)
            except (AssertionError, ContinuonError, OSError, KeyError) as error:
                what = f"{type(error).__name__}: {error}"
                self.violations.append(Violation(place, what))

    def _recover(self, tree: Tree, reported: Reported, level: int, trace: str) -> None:
        disk = self._disk(tree)
        slots = sim_slots(disk)
        if level < self.depth:
            disk.hook = self._hook(reported, level + 1, f"{trace} > boot")
        slots.recover()
        disk.hook = None
        self.recoveries += 1
        check_invariants(slots, reported)
        check_staged(slots, reported.staged)
        settled = disk.freeze()
        if (settled, reported.good) in self.updated:
            return
        self.updated.add((settled, reported.good))
        if slots.load().trial is None:
            slots.recover()
            assert disk.freeze() == settled, "I4: a second recovery changed something"
        if self.update_after:
            self._fresh_update(slots, reported)

    def _fresh_update(self, slots: Slots, reported: Reported) -> None:
        """I5: whatever happened, a new update and then a rollback go through."""
        record = slots.load()
        if record.trial is not None:
            slots.rollback("E-TEST-000", "abandoned")
        slots.stage(LAST, LAST_COUNTER, toy_files(LAST))
        slots.activate(LAST, LAST_COUNTER)
        slots.commit(LAST)
        after = slots.load()
        assert after.active == after.good == LAST, (
            "I5: a fresh update did not go through"
        )
        assert after.release_high == LAST_COUNTER, "I3: the release counter"
        slots.collect()
        kept = slots.store.entries("slots")
        assert len(kept) <= 3, f"I6: {len(kept)} slots are kept"
        check_invariants(slots, reported, superseded=True)


def check_invariants(
    slots: Slots, reported: Reported, *, superseded: bool = False
) -> None:
    """Assert I1 to I3, I6, I7 and I10 of specs/stager on a recovered device."""
    record = slots.load()
    for role, bundle in (("active", record.active), ("good", record.good)):
        if bundle is not None:
            slots.check(f"slots/{bundle}", bundle)
        else:
            assert reported.good is None, f"I1: no {role} bundle is left"
    known = reported.good is None or record.good is not None
    assert known, "I2: a reported commit was lost"
    if reported.good is not None and not superseded:
        order = [toy_counter(name) for name in (record.good, reported.good)]
        assert order[0] >= order[1], "I2: good is older than the last reported commit"
    assert record.seq >= reported.seq, "I3: seq went back"
    assert record.release_high >= reported.release_high, "I3: release_high went back"
    slots_kept = slots.store.entries("slots")
    assert all(is_hex_digest(name) for name in slots_kept), "I6: a stray slot"
    if record.failed and record.failed[-1].triage:
        folder = f"triage/{record.failed[-1].bundle}"
        assert slots.store.exists(f"{folder}/reason.txt"), "I10: no triage"
        reason = slots.store.read(f"{folder}/reason.txt", max_bytes=100)
        assert reason.startswith(b"E-"), "I10: the triage is torn"


def check_staged(slots: Slots, bundle: str | None) -> None:
    """Assert that what was reported as staged is whole, under either of its names."""
    places = ("slots", "incoming")
    whole = bundle is None or any(slots.is_intact(f"{p}/{bundle}") for p in places)
    assert whole, "I11: a bundle that was reported as staged is lost"


# -- workloads


def full_life(slots: Slots, reported: Reported) -> None:
    """Install, update, fail, roll back a committed bundle, restage, collect."""
    first, second, third, fourth = (toy_bundle(number)[0] for number in (1, 2, 3, 4))

    def update(bundle: str) -> None:
        slots.stage(bundle, toy_counter(bundle), toy_files(bundle))
        slots.activate(bundle, toy_counter(bundle), tries=2)

    def commit(bundle: str) -> None:
        reported.note(slots.commit(bundle).record)
        slots.collect()

    update(first)
    commit(first)
    update(second)
    commit(second)
    update(third)
    slots.rollback("E-TEST-GATE-001", "latency")
    update(fourth)
    slots.recover()
    commit(fourth)
    slots.stage(fourth, toy_counter(fourth), toy_files(fourth))
    give_up(slots, reported)


def one_update(slots: Slots, reported: Reported) -> None:
    """Update once, fail once: every kind of effect, in the fewest operations."""
    install(slots, reported)
    keep(slots, reported)
    install(slots, reported)
    give_up(slots, reported)


def install(slots: Slots, reported: Reported) -> None:
    """Stage the next bundle and put it on trial."""
    bundle = _stage_next(slots, reported)
    reported.note(slots.activate(bundle, toy_counter(bundle), tries=2).record)


def stage_only(slots: Slots, reported: Reported) -> None:
    """Stage the next bundle and leave it for later."""
    _stage_next(slots, reported)
    reported.note(slots.load())


def restage(slots: Slots, reported: Reported) -> None:
    """Stage again what is active already."""
    bundle = slots.load().active
    if bundle is not None:
        reported.staged = None
        slots.stage(bundle, toy_counter(bundle), toy_files(bundle), retry=True)
        reported.note(slots.load())


def keep(slots: Slots, reported: Reported) -> None:
    """Commit what is on trial, and tidy up."""
    trial = slots.load().trial
    if trial is not None:
        reported.staged = None
        reported.note(slots.commit(trial.bundle).record)
        slots.collect()


def give_up(slots: Slots, reported: Reported) -> None:
    """Roll back, from a trial or from a committed bundle."""
    record = slots.load()
    if record.trial is None and record.previous is not None:
        reported.good = record.previous
    reported.note(slots.rollback("E-TEST-GATE-001", "latency").record)


def restart(slots: Slots, reported: Reported) -> None:
    """Start the device without a power cut."""
    reported.note(slots.recover().after)


OPERATIONS: tuple[Workload, ...] = (
    install,
    keep,
    give_up,
    restart,
    stage_only,
    restage,
)


def _stage_next(slots: Slots, reported: Reported) -> str:
    reported.staged = None
    bundle = _next(slots)
    slots.stage(bundle, toy_counter(bundle), toy_files(bundle))
    reported.staged = bundle
    return bundle


def _next(slots: Slots) -> str:
    record = slots.load()
    known = [
        toy_counter(name) for name in (*record.roles, *slots.store.entries("slots"))
    ]
    return toy_bundle(max(known, default=0) + 1)[0]
