from functools import partial

import numpy as np
import pytest

from continuon._specs.robot.fakes import FakePolicy, FakeRig, Spec, SteadyPilot
from continuon.clock import ManualClock
from continuon.errors import ContractError, DataError, UsageError
from continuon.rig.calibration import CarCalibration, car_pulses_us
from continuon.rlds.episode import ActionSource
from continuon.robot.envelope import car_limits
from continuon.robot.kernel import Reason, Verdict
from continuon.robot.loop import ControlLoop, run_periodic
from continuon.robot.outputs import ServoOutput
from continuon.robot.pilots import ExpertPilot, PolicyPilot, TeleopPilot
from continuon.robot.ticklog import EXECUTING, FRESH, SWAPPED, TickLog
from continuon.robot.timing import missed_periods, timing_report

MS = 1_000_000
PERIOD = 20 * MS
PULSES = partial(car_pulses_us, calibration=CarCalibration())


def loop_on(rig, pilot, **more):
    loop = ControlLoop(
        camera=rig.camera,
        state=rig.state,
        output=ServoOutput(rig.servos),
        pulses=PULSES,
        limits=car_limits(),
        **more,
    )
    loop.pilot = pilot
    return loop


def run(loop, rig, ticks):
    seen = []

    def step(now_ns, _late):
        seen.append(loop.tick(now_ns))
        return len(seen) < ticks

    run_periodic(step, clock=rig.clock, period_ns=PERIOD)
    return seen


@pytest.mark.req("R-LOOP-02")
def test_the_policy_steps_once_a_fresh_frame_and_its_action_holds_in_between():
    rig = FakeRig()
    policy = FakePolicy()
    loop = loop_on(rig, PolicyPilot(policy, rig.clock.monotonic_ns))
    loop.start(rig.clock.monotonic_ns())
    ticks = run(loop, rig, 50)
    fresh = sum(tick.frame is not None for tick in ticks)
    assert policy.steps == fresh == 31
    actions = [float(t.intent.action[0]) for t in ticks if t.intent]
    assert sorted(set(actions)) == pytest.approx([0.01 * i for i in range(1, 32)])
    assert sum(t.intent.policy_ns > 0 for t in ticks if t.intent) == fresh


def test_the_policy_gets_its_own_picture_size_and_the_senses_it_named():
    rig = FakeRig()
    policy = FakePolicy(spec=Spec(image_height=3, image_width=4))
    run(loop_on(rig, PolicyPilot(policy, lambda: 0), always_think=True), rig, 5)
    image, proprio = policy.seen[-1]
    assert image.shape == (3, 4, 3)
    assert image.dtype == np.uint8
    assert proprio.tolist() == [0.5]


def test_a_policy_that_asks_for_senses_that_are_not_there_is_refused():
    rig = FakeRig()
    policy = FakePolicy(spec=Spec(proprio=("altitude_m",)))
    loop = loop_on(rig, PolicyPilot(policy, lambda: 0), always_think=True)
    with pytest.raises(ContractError, match="E-ROBOT-POLICY-001"):
        run(loop, rig, 5)


@pytest.mark.req("R-LOOP-03")
def test_idle_moves_nothing_even_with_a_pilot_that_thinks():
    rig = FakeRig()
    run(loop_on(rig, SteadyPilot(), always_think=True), rig, 10)
    assert rig.servos.calls == ["full_off"]


@pytest.mark.req("R-LOOP-03")
def test_a_stop_by_the_kernel_ends_execution_until_a_new_start():
    rig = FakeRig(freezes_after_s=0.2)
    loop = loop_on(rig, PolicyPilot(FakePolicy(), lambda: 0))
    loop.start(rig.clock.monotonic_ns())
    ticks = run(loop, rig, 80)
    verdicts = [t.decision.verdict for t in ticks if t.decision]
    assert verdicts[-1] is Verdict.STOP
    assert verdicts.count(Verdict.STOP) == 1
    assert not loop.executing
    assert not any(rig.servos.outputs.values())
    loop.start(rig.clock.monotonic_ns())
    assert loop.executing


def test_a_persons_command_holds_for_a_moment_only():
    hand = TeleopPilot(ttl_ns=300 * MS)
    rig = FakeRig()
    loop = loop_on(rig, hand)
    now = rig.clock.monotonic_ns()
    hand.command(
        np.array([0.1, 0.2], np.float32), ActionSource.HUMAN_TELEOP_XR, received_ns=now
    )
    loop.start(now)
    ticks = run(loop, rig, 30)
    passed = [t for t in ticks if t.decision and t.decision.verdict is Verdict.PASS]
    # The car's limits call it stale after 250 ms, before the hand itself would.
    assert len(passed) == 12
    assert not loop.executing


def drive_by_hand(rig, ticks):
    """A hand that never falls silent."""
    hand = TeleopPilot()
    loop = loop_on(rig, hand)
    seen = []
    loop.start(rig.clock.monotonic_ns())
    for _ in range(ticks):
        action = np.array([0.1, 0.2], np.float32)
        now = rig.clock.monotonic_ns()
        hand.command(action, ActionSource.HUMAN_TELEOP_XR, received_ns=now)
        seen += run(loop, rig, 1)
    return loop, seen


@pytest.mark.req("R-LOOP-05")
@pytest.mark.parametrize("broken", [{"freezes_after_s": 0.4}, {"freezes_after_s": 0.0}])
def test_a_hand_does_not_drive_by_a_camera_that_shows_nothing_new(broken):
    rig = FakeRig(**broken)
    loop, ticks = drive_by_hand(rig, 60)
    last = [t for t in ticks if t.decision][-1]
    assert last.decision.verdict is Verdict.STOP
    assert last.decision.reasons == (Reason.STALE_OBSERVATION, Reason.HELD_TOO_LONG)
    frames = [t.frame.capture_ns for t in ticks if t.frame]
    # From the last frame's exposure: 250 ms until it is stale, 200 ms of holding.
    assert 450 * MS < last.now_ns - frames[-1] <= 490 * MS
    assert not loop.executing


@pytest.mark.req("R-LOOP-05")
def test_a_hand_drives_a_robot_that_never_had_a_camera():
    rig = FakeRig()
    rig.camera = None
    loop, ticks = drive_by_hand(rig, 60)
    assert loop.executing
    assert {t.decision.verdict for t in ticks[20:]} == {Verdict.PASS}


def test_only_a_simulated_rig_has_an_expert():
    with pytest.raises(UsageError, match="E-ROBOT-PILOT-001"):
        ExpertPilot(object())


@pytest.mark.req("R-LOOP-01")
def test_deadlines_are_absolute_so_that_work_does_not_add_up():
    clock = ManualClock()
    starts = []

    def step(now_ns, late_ns):
        starts.append(now_ns)
        clock.advance_ns(7 * MS)
        assert late_ns == 0
        return len(starts) < 5

    assert run_periodic(step, clock=clock, period_ns=PERIOD) == 0
    assert starts == [PERIOD * i for i in range(1, 6)]


@pytest.mark.req("R-LOOP-04")
def test_an_overrun_skips_deadlines_and_counts_them():
    clock = ManualClock()
    done = []
    lateness = []

    def step(_now_ns, late_ns):
        lateness.append(late_ns)
        clock.advance_ns(50 * MS if len(lateness) == 2 else MS)
        return len(lateness) < 4

    skipped = run_periodic(
        step,
        clock=clock,
        period_ns=PERIOD,
        on_done=lambda work_ns, missed: done.append((work_ns, missed)),
    )
    assert skipped == 1
    assert done[1] == (50 * MS, 1)
    assert lateness == [0, 0, 10 * MS, 0]


@pytest.fixture
def log(tmp_path):
    log = TickLog.create(tmp_path / "ticks", capacity=8)
    yield log
    log.close()


def add(log, number, **more):
    row = {
        "start_ns": number * PERIOD,
        "lateness_ns": 1000,
        "work_ns": 2 * MS,
        "policy_ns": 0,
        "policy": 1,
        "skipped": 0,
        "verdict": Verdict.PASS,
        "flags": EXECUTING,
    }
    log.add(**row | more)


def test_a_log_read_by_another_process_holds_the_newest_ticks_in_order(log):
    for number in range(11):
        add(log, number)
    other = TickLog.open(log.path)
    assert other.count == 11
    assert (other.rows()["start_ns"] // PERIOD).tolist() == list(range(3, 11))
    assert (other.rows(5, 7)["start_ns"] // PERIOD).tolist() == [5, 6]
    assert len(other.rows(11)) == 0
    other.close()


def test_a_file_that_is_no_log_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(bytes(100))
    with pytest.raises(DataError, match="E-ROBOT-TICKS-001"):
        TickLog.open(tmp_path / "x")


@pytest.mark.req("R-LOOP-01", "R-LOOP-04", "R-SWAP-02")
def test_a_report_counts_missed_periods_vetoes_and_marks_swaps(log):
    add(log, 0, flags=EXECUTING | FRESH, policy_ns=3 * MS)
    add(log, 1, lateness_ns=21 * MS)
    add(log, 2, skipped=2, verdict=Verdict.HELD)
    add(log, 3, flags=EXECUTING | SWAPPED)
    report = timing_report(log.rows(), period_ns=PERIOD, first=100)
    assert report.missed_periods == 3
    assert report.swap_ticks == (103,)
    assert report.veto_fraction == pytest.approx(0.25)
    assert report.rate_hz == pytest.approx(50.0)
    assert report.policy_ms.max == pytest.approx(3.0)
    assert report.fresh_frames == 1
    assert sum(report.histogram_counts) == 4
    assert missed_periods(log.rows(3), PERIOD) == 0


@pytest.mark.req("R-GATE-01")
def test_a_report_on_nothing_has_no_figures(log):
    report = timing_report(log.rows(), period_ns=PERIOD)
    assert report.rate_hz is None
    assert report.lateness_ms.p99 is None
    assert report.veto_fraction is None
