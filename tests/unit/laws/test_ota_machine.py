"""Random lives of a device: updates, gates, power cuts, full disks, tampering."""

import contextlib
import itertools

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from continuon.errors import ContinuonError, TrustError
from continuon.ota.simfs import CutError, SimDisk
from continuon.ota.toy import OUTSIDE, sim_slots, toy_bundle, toy_counter, toy_files

CALM = settings(
    max_examples=100,
    stateful_step_count=14,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
cuts = st.none() | st.integers(0, 200)
picks = st.integers(0, 511)
full = st.none() | st.none() | st.integers(0, 20)


class Life(RuleBasedStateMachine):
    skip: frozenset = frozenset()

    def __init__(self):
        super().__init__()
        self.disk = SimDisk(outside=dict(OUTSIDE), skip=self.skip)
        self.number = 0
        self.must = -1
        self.floors = (0, -1, 0)

    @property
    def device(self):
        return sim_slots(self.disk)

    def do(self, work, cut, pick, room=None):
        """Run `work` whole, or cut it after an operation and boot what may be left."""
        done = True
        if cut is not None:
            dry = self.disk.clone()
            with contextlib.suppress(ContinuonError, OSError):
                work(sim_slots(dry))
            length = dry.count - self.disk.count
            self.disk.cut_after = self.disk.count + 1 + cut % max(1, length)
        elif room is not None:
            self.disk.full_from = self.disk.count + room
        try:
            work(self.device)
        except CutError:
            done = False
            states = list(itertools.islice(self.disk.crash_states(), 512))
            self.disk = SimDisk(
                states[pick % len(states)], outside=self.disk.outside, skip=self.skip
            )
            self.device.recover()
        except (ContinuonError, OSError):
            done = False
        self.disk.cut_after = self.disk.full_from = None
        return done

    @rule(cut=cuts, pick=picks, room=full, tamper=st.sampled_from([False, False, True]))
    def update(self, cut, pick, room, tamper):
        if self.device.load().trial is not None or self.number > 60:
            return
        self.number += 1
        bundle = toy_bundle(self.number)[0]
        if tamper:
            self.disk.outside = {**OUTSIDE, f"{bundle}/policy": b"evil"}

        def work(device):
            device.stage(bundle, self.number, toy_files(bundle))
            device.activate(bundle, self.number, tries=2)

        done = self.do(work, cut, pick, room)
        self.disk.outside = OUTSIDE
        assert not (done and tamper), "a tampered bundle was accepted"

    @precondition(lambda self: self.device.load().trial is not None)
    @rule(cut=cuts, pick=picks, room=full, healthy=st.booleans())
    def gate(self, cut, pick, room, healthy):
        bundle = self.device.load().active
        if not healthy:
            self.do(
                lambda device: device.rollback("E-TEST-001", "gate"), cut, pick, room
            )
        elif self.do(lambda device: device.commit(bundle), cut, pick, room):
            self.must = toy_counter(bundle)

    @rule(cut=cuts, pick=picks)
    def collect(self, cut, pick):
        self.do(lambda device: device.collect(), cut, pick)

    @rule(floor=st.integers(0, 9), cut=cuts, pick=picks)
    def hear(self, floor, cut, pick):
        """A signed contact from any clock: 1970, 2040, an older grant."""
        work = lambda device: device.contact(t_floor_ns=floor, grant_seq=floor)  # noqa: E731
        if self.do(work, cut, pick):
            assert self.device.load().t_floor_ns >= floor

    @rule(cut=cuts, pick=picks)
    def restart(self, cut, pick):
        self.do(lambda device: device.recover(), cut, pick)

    @rule(pick=picks)
    def power_cut(self, pick):
        states = list(itertools.islice(self.disk.crash_states(), 512))
        self.disk = SimDisk(states[pick % len(states)], outside=OUTSIDE, skip=self.skip)
        self.device.recover()

    @invariant()
    def holds(self):
        record = self.device.load()
        for bundle in {record.active, record.good} - {None}:
            self.device.check(f"slots/{bundle}", bundle)
        assert toy_counter(record.good) >= self.must, "a reported commit was lost"
        floors = (record.seq, record.release_high, record.t_floor_ns)
        assert all(now >= then for now, then in zip(floors, self.floors, strict=True))
        self.floors = floors


@pytest.mark.law
@pytest.mark.req("R-STAGER-02")
@pytest.mark.req("R-STAGER-03")
@pytest.mark.slow
def test_no_life_breaks_an_invariant():
    run_state_machine_as_test(Life, settings=CALM)


@pytest.mark.law
@pytest.mark.req("R-STAGER-11")
@pytest.mark.slow
@pytest.mark.parametrize(
    "site", [("sync_file", "state.new"), ("sync_directory", "")], ids=" ".join
)
def test_the_machine_finds_a_missing_flush_too(site):
    class Careless(Life):
        skip = frozenset([site])

    with pytest.raises((AssertionError, ContinuonError, ExceptionGroup)):
        run_state_machine_as_test(
            Careless,
            settings=settings(
                CALM, max_examples=1000, phases=[Phase.generate], derandomize=True
            ),
        )


def test_a_toy_bundle_with_other_bytes_is_refused():
    disk = SimDisk(outside={**OUTSIDE, f"{toy_bundle(1)[0]}/policy": b"evil"})
    with pytest.raises(TrustError):
        sim_slots(disk).stage(toy_bundle(1)[0], 1, toy_files(toy_bundle(1)[0]))
