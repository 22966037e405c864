"""An adapter drives on trial: what fails is dropped, and what drove drives again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from continuon.adapter_record import (
    AdapterRecord,
    AdapterUse,
    read_record,
    write_record,
)
from continuon.clock import ManualClock
from continuon.errors import ContinuonError, TrustError
from continuon.home import Home
from continuon.ota.gate import GateReport, Miss
from continuon.robot import adapter_keeper
from continuon.robot.adapter_keeper import AdapterKeeper
from continuon.robot.modes import Mode, ModeState, Motion

BASE = "a" * 64
IDLE = ModeState(mode=Mode.AUTONOMOUS)
BY_HAND = ModeState(mode=Mode.MANUAL, executing=True)


class Software:
    """Takes adapters up and drops them, in the record as the true one does."""

    def __init__(self, home):
        self.home, self.left, self.refuses = home, 0, None

    def active(self, *, tried=False):
        chosen = SimpleNamespace(adapter=read_record(self.home.adapters).use.adapter)
        return SimpleNamespace(
            directory="slot", bundle="b" * 64, gate=None, chosen=chosen
        )

    def take_adapter(self, control):
        if self.refuses:
            raise self.refuses
        swap = {"tick": 7, "model": {}, "previous": {}}
        return {"adapter": self.active().chosen.adapter, "swap": swap}

    def drop_adapter(self, active, reason):
        from continuon.adapter_record import roll_back_adapter

        roll_back_adapter(self.home.adapters, reason=reason, wall_ns=2)

    def leave_adapter(self, control):
        if self.refuses:
            raise self.refuses
        self.left += 1


class Trial:
    """Answers what the test says."""

    answer = None

    def __init__(self, *_given, **_named):
        self.starts = 1

    ticks = (3, 20)

    def look(self):
        return Trial.answer

    def start_over(self):
        self.starts += 1


def verdict(*misses):
    report = GateReport(bundle="b" * 64, ticks=20)
    return SimpleNamespace(passed=not misses, misses=misses, report=report)


LATE = Miss("missed_periods", 1, "at most 0")
VETOED = Miss("veto_fraction", 0.5, "at most 0.05")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setattr(adapter_keeper, "Trial", Trial)
    monkeypatch.setattr(
        adapter_keeper, "base_digests", lambda _slot: frozenset((BASE,))
    )
    monkeypatch.setattr(
        adapter_keeper, "adapter_facts", lambda _home, _software: {"adapter": 1}
    )
    Trial.answer = None
    home = Home(tmp_path)
    use = AdapterUse(adapter=1, sha256="1" * 64, base_sha256=BASE)
    write_record(home.adapters, AdapterRecord(use=use, below=(AdapterUse(),)))
    software = Software(home)
    control = SimpleNamespace(log=SimpleNamespace(count=5), alive=True)
    guard = SimpleNamespace(report=lambda: SimpleNamespace(trips=0))
    keeper = AdapterKeeper(home, software, control, guard, ManualClock())
    return SimpleNamespace(keeper=keeper, home=home, software=software, control=control)


def use_of(desk):
    return read_record(desk.home.adapters).use


@pytest.mark.req("R-ADAPTER-06")
def test_a_trial_that_passes_is_noted_and_the_adapter_stays(desk):
    assert desk.keeper.take()["trial"] == "begun"
    assert desk.keeper.busy
    desk.keeper.watch(IDLE)
    assert desk.keeper.status()["trial"] == {"ticks": 3, "soak_ticks": 20}
    Trial.answer = verdict()
    desk.keeper.watch(IDLE)
    assert use_of(desk).trial == "passed"
    assert not desk.keeper.busy
    assert desk.keeper.status()["last_trial"]["verdict"] == "passed"
    assert desk.keeper.take()["trial"] is None


@pytest.mark.req("R-ADAPTER-06")
def test_a_trial_that_fails_drops_the_adapter_from_record_and_loop(desk):
    desk.keeper.take()
    Trial.answer = verdict(VETOED)
    desk.keeper.watch(IDLE)
    record = read_record(desk.home.adapters)
    assert record.use.adapter is None
    assert "veto_fraction 0.5" in record.trail[-1].reason
    assert desk.software.left == 1
    assert desk.keeper.status()["last_trial"]["misses"] == [str(VETOED)]


@pytest.mark.req("R-ADAPTER-06")
def test_missed_periods_alone_get_one_second_chance(desk):
    desk.keeper.take()
    Trial.answer = verdict(LATE)
    desk.keeper.watch(IDLE)
    assert use_of(desk).adapter == 1
    desk.keeper.watch(IDLE)
    assert use_of(desk).adapter is None
    assert desk.keeper.status()["last_trial"]["second_chance"]
    desk.keeper.watch(IDLE)
    assert desk.software.left == 1


@pytest.mark.req("R-ADAPTER-06")
def test_while_a_person_drives_no_tick_counts(desk):
    assert BY_HAND.motion is Motion.TELEOP
    desk.keeper.take()
    trial = desk.keeper._trial
    Trial.answer = verdict()
    desk.keeper.watch(BY_HAND)
    assert (trial.starts, use_of(desk).trial) == (2, "due")
    desk.keeper.watch(IDLE)
    assert use_of(desk).trial == "passed"


@pytest.mark.req("R-ADAPTER-06")
def test_a_dead_loop_ends_the_trial_and_a_policy_that_stays_is_told(desk):
    desk.keeper.take()
    Trial.answer = verdict(VETOED)
    desk.software.refuses = TrustError("E-ROBOT-SWAP-001", "no")
    with pytest.raises(ContinuonError):
        desk.keeper.watch(IDLE)
    assert use_of(desk).adapter is None
    desk.keeper.watch(IDLE)


def settle(desk):
    desk.control.log.count = 1000
    desk.keeper.watch(IDLE)
    desk.keeper._taking.join(5.0)


@pytest.mark.req("R-ADAPTER-06")
def test_after_a_start_what_is_due_is_tried_once_the_loop_runs_and_idles(desk):
    desk.keeper.watch(IDLE)
    assert not desk.keeper.busy
    desk.control.log.count = 1000
    desk.keeper.watch(ModeState(mode=Mode.AUTONOMOUS, executing=True))
    assert not desk.keeper.busy
    settle(desk)
    assert desk.keeper._trial is not None


@pytest.mark.req("R-ADAPTER-06")
def test_after_a_start_a_trial_that_did_not_end_is_not_begun_again(desk):
    adapter_keeper.mark_trial(desk.home.adapters, 1, "begun")
    settle(desk)
    record = read_record(desk.home.adapters)
    assert (record.use.adapter, desk.keeper.busy) == (None, False)
    assert "did not end" in record.trail[-1].reason


@pytest.mark.req("R-ADAPTER-06")
def test_after_a_start_a_refusal_is_shown_and_stops_nothing(desk):
    desk.software.refuses = TrustError("E-ROBOT-SWAP-001", "it differs")
    settle(desk)
    assert desk.keeper.status()["last_trial"]["code"] == "E-ROBOT-SWAP-001"
    assert not desk.keeper.busy


@pytest.mark.req("R-ADAPTER-06")
def test_a_bundle_that_is_rolled_back_takes_the_trial_with_it(desk):
    desk.keeper.take()
    desk.keeper.forget()
    Trial.answer = verdict(VETOED)
    desk.keeper.watch(IDLE)
    assert use_of(desk).adapter == 1
