import errno
import os

import pytest

from continuon.clock import ManualClock
from continuon.errors import ContractError
from continuon.robot import latch as latch_module
from continuon.robot.keeper import ModeKeeper
from continuon.robot.latch import EStopLatch
from continuon.robot.modes import (
    Actor,
    Mode,
    ModeState,
    Motion,
    Request,
    advance,
    boot_state,
    mode_rules,
)


@pytest.fixture
def latch(tmp_path):
    return EStopLatch(tmp_path / "state" / "estop.json", ManualClock())


@pytest.mark.req("R-MODE-01")
def test_boot_is_autonomous_armed_but_idle():
    state = boot_state(latched=False)
    assert state == ModeState(mode=Mode.AUTONOMOUS, executing=False)
    assert state.motion is Motion.NONE


def test_every_mode_stands_in_the_table():
    assert set(mode_rules().facts) == set(Mode)


@pytest.mark.req("R-MODE-02")
def test_only_a_person_starts_motion():
    idle = boot_state(latched=False)
    assert advance(idle, Request.START, Actor.PERSON).motion is Motion.POLICY
    for actor in (Actor.SYSTEM, Actor.POLICY):
        with pytest.raises(ContractError, match="E-ROBOT-MODE-001"):
            advance(idle, Request.START, actor)


@pytest.mark.req("R-MODE-04")
def test_after_an_emergency_stop_a_person_clears_to_disarmed():
    stopped = advance(boot_state(latched=False), Request.E_STOP, Actor.POLICY)
    with pytest.raises(ContractError, match="a person clears"):
        advance(stopped, Request.AUTONOMOUS, Actor.PERSON)
    cleared = advance(stopped, Request.CLEAR, Actor.PERSON)
    assert cleared == ModeState(mode=Mode.DISARMED)


@pytest.mark.req("R-MODE-05")
def test_learning_asleep_is_refused_while_driving():
    driving = advance(boot_state(latched=False), Request.START, Actor.PERSON)
    with pytest.raises(ContractError, match="E-ROBOT-MODE-001"):
        advance(driving, Request.SLEEP, Actor.PERSON)


@pytest.mark.req("R-MODE-06")
def test_a_refusal_names_what_is_allowed():
    with pytest.raises(ContractError, match="allowed AUTONOMOUS, DISARM, E_STOP"):
        advance(ModeState(mode=Mode.DISARMED), Request.START, Actor.PERSON)


@pytest.mark.req("R-LATCH-03")
def test_a_restart_finds_the_emergency_stop_as_it_was(latch):
    keeper = ModeKeeper(latch)
    keeper.boot()
    keeper.request(Request.E_STOP, Actor.SYSTEM, reason="smoke")
    again = ModeKeeper(latch)
    assert again.boot().mode is Mode.E_STOP
    assert latch.read().reason == "smoke"
    again.request(Request.CLEAR, Actor.PERSON)
    assert ModeKeeper(latch).boot().mode is Mode.AUTONOMOUS


def test_before_it_booted_a_keeper_is_stopped(latch):
    assert ModeKeeper(latch).state.mode is Mode.E_STOP


@pytest.mark.req("R-LATCH-02")
@pytest.mark.parametrize(
    "damage",
    [b"", b"{}", b"00000000 {}\n", b"\xff\xfe", b'deadbeef {"latched":false}'],
)
def test_a_record_that_makes_no_sense_is_a_set_latch(latch, damage):
    latch.prepare()
    latch.path.write_bytes(damage)
    assert latch.read().latched


@pytest.mark.req("R-LATCH-02")
def test_a_record_that_cannot_be_read_is_a_set_latch(latch):
    latch.path.mkdir(parents=True)
    assert latch.read().latched


def test_a_robot_that_was_never_stopped_has_no_latch(latch):
    assert not latch.read().latched
    latch.prepare()
    assert not latch.read().latched


@pytest.mark.req("R-LATCH-01")
def test_the_latch_is_synced_before_and_after_it_gets_its_name(latch, monkeypatch):
    calls = []
    real_fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (calls.append(latch.path.exists()), real_fsync(fd))
    )
    latch.engage(reason="test", actor=Actor.PERSON)
    assert calls == [False, True]


@pytest.mark.req("R-LATCH-04")
def test_a_full_disk_still_leaves_the_latch_set(latch, monkeypatch):
    latch.prepare()

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(latch_module, "replace_file", full)
    latch.engage(reason="test", actor=Actor.PERSON)
    assert latch.read().latched


def test_software_never_clears_the_latch(latch):
    latch.engage(reason="test", actor=Actor.PERSON)
    with pytest.raises(ContractError, match="E-ROBOT-LATCH-001"):
        latch.clear(reason="", actor=Actor.SYSTEM)
    assert latch.read().latched


def test_motion_is_told_to_stop_before_the_latch_is_written(latch):
    seen = []
    keeper = ModeKeeper(
        latch, lambda state: seen.append((state.mode, latch.read().latched))
    )
    keeper.boot()
    keeper.request(Request.E_STOP, Actor.PERSON)
    assert seen[-1] == (Mode.E_STOP, False)
    assert latch.read().latched


@pytest.mark.req("R-LATCH-01")
def test_the_latch_is_set_even_if_telling_the_loop_fails(latch):
    def broken(state):
        if state.mode is Mode.E_STOP:
            raise BrokenPipeError

    keeper = ModeKeeper(latch, broken)
    keeper.boot()
    with pytest.raises(BrokenPipeError):
        keeper.request(Request.E_STOP, Actor.PERSON)
    assert latch.read().latched
    assert keeper.state.mode is Mode.E_STOP
