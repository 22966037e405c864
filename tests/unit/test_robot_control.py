import os
import signal
import threading

import attrs
import msgspec
import pytest

from continuon._specs.robot.fakes import FakeRig
from continuon.errors import ContinuonError, HardwareError, TrustError, UsageError
from continuon.robot.board import Board
from continuon.robot.channel import channel_pair
from continuon.robot.control_config import ControlConfig
from continuon.robot.control_process import ControlProcess
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.feed import Feed
from continuon.robot.feed_facts import facts_of
from continuon.robot.loop import run_periodic
from continuon.robot.policies import load_checked
from continuon.robot.realtime import Grants
from continuon.robot.swapper import Swapper
from continuon.robot.ticklog import SWAPPED, TickLog
from continuon.robot.timing import timing_report

FAKES = "continuon._specs.robot.fakes"
LOADER = f"{FAKES}:load_fake"
MS = 1_000_000


def config(**more):
    rig = Factory(target=f"{FAKES}:FakeRig")
    return ControlConfig(rig=rig, limits=car_limits(), loader=LOADER, **more)


class Bench:
    """A control process in this process, on a hand-moved clock."""

    def __init__(self, folder, rig, settings):
        self.rig = rig
        self.board = Board.create(folder / "board")
        self.log = TickLog.create(folder / "ticks", 1000)
        facts = facts_of(rig, settings.limits.names, settings.rate_hz)
        self.feed = Feed.create(folder / "feed", facts, frame_slots=4)
        self.mine, theirs = channel_pair()
        self.process = ControlProcess(
            settings,
            rig,
            board=self.board,
            log=self.log,
            channel=theirs,
            feed=self.feed,
            grants=Grants(fifo=False, memory_locked=False),
        )
        self.theirs = theirs
        self.ids = 0

    def ticks(self, count):
        left = [count]

        def step(now_ns, late_ns):
            left[0] -= 1
            return self.process.step(now_ns, late_ns) and left[0] > 0

        run_periodic(
            step,
            clock=self.rig.clock,
            period_ns=20 * MS,
            on_done=self.process.done,
        )

    def ask(self, do, *, ticks=1, **more):
        self.ids += 1
        self.mine.send({"id": self.ids, "do": do, **more})
        self.ticks(ticks)
        return self.mine.poll()

    def swap(self, name, **more):
        self.ids += 1
        message = {"id": self.ids, "do": "swap", "backend": "litert", **more}
        self.mine.send(message | {"artifact_dir": name})
        answer = None
        while answer is None:
            self.ticks(1)
            for thread in threading.enumerate():
                if thread.name == "swap":
                    thread.join()
            answer = self.mine.poll()
        return answer

    def close(self):
        self.mine.close()
        self.theirs.close()
        self.board.close()
        self.log.close()
        self.feed.close()


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path, FakeRig(), config())
    bench.process.begin_with("gain-0.01", "litert")
    yield bench
    bench.close()


def test_settings_cross_the_process_border_unchanged():
    settings = config(preload=("json",), artifact_dir="x")
    assert ControlConfig.from_message(settings.as_message()) == settings


def test_it_starts_idle_and_beats(bench):
    bench.ticks(3)
    command = bench.board.read_command()
    assert not command.enabled
    assert command.heartbeat_ns == bench.rig.clock.monotonic_ns()
    assert command.tick == 3


def test_a_start_drives_in_the_epoch_that_was_permitted(bench):
    assert "tick" in bench.ask("start", motion="policy", epoch=4, ticks=5)
    command = bench.board.read_command()
    assert command.enabled
    assert command.epoch == 4
    assert command.pulses_us[0] > 1500.0
    bench.ask("stop")
    assert not bench.board.read_command().enabled


def test_without_a_policy_there_is_nothing_to_start(tmp_path):
    bench = Bench(tmp_path, FakeRig(), config())
    answer = bench.ask("start", motion="policy", epoch=1)
    assert answer["error"]["code"] == "E-ROBOT-CONTROL-002"
    assert not bench.board.read_command().enabled
    bench.close()


def test_a_person_drives_without_any_policy(tmp_path):
    bench = Bench(tmp_path, FakeRig(), config())
    bench.ask("start", motion="teleop", epoch=1)
    bench.mine.send({"do": "teleop", "action": [1.0, 0.1], "source": "human_teleop_xr"})
    bench.ticks(5)
    assert bench.board.read_command().pulses_us[1] > 1900.0
    bench.ticks(40)
    assert bench.mine.poll()["event"] == "stopped"
    assert not bench.board.read_command().enabled
    bench.close()


@pytest.mark.parametrize(
    "message",
    [
        {"do": "dance"},
        {},
        {"do": "start", "motion": "none", "epoch": 1},
    ],
)
def test_a_message_that_makes_no_sense_is_answered_with_a_code(bench, message):
    bench.mine.send({"id": 1, **message})
    bench.ticks(1)
    assert bench.mine.poll()["error"]["code"].startswith("E-ROBOT-CONTROL-")
    assert not bench.board.read_command().enabled


@pytest.mark.req("R-SWAP-02", "R-SWAP-03")
def test_a_swap_is_marked_at_its_tick_and_can_be_taken_back(bench):
    bench.ask("start", motion="policy", epoch=1, ticks=10)
    swap = bench.swap("gain-0.02")["swap"]
    assert swap["model"]["serial"] == 2
    assert swap["previous"]["serial"] == 1
    bench.ticks(10)
    back = bench.ask("swap_back")["swap"]
    assert back["model"]["serial"] == 1
    rows = bench.log.rows()
    assert rows["policy"][swap["tick"] - 1] == 1
    assert rows["policy"][swap["tick"]] == 2
    assert rows["policy"][back["tick"]] == 1
    marked = (rows["flags"] & SWAPPED).nonzero()[0].tolist()
    assert marked == [swap["tick"], back["tick"]]
    assert bench.board.read_command().enabled


@pytest.mark.req("R-SWAP-01")
@pytest.mark.parametrize(
    ("name", "code"),
    [("wrong", "E-ROBOT-SWAP-001"), ("broken", "E-ROBOT-SWAP-005")],
)
def test_a_policy_that_may_not_drive_leaves_the_old_one_driving(bench, name, code):
    bench.ask("start", motion="policy", epoch=1, ticks=5)
    assert bench.swap(name)["error"]["code"] == code
    bench.ticks(5)
    assert set(bench.log.rows()["policy"]) == {1}
    assert bench.board.read_command().enabled


@pytest.mark.req("R-KERNEL-03", "R-SWAP-03")
def test_a_bundles_own_limits_hold_from_its_first_tick_until_it_leaves(bench):
    tight = attrs.evolve(car_limits(), high=(0.02, 0.01))
    bench.ask("start", motion="policy", epoch=1, ticks=10)
    bench.swap("gain-0.05", limits=msgspec.to_builtins(tight))
    bench.ticks(10)
    assert bench.process._loop.last_command == pytest.approx((0.02, 0.01))
    bench.ask("swap_back", ticks=10)
    assert bench.process._loop.last_command[1] == pytest.approx(0.1)


def test_going_back_needs_somewhere_to_go(bench):
    assert bench.ask("swap_back")["error"]["code"] == "E-ROBOT-SWAP-004"


@pytest.mark.parametrize("name", ["raises", "nan"])
def test_a_policy_that_turns_bad_is_held_then_stopped(bench, name):
    bench.swap(name)
    bench.ask("start", motion="policy", epoch=1, ticks=60)
    event = bench.mine.poll()
    assert event["event"] == "stopped"
    report = timing_report(bench.log.rows(), period_ns=20 * MS)
    assert report.verdicts["held"] > 0
    assert report.verdicts["stop"] >= 1
    assert report.policy_failures + report.non_finite > 0
    assert not bench.board.read_command().enabled


def test_an_unplugged_camera_stops_the_robot_and_not_the_loop(tmp_path):
    bench = Bench(tmp_path, FakeRig(dies_after_s=0.3), config())
    bench.process.begin_with("gain-0.01", "litert")
    bench.ask("start", motion="policy", epoch=1, ticks=80)
    assert "stale_observation" in bench.mine.poll()["reasons"]
    status = bench.ask("status")["status"]
    assert status["camera_failures"] > 0
    assert "E-RIG-CAM-001" in status["last_camera_failure"]
    assert not status["executing"]
    bench.close()


def test_when_nobody_is_at_the_other_end_it_stops(bench):
    bench.ask("start", motion="policy", epoch=1, ticks=3)
    bench.mine.shut()
    bench.ticks(5)
    assert not bench.board.read_command().enabled
    assert bench.process._running is False


@pytest.mark.req("R-SWAP-01")
def test_a_golden_error_that_is_no_number_is_a_refusal():
    class Report:
        ok, max_abs_error, tolerance = True, float("nan"), 1.0

    from continuon._specs.robot.fakes import FakePolicy

    with pytest.raises(TrustError, match="E-ROBOT-SWAP-001"):
        load_checked(
            lambda *_: (FakePolicy(), lambda _: Report),
            "d",
            "b",
            serial=1,
            action_count=2,
        )
    with pytest.raises(ContinuonError, match="E-ROBOT-SWAP-002"):
        load_checked(
            lambda *_: (FakePolicy(), None), "d", "b", serial=1, action_count=3
        )


def test_preparing_rests_three_times_as_long_as_it_works():
    from continuon._specs.robot.fakes import FakePolicy, Golden

    rests = []

    def golden(policy):
        for _ in range(3):
            policy.step(None, None)
        return Golden()

    load_checked(
        lambda *_: (FakePolicy(), golden),
        "d",
        "b",
        serial=1,
        action_count=2,
        rest_s=rests.append,
    )
    assert len(rests) == 8
    assert all(0 < rest <= 0.02 for rest in rests)


def test_one_swap_at_a_time():
    begun, go_on = threading.Event(), threading.Event()

    def prepare(*_facts):
        begun.set()
        go_on.wait(5)
        raise UsageError("E-TEST-001", "no")

    swapper = Swapper(prepare)
    swapper.request(1, "a", "litert")
    begun.wait(5)
    with pytest.raises(UsageError, match="E-ROBOT-SWAP-003"):
        swapper.request(2, "b", "litert")
    with pytest.raises(UsageError, match="E-ROBOT-SWAP-003"):
        swapper.request_back(3)
    assert swapper.take() is None
    go_on.set()
    swapper._thread.join()
    assert swapper.take().error["code"] == "E-TEST-001"


@pytest.fixture
def guarded(tmp_path):
    from continuon.robot.control import ControlHandle
    from continuon.robot.guard_handle import GuardHandle

    servos = Factory(target=f"{FAKES}:FakeServos")
    settings = ControlConfig(
        rig=Factory(target=f"{FAKES}:LiveFakeRig"),
        limits=car_limits(),
        loader=LOADER,
        artifact_dir="gain-0.0",
        fifo_priority=0,
        lock_memory=False,
    )
    with GuardHandle(servos) as guard, ControlHandle(settings, guard) as control:
        yield guard, control


@pytest.mark.slow
def test_processes_drive_swap_stop_and_are_stopped_when_they_die(guarded):
    from continuon.clock import SystemClock

    clock = SystemClock()
    guard, control = guarded
    control.start_executing()
    wait_until(lambda: guard.report().driving, clock)
    swap = control.swap("gain-0.0005", "numpy")
    assert swap.previous["serial"] == 1
    with pytest.raises(ContinuonError) as caught:
        control.swap("wrong", "numpy")
    assert caught.value.code == "E-ROBOT-SWAP-001"
    assert control.swap_back().model["serial"] == 1
    assert control.status()["executing"]
    control.stop_executing()
    wait_until(lambda: not guard.report().driving, clock)
    assert control.timing().swap_ticks[0] == swap.tick
    control.start_executing()
    wait_until(lambda: guard.report().driving, clock)
    os.kill(control.pid, signal.SIGKILL)
    wait_until(lambda: not guard.report().driving, clock)
    assert guard.report().reason == "stale_heartbeat"
    assert guard.report().trips == 1
    with pytest.raises(HardwareError, match="E-ROBOT-CONTROL-004"):
        control.status()
    assert control.log.count > 0


def wait_until(condition, clock):
    deadline_ns = clock.monotonic_ns() + 10_000 * MS
    while not condition():
        assert clock.monotonic_ns() < deadline_ns, "nothing happened in 10 s"
        clock.sleep_until_ns(clock.monotonic_ns() + 5 * MS)
