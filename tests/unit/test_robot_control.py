import os
import signal
import socket

import attrs
import msgspec
import numpy as np
import pytest

from continuon._specs.robot.bench import CHARGED, FAKES, LOADER, MS, Bench, config
from continuon._specs.robot.fakes import FakeRig
from continuon.bundle import HealthGate
from continuon.errors import (
    ContinuonError,
    ContractError,
    HardwareError,
    TrustError,
    UsageError,
)
from continuon.robot.control_config import ControlConfig
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.policies import load_checked
from continuon.robot.remote_policy import ANSWER, RemotePolicy, RemoteSpec
from continuon.robot.shadow import ShadowRule
from continuon.robot.ticklog import SWAPPED
from continuon.robot.timing import timing_report


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


@pytest.mark.req("R-POWER-01", "R-POWER-03")
def test_a_low_battery_stops_a_policy_and_no_person(bench):
    low = attrs.evolve(CHARGED, volts=6.0, capture_ns=CHARGED.capture_ns + 1)
    bench.ask("start", motion="policy", epoch=1, ticks=5)
    bench.board.write_supply(low)
    bench.ticks(2)
    assert bench.mine.poll()["reasons"] == ["battery_critical"]
    assert not bench.board.read_command().enabled
    refused = bench.ask("start", motion="policy", epoch=2)
    assert refused["error"]["code"] == "E-ROBOT-POWER-001"
    assert not bench.board.read_command().enabled
    bench.ask("start", motion="teleop", epoch=3)
    bench.mine.send({"do": "teleop", "action": [0.1, 0.1], "source": "human_teleop_xr"})
    bench.ticks(3)
    assert bench.board.read_command().enabled


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


def test_one_swap_at_a_time(bench):
    offer = bench.hosts.offer("gain-0.02")
    swapper = bench.process.swapper
    swapper.request(1, offer, rule=ShadowRule(frames=5))
    for call in (lambda: swapper.request(2, offer), lambda: swapper.request_back(3)):
        with pytest.raises(UsageError, match="E-ROBOT-SWAP-003"):
            call()
    assert swapper.take() is None


@pytest.mark.req("R-SWAP-04")
def test_a_candidate_thinks_along_before_it_drives_and_takes_its_state_with_it(bench):
    bench.ask("start", motion="policy", epoch=1, ticks=10)
    rule = msgspec.to_builtins(ShadowRule(frames=10))
    swap = bench.swap("gain-0.02", shadow=rule)["swap"]
    shadow = swap["shadow"]
    assert (shadow["frames"], shadow["answered"], shadow["non_finite"]) == (10, 10, 0)
    assert 0 < shadow["mean_divergence"] < shadow["max_divergence"] < 1
    rows = bench.log.rows()
    assert set(rows["policy"][: swap["tick"]]) == {1}
    bench.ticks(4)
    wanted = bench.process._loop.last_command[0]
    assert wanted >= 0.02 * 10
    assert bench.board.read_command().enabled


@pytest.mark.req("R-SWAP-04")
@pytest.mark.parametrize(
    ("name", "rule", "code"),
    [
        ("gain-0.05", ShadowRule(frames=10, max_mean_divergence=0.01), "SWAP-006"),
        ("nan", ShadowRule(frames=10, min_answered_fraction=0.0), "SWAP-006"),
        ("raises", ShadowRule(frames=10), "POLICY-002"),
        ("runaway", ShadowRule(), "SWAP-006"),
        ("jerk", ShadowRule(), "SWAP-006"),
    ],
)
def test_a_candidate_that_wants_something_else_never_drives(bench, name, rule, code):
    bench.ask("start", motion="policy", epoch=1, ticks=10)
    answer = bench.swap(name, shadow=msgspec.to_builtins(rule))
    assert answer["error"]["code"] == f"E-ROBOT-{code}"
    bench.ticks(5)
    assert set(bench.log.rows()["policy"]) == {1}
    assert bench.board.read_command().enabled
    assert bench.swap("gain-0.01")["swap"]["model"]["serial"] == 3


@pytest.mark.req("R-SWAP-04")
def test_the_bound_is_the_bundles_own_and_finds_what_a_mean_of_means_would_not():
    gate = HealthGate(
        golden_max_error=1.0, latency_p99_ms=1.0, soak_ticks=1, timeout_s=1.0,
        max_veto_fraction=0.0, max_shadow_mean=0.1, max_shadow_peak=0.5,
    )  # fmt: skip
    rule = ShadowRule.of(gate)
    assert (rule.max_mean_divergence, rule.max_divergence) == (0.1, 0.5)
    default = ShadowRule.of(
        attrs.evolve(gate, max_shadow_mean=0.3, max_shadow_peak=1.0)
    )
    assert default == ShadowRule()


@pytest.mark.req("R-SWAP-04")
def test_without_frames_to_compare_nothing_takes_over(tmp_path):
    bench = Bench(tmp_path, FakeRig(freezes_after_s=0.2), config())
    bench.process.begin_with("gain-0.01", "litert")
    bench.ticks(30)
    rule = msgspec.to_builtins(ShadowRule(frames=5))
    answer = bench.swap("gain-0.01", shadow=rule)
    assert answer["error"]["code"] == "E-ROBOT-SWAP-007"
    bench.close()


@pytest.mark.req("R-SWAP-05")
def test_a_policy_whose_process_dies_or_hangs_is_one_that_says_nothing(bench):
    bench.swap("gain-0.01")
    bench.ask("start", motion="policy", epoch=1, ticks=10)
    bench.hosts.links[-1].shutdown(socket.SHUT_RDWR)
    bench.ticks(60)
    assert bench.mine.poll()["event"] == "stopped"
    status = bench.ask("status")["status"]
    assert "E-ROBOT-POLICY-002" in status["last_policy_failure"]
    assert not bench.board.read_command().enabled


@pytest.mark.req("R-SWAP-03", "R-SWAP-05")
def test_two_policies_stay_resident_and_the_one_before_them_is_let_go(bench):
    for name in ("gain-0.01", "gain-0.02", "gain-0.03"):
        bench.swap(name)
    gone, *resident = bench.hosts.threads
    gone.join(10)
    assert not gone.is_alive()
    assert all(thread.is_alive() for thread in resident)
    assert bench.ask("swap_back")["swap"]["model"]["artifact_dir"] == "gain-0.02"


@pytest.mark.req("R-SWAP-05")
def test_an_answer_that_is_late_is_not_taken_for_the_next_one():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    spec = RemoteSpec(image_height=0, image_width=0, proprio=("v",), action=("a",))
    policy = RemotePolicy(spec, ours, timeout_s=0.01)
    value = np.array([1.0], np.float32)
    with pytest.raises(ContinuonError, match="E-ROBOT-POLICY-003"):
        policy.step(None, value)
    late = theirs.recv(100)[:4]
    theirs.send(late + ANSWER.pack(0, 0, 0.5)[4:] + np.float32(0.1).tobytes())
    number = policy.ask(None, value)
    head = ANSWER.pack(number, 0, 0.25)
    theirs.send(head + np.float32(0.2).tobytes())
    theirs.send(ANSWER.pack(number + 1, 0, 0.125) + np.float32(0.3).tobytes())
    assert policy.step(None, value).surprise == 0.125
    for answer, seen in ((b"", "closed"), (ANSWER.pack(9, 1, 0) + b"why", "why")):
        theirs.send(answer or ANSWER.pack(9, 0, 0) + bytes(8))
        with pytest.raises(ContinuonError, match="E-ROBOT-POLICY-002"):
            policy.step(None, value)
        assert seen
    theirs.close()
    with pytest.raises(ContinuonError, match="E-ROBOT-POLICY-002"):
        policy.step(None, value)
    ours.close()


def test_an_observation_that_fits_no_packet_is_refused_before_it_is_needed():
    from continuon._specs.robot.fakes import Spec

    with pytest.raises(ContractError, match="E-ROBOT-SWAP-008"):
        RemoteSpec.of(Spec(image_height=480, image_width=640))


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
        without_gauge=True,
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
    assert control.is_resident("gain-0.0")
    assert not control.is_resident("gain-0.0005")
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
