"""Whatever a client sends, no servo leaves its limits and the loop goes on."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon._specs.robot.fakes import FakeRig, FakeServos
from continuon.clock import ManualClock
from continuon.errors import ContractError
from continuon.rig.calibration import CarCalibration
from continuon.rlds.episode import ActionSource
from continuon.robot.board import Board
from continuon.robot.channel import channel_pair
from continuon.robot.control_config import ControlConfig
from continuon.robot.control_process import ControlProcess
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.feed import Feed
from continuon.robot.feed_facts import facts_of
from continuon.robot.guard import Guard
from continuon.robot.guard_rules import GuardLimits
from continuon.robot.modes import Mode, ModeState, Motion
from continuon.robot.realtime import Grants
from continuon.robot.ticklog import TickLog
from continuon.robot.token_store import TokenStore

testclient = pytest.importorskip("starlette.testclient")

MS = 1_000_000
CALIBRATION = CarCalibration()
LIMITS = car_limits()


class LimitedServos(FakeServos):
    """Outputs that fail the test where a pulse leaves its channel's limits."""

    def set_pulses_us(self, pulses_us):
        for channel, us in pulses_us.items():
            low, high = CALIBRATION.limits_us[channel]
            assert low <= us <= high, (channel, us)
        super().set_pulses_us(pulses_us)


class Robot:
    """The real loop and guard behind a real API, on a hand-moved clock."""

    def __init__(self, folder):
        self.rig = FakeRig()
        self.clock = self.rig.clock
        self.board = Board.create(folder / "board")
        self.log = TickLog.create(folder / "ticks", 1000)
        facts = facts_of(self.rig, LIMITS.names, 50.0)
        self.feed = Feed.create(folder / "feed", facts, frame_slots=4)
        self.mine, self.theirs = channel_pair()
        self.process = ControlProcess(
            ControlConfig(rig=Factory(target="x:y"), limits=LIMITS),
            self.rig,
            board=self.board,
            log=self.log,
            channel=self.theirs,
            feed=self.feed,
            grants=Grants(fifo=False, memory_locked=False),
        )
        self.servos = LimitedServos()
        self.guard_itself = Guard(self.servos, self.board, self.clock, GuardLimits())
        self.state = ModeState(mode=Mode.MANUAL)
        self.epoch = 0
        self.before = LIMITS.neutral
        self.start()

    def start(self):
        from continuon.robot.board import Permit

        self.epoch += 1
        permit = Permit(epoch=self.epoch, allowed=True, e_stop=False)
        self.board.write_permit(permit)
        message = {"do": "start", "motion": "teleop", "epoch": self.epoch}
        self.mine.send(message)
        self.state = ModeState(mode=Mode.MANUAL, executing=True)

    def teleop(self, action, source):
        if self.state.motion is not Motion.TELEOP:
            raise ContractError("E-ROBOT-TELEOP-001", "not by hand")
        self.mine.send({"do": "teleop", "action": list(action), "source": source})

    def tick(self):
        self.clock.advance_ns(20 * MS)
        assert self.process.step(self.clock.monotonic_ns(), 0), "the loop ended"
        self.guard_itself.poll()
        command = self.process._loop.last_command
        assert all(
            low - 1e-6 <= value <= high + 1e-6
            for low, value, high in zip(LIMITS.low, command, LIMITS.high, strict=True)
        )
        if self.process._loop.executing:
            reach = [rate * 0.04 + 1e-5 for rate in LIMITS.max_rate_per_s]
            moves = zip(command, self.before, reach, strict=True)
            assert all(abs(now - was) <= most for now, was, most in moves)
        else:
            self.start()
        self.before = command

    def close(self):
        self.mine.close()
        self.theirs.close()
        self.board.close()
        self.log.close()
        self.feed.close()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
numbers = (
    st.floats()
    | st.integers(-(10**400), 10**400)
    | st.sampled_from([1e308, -1e308, 3.5e38, -0.0, 5e-324])
)
sources = st.sampled_from([source.value for source in ActionSource]) | st.text(
    max_size=12
)
frames = st.fixed_dictionaries(
    {"action": st.lists(numbers, max_size=4) | anything, "source": sources | anything},
    optional={"do": anything, "id": st.integers(), "epoch": st.integers()},
).map(json.dumps)
legal = st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).map(
    lambda action: json.dumps({"action": action, "source": "human_teleop_xr"})
)
texts = legal | frames | anything.map(json.dumps) | st.text(max_size=200)
messages = texts | st.binary(max_size=200)


@pytest.mark.law
@pytest.mark.slow
@pytest.mark.req("R-FUZZ-01")
@settings(max_examples=40)
@given(st.lists(messages, min_size=1, max_size=12))
def test_no_frame_moves_a_servo_outside_its_limits_or_ends_the_loop(sent):
    from continuon.robot.api import Api

    with tempfile.TemporaryDirectory() as name:
        robot = Robot(Path(name))
        tokens = TokenStore(Path(name) / "tokens.json", ManualClock())
        tokens.load()
        client = testclient.TestClient(
            Api(robot, tokens).application(),
            base_url="http://localhost",
            client=("127.0.0.1", 50_000),
            headers={"host": "localhost"},
        )
        try:
            for message in sent:
                with client.websocket_connect("/teleop") as socket:
                    if isinstance(message, bytes):
                        socket.send_bytes(message)
                        assert socket.receive()["type"] == "websocket.close"
                    else:
                        socket.send_text(message)
                        assert {"taken", "code"} & socket.receive_json().keys()
                robot.tick()
            for _ in range(3):
                robot.tick()
            assert robot.log.count == 0
            assert robot.board.read_command().tick == len(sent) + 3
        finally:
            robot.close()
