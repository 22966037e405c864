import os
import signal
import threading
from contextlib import contextmanager, suppress

import pytest

from continuon.clock import ManualClock, SystemClock
from continuon.errors import ContinuonError, ContractError
from continuon.home import Home
from continuon.rlds.episode import EndReason
from continuon.robot.bodies import Body, open_body
from continuon.robot.control_config import ControlConfig
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.modes import Actor, Mode, Request
from continuon.robot.recordings import Wish
from continuon.robot.supervisor import Supervisor

MS = 1_000_000
FAKES = "continuon._specs.robot.fakes"
pytestmark = pytest.mark.slow


def supervisor(folder, **more):
    rig = Factory(target=f"{FAKES}:LiveFakeRig")
    config = ControlConfig(
        rig=rig,
        limits=car_limits(),
        loader=f"{FAKES}:load_fake",
        fifo_priority=0,
        lock_memory=False,
        **more,
    )
    return Supervisor(Home(folder), open_body(rig), config)


@pytest.fixture
def robot(tmp_path):
    with supervisor(tmp_path, artifact_dir="gain-0.0") as robot:
        yield robot


def wait_for(condition):
    clock = SystemClock()
    deadline_ns = clock.monotonic_ns() + 10_000 * MS
    while not condition():
        assert clock.monotonic_ns() < deadline_ns, "nothing happened in 10 s"
        clock.sleep_until_ns(clock.monotonic_ns() + 5 * MS)


@pytest.mark.req("R-MODE-01", "R-MODE-03", "R-LATCH-03")
def test_a_robot_lives_drives_stops_and_remembers_its_stop(tmp_path):
    with supervisor(tmp_path, artifact_dir="gain-0.0") as robot:
        assert robot.keeper.state.mode is Mode.AUTONOMOUS
        assert not robot.guard.report().driving
        wait_for(lambda: robot.readiness().ready)
        robot.request(Request.START, Actor.PERSON)
        wait_for(lambda: robot.guard.report().driving)
        status = robot.status()
        assert status["executing"]
        assert status["control"]["active"]["serial"] == 1
        robot.request(Request.E_STOP, Actor.PERSON, reason="look out")
        wait_for(lambda: not robot.guard.report().driving)
        assert robot.guard.report().reason == "e_stop"
    with supervisor(tmp_path, artifact_dir="gain-0.0") as again:
        assert again.keeper.state.mode is Mode.E_STOP
        with pytest.raises(ContractError):
            again.request(Request.START, Actor.PERSON)
        again.request(Request.CLEAR, Actor.PERSON)
        again.request(Request.AUTONOMOUS, Actor.PERSON)
        again.request(Request.START, Actor.PERSON)
        wait_for(lambda: again.guard.report().driving)


def test_a_start_without_a_policy_leaves_the_robot_idle(tmp_path):
    with supervisor(tmp_path) as robot:
        with pytest.raises(ContinuonError) as caught:
            robot.request(Request.START, Actor.PERSON)
        assert caught.value.code == "E-ROBOT-CONTROL-002"
        assert not robot.keeper.state.executing
        robot.request(Request.MANUAL, Actor.PERSON)
        with pytest.raises(ContractError, match="E-ROBOT-TELEOP-001"):
            robot.teleop([0.0, 0.0], "human_teleop_xr")
        robot.request(Request.START, Actor.PERSON)
        robot.teleop([0.0, 0.1], "human_teleop_xr")
        wait_for(lambda: robot.guard.report().driving)
        wait_for(lambda: robot.control.events)
        robot.watch()
        assert not robot.keeper.state.executing


@contextmanager
def hands_on(robot):
    """Send a command 30 times a second, as a person's page does."""
    off = threading.Event()

    def drive():
        while not off.wait(0.033):
            with suppress(ContractError):
                robot.teleop([0.1, 0.2], "human_teleop_xr")

    thread = threading.Thread(target=drive)
    thread.start()
    yield
    off.set()
    thread.join()


@pytest.mark.req("R-RECORD-01", "R-RECORD-04", "R-RECORD-05")
def test_a_person_drives_and_records_and_the_file_is_judged(tmp_path):
    with supervisor(tmp_path) as robot:
        with hands_on(robot):
            robot.request(Request.TRAINING, Actor.PERSON)
            robot.request(Request.START, Actor.PERSON)
            begun = robot.begin_episode(Wish(task="drive", tags=("day",)))
            with pytest.raises(ContractError, match="E-ROBOT-TELEOP-002"):
                robot.teleop([0.1, 0.2], "human_supervisor")
            wait_for(lambda: robot.recordings.current()["frames"] >= 20)
            ended = robot.end_episode(EndReason.COMPLETE)
        assert ended["episode_id"] == begun["episode_id"]
        assert ended["summary"]["counts"]["rgb"] >= 20
        with pytest.raises(ContractError, match="E-ROBOT-RECORD-010"):
            robot.end_episode(EndReason.COMPLETE)
        wait_for(lambda: "verdict" in robot.episodes()[0])
        episode = robot.episodes()[0]
        assert (episode["task"], episode["end_reason"]) == ("drive", "complete")
        assert episode["verdict"]["figures"]["steps"] >= 20
        os.kill(robot.recordings.recorder.pid, signal.SIGKILL)
        wait_for(lambda: not robot.readiness().parts["recorder"])
        assert robot.readiness().safe
        robot.watch()
        wait_for(lambda: robot.readiness().ready)


def test_a_stop_that_nobody_asked_for_leaves_the_mode_idle_and_says_why(
    robot, monkeypatch
):
    told = []
    monkeypatch.setattr(
        robot.recordings,
        "motion_ended",
        lambda state, *, by_itself: told.append(by_itself),
    )
    for turn in range(3):
        # The loop tells of its newest 64 events only: their number says nothing.
        stop = {"event": "stopped", "reasons": ["stale_observation", "held_too_long"]}
        robot.request(Request.START, Actor.PERSON)
        assert "stopped_because" not in robot.status()
        robot.watch()
        assert robot.keeper.state.executing
        tick = robot.control.log.count + turn
        robot.control._called().events.extend([stop | {"tick": tick}] * 64)
        robot.watch()
        assert not robot.keeper.state.executing
        assert robot.status()["stopped_because"] == "the camera shows nothing new"
    robot.request(Request.START, Actor.PERSON)
    robot.request(Request.STOP, Actor.PERSON)
    assert told == [True, True, True, False]


def test_outputs_that_the_guard_stopped_are_not_called_executing(robot):
    robot.request(Request.START, Actor.PERSON)
    wait_for(lambda: robot.guard.report().driving)
    os.kill(robot.control.pid, signal.SIGSTOP)
    wait_for(lambda: not robot.guard.report().driving)
    os.kill(robot.control.pid, signal.SIGCONT)
    robot.watch()
    assert not robot.keeper.state.executing
    assert robot.status()["stopped_because"] == "the control loop fell silent"


def test_dead_parts_disarm_the_robot(robot):
    robot.request(Request.START, Actor.PERSON)
    wait_for(lambda: robot.guard.report().driving)
    os.kill(robot.control.pid, signal.SIGKILL)
    wait_for(lambda: not robot.control.alive)
    robot.watch()
    assert robot.keeper.state.mode is Mode.DISARMED
    assert not robot.readiness().ready
    wait_for(lambda: not robot.guard.report().driving)
    assert "control" not in robot.status()
    os.kill(robot.guard.pid, signal.SIGSTOP)
    robot.watch()
    assert robot.guard.alive
    robot.guard._clock = ManualClock(SystemClock().monotonic_ns() + 4_000 * MS)
    robot.watch()
    assert not robot.guard.alive
    assert not robot.readiness().parts["guard"]
    assert robot._stopped_without_guard


def test_a_body_that_does_not_come_up_leaves_nothing_behind(tmp_path):
    robot = supervisor(tmp_path, artifact_dir="wrong")
    with pytest.raises(ContinuonError) as caught:
        robot.start()
    assert caught.value.code == "E-ROBOT-SWAP-001"
    assert not robot.guard.alive
    assert not robot.control.alive


def test_only_known_words_name_a_body():
    from continuon.errors import UsageError

    with pytest.raises(UsageError, match="E-ROBOT-BODY-001"):
        open_body("tank")
    assert isinstance(open_body("pi"), Body)
    assert open_body("pi").microphone is None
    assert open_body("pi", microphone="plughw:1").microphone == "plughw:1"
