import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from continuon.clock import ManualClock
from continuon.errors import ContractError
from continuon.robot.keeper import ModeKeeper
from continuon.robot.latch import EStopLatch
from continuon.robot.modes import Actor, Mode, Motion, Request

pytestmark = [
    pytest.mark.law,
    pytest.mark.req("R-MODE-01", "R-MODE-02", "R-MODE-03", "R-MODE-04", "R-LATCH-03"),
]


class RobotLife(RuleBasedStateMachine):
    """Any requests, with crashes and damage to the record in between."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "estop.json"
        self.latch = EStopLatch(path, ManualClock())
        self.latch.prepare()
        self.keeper = ModeKeeper(self.latch)
        self.must_stand = False
        self.started = False

    @rule()
    def boot_or_crash_and_restart(self):
        self.keeper = ModeKeeper(self.latch)
        assert self.keeper.state.motion is Motion.NONE
        state = self.keeper.boot()
        assert state.motion is Motion.NONE
        assert (state.mode is Mode.E_STOP) == self.must_stand
        self.started = False

    @rule(cut=st.integers(0, 30))
    def power_cut_damages_the_record(self, cut):
        data = self.latch.path.read_bytes()
        self.latch.path.write_bytes(data[:cut])
        self.must_stand = True

    @rule(request=st.sampled_from(Request), actor=st.sampled_from(Actor))
    def request(self, request, actor):
        before = self.keeper.state
        try:
            after = self.keeper.request(request, actor)
        except ContractError:
            assert self.keeper.state == before
            return
        if request is Request.E_STOP:
            self.must_stand = True
        if request is Request.CLEAR:
            assert actor is Actor.PERSON
            self.must_stand = False
        self.started = request is Request.START
        if self.started:
            assert actor is Actor.PERSON
        assert before.mode is not Mode.E_STOP or request in (
            Request.CLEAR,
            Request.E_STOP,
        )
        assert not after.executing or request is Request.START

    @invariant()
    def nothing_moves_that_no_person_started(self):
        state = self.keeper.state
        assert state.executing <= self.started
        if state.mode in (Mode.E_STOP, Mode.DISARMED, Mode.SLEEP_LEARNING):
            assert state.motion is Motion.NONE

    def teardown(self):
        self.folder.cleanup()


TestRobotLife = RobotLife.TestCase
TestRobotLife.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None
)
