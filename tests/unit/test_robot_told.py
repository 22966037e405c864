"""What the robot is told, over a whole robot: set, recorded, changed, taken back."""

import pytest

from continuon.cli.robot import instruct
from continuon.clock import SystemClock
from continuon.errors import ContinuonError, ContractError
from continuon.home import Home
from continuon.rlds.episode import EndReason
from continuon.rlds.plan_steps import plan_of
from continuon.rlds.recording import open_recording
from continuon.robot.bodies import open_body
from continuon.robot.control_config import ControlConfig
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.modes import Actor, Motion, Request
from continuon.robot.recordings import Wish
from continuon.robot.supervisor import Supervisor
from continuon.robot.told import Told

MS = 1_000_000
FAKES = "continuon._specs.robot.fakes"
LEFT, RIGHT = "turn left", "go right"


class Desk:
    """A loop and a recorder made of values; what happened stands in `done`."""

    def __init__(self, *, needs=True, motion=Motion.POLICY):
        self.done, self.told, self.needs = [], "", needs
        self.motion = motion
        self.current = self.source = None
        self.deaf = self.full = False

    def status(self):
        return {"instruction": self.told, "needs_instruction": self.needs}

    def instruct(self, text):
        self.told = text
        self.done.append(("told", text))
        return 7

    def begin(self, state, wish):
        if self.full:
            raise ContractError("E-ROBOT-RECORD-005", "the disk is full")
        self.done.append(("begin", wish.task))
        self.current, self.source = f"of {wish.task}", "vla_policy"
        return {"episode_id": self.current}

    def end(self, reason, *, wait_s=0.0):
        if self.current is None:
            return None
        ended = self.current
        if not self.deaf:
            self.done.append(("end", reason))
            self.current = self.source = None
        return {"episode_id": ended}


def told_of(desk):
    return Told(desk, desk, lambda: desk)


@pytest.mark.req("R-SENSE-06")
def test_another_instruction_ends_the_episode_before_it_counts_and_begins_the_next():
    desk = Desk()
    told = told_of(desk)
    told.instruct(LEFT)
    told.begin(Wish(task=LEFT, tags=("day",)))
    assert told.instruct(LEFT) == {"instruction": LEFT, "tick": 7}
    answer = told.instruct(RIGHT)
    assert answer == {
        "ended": f"of {LEFT}",
        "instruction": RIGHT,
        "tick": 7,
        "begun": f"of {RIGHT}",
    }
    assert desk.done[-3:] == [
        ("end", EndReason.STOPPED),
        ("told", RIGHT),
        ("begin", RIGHT),
    ]
    assert told.instruct("")["ended"] == f"of {RIGHT}"
    assert desk.done[-1] == ("told", "")
    assert told.instruct(LEFT) == {"instruction": LEFT, "tick": 7}


@pytest.mark.req("R-SENSE-06")
def test_an_episode_never_says_what_the_policy_was_not_told():
    desk = Desk()
    told = told_of(desk)
    told.instruct(LEFT)
    with pytest.raises(ContractError, match="E-ROBOT-RECORD-011") as caught:
        told.begin(Wish(task=RIGHT))
    assert caught.value.allowed == LEFT
    assert ("begin", RIGHT) not in desk.done
    told.begin(Wish(task=LEFT))
    desk.deaf = True
    with pytest.raises(ContinuonError, match="E-ROBOT-RECORD-012"):
        told.instruct(RIGHT)
    assert desk.told == LEFT
    desk.deaf, desk.full = False, True
    answer = told.instruct(RIGHT)
    assert answer["not_recorded"]["code"] == "E-ROBOT-RECORD-005"
    assert desk.told == RIGHT


@pytest.mark.parametrize(
    "desk", [Desk(needs=False), Desk(motion=Motion.TELEOP)], ids=["deaf", "by hand"]
)
def test_what_a_person_says_of_an_episode_is_theirs_where_no_policy_listens(desk):
    told = told_of(desk)
    told.begin(Wish(task=RIGHT))
    assert told.instruct(LEFT) == {"instruction": LEFT, "tick": 7}
    assert told.end(EndReason.COMPLETE)["episode_id"] == f"of {RIGHT}"
    with pytest.raises(ContractError, match="E-ROBOT-RECORD-010"):
        told.end(EndReason.COMPLETE)


def wait_for(condition):
    clock = SystemClock()
    deadline_ns = clock.monotonic_ns() + 20_000 * MS
    while not condition():
        assert clock.monotonic_ns() < deadline_ns, "nothing happened in 20 s"
        clock.sleep_until_ns(clock.monotonic_ns() + 5 * MS)


@pytest.mark.slow
@pytest.mark.req("R-SENSE-03", "R-SENSE-06")
def test_each_step_on_disk_says_what_the_policy_was_told_at_its_time(tmp_path):
    rig = Factory(target=f"{FAKES}:LiveFakeRig")
    config = ControlConfig(
        rig=rig,
        limits=car_limits(),
        loader=f"{FAKES}:load_fake",
        fifo_priority=0,
        lock_memory=False,
        artifact_dir="sensing",
    )
    with Supervisor(Home(tmp_path), open_body(rig), config) as robot:
        wait_for(lambda: robot.readiness().ready)
        with pytest.raises(ContinuonError, match="E-ROBOT-POLICY-006"):
            robot.request(Request.START, Actor.PERSON)
        assert not robot.keeper.state.executing
        robot.instruct(LEFT)
        assert robot.status()["instruction"] == LEFT
        robot.request(Request.START, Actor.PERSON)
        wait_for(lambda: robot.guard.report().driving)
        robot.begin_episode(Wish(task=LEFT))
        wait_for(lambda: robot.recordings.current()["frames"] >= 10)
        answer = robot.instruct(RIGHT)
        assert "not_recorded" not in answer
        wait_for(lambda: robot.recordings.current()["frames"] >= 10)
        assert robot.end_episode(EndReason.COMPLETE)["episode_id"] == answer["begun"]
        robot.instruct("")
        wait_for(lambda: robot.control.events)
        robot.watch()
        assert not robot.keeper.state.executing
        assert "what to do" in robot.status()["stopped_because"]
    told = {}
    for path in sorted((tmp_path / "rlds" / "episodes").glob("*.mcap")):
        with open_recording(path) as recording:
            steps = plan_of(recording)[0].steps
        told[path.stem] = {step.language_instruction for step in steps}
        assert len(steps) >= 8
    assert told == {answer["ended"]: {LEFT}, answer["begun"]: {RIGHT}}


def test_words_that_are_none_never_reach_a_robot(tmp_path):
    with pytest.raises(ContractError, match="E-TEXT-002"):
        instruct("left\nright", home=tmp_path)
    with pytest.raises(ContinuonError, match="E-ROBOT-CLIENT-001"):
        instruct("left", home=tmp_path)
