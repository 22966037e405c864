"""No policy drives on a battery that is low or not known; a person is told, and may."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuon._specs.robot.fakes import FakeRig
from continuon.errors import HardwareError
from continuon.health import Level
from continuon.home import Home
from continuon.robot.bodies import open_body
from continuon.robot.control_config import ControlConfig
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.kernel import KernelState, Reason, Verdict, judge
from continuon.robot.loop import ControlLoop
from continuon.robot.modes import Actor, Mode, Request
from continuon.robot.pilots import Intent
from continuon.robot.power import (
    PowerMemory,
    PowerRule,
    PowerWatch,
    note_supply,
    why_barred,
)
from continuon.robot.supervisor import Supervisor
from continuon.robot.supply import GaugeState, Supply
from continuon.robot.why import kernel_words
from continuon.sim.live import start_live_rig

S = 1_000_000_000
FAKES = "continuon._specs.robot.fakes"
RULE = PowerRule.specified()


def read(volts, at_s=0.0, cells=2):
    return Supply(
        state=GaugeState.READ, capture_ns=round(at_s * S), volts=volts, cells=cells
    )


def lost(state=GaugeState.FAILED, at_s=0.0):
    return Supply(state=state, capture_ns=round(at_s * S), reason="no acknowledge")


def after(*looks, rule=RULE):
    memory = PowerMemory()
    for supply in looks:
        memory = note_supply(rule, memory, supply)
    return memory


def barred(memory, at_s, *, begins=False, rule=RULE):
    return why_barred(rule, memory, now_ns=round(at_s * S), begins=begins)


@pytest.mark.req("R-POWER-01")
@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize(
    ("volts", "reason"),
    [(8.0, None), (6.9, None), (6.61, None), (6.5, Reason.BATTERY_CRITICAL)],
)
def test_only_critical_bars_a_known_battery(volts, reason, begins):
    assert barred(after(read(volts)), 0.5, begins=begins) is reason


@pytest.mark.req("R-POWER-01")
def test_a_low_battery_must_be_better_than_its_limit_and_for_a_while():
    low = after(read(7.4), read(6.5, 1))
    assert barred(low, 1.0) is Reason.BATTERY_CRITICAL
    # A cell recovers at once when the motor stops, to inside the hysteresis.
    rested = note_supply(RULE, low, read(6.65, 60))
    assert barred(rested, 60.0) is Reason.BATTERY_CRITICAL
    full = note_supply(RULE, rested, read(8.2, 61))
    assert barred(full, 61.0) is Reason.BATTERY_CRITICAL
    held = note_supply(RULE, full, read(8.2, 91))
    assert barred(held, 91.0) is None


@pytest.mark.req("R-POWER-01")
def test_a_gauge_that_knows_its_cells_is_believed():
    assert barred(after(read(9.6, cells=3)), 0.5) is Reason.BATTERY_CRITICAL
    assert barred(after(read(6.5, cells=None)), 0.5) is Reason.BATTERY_CRITICAL
    assert barred(after(read(4.0, cells=1)), 0.5) is None


@pytest.mark.req("R-POWER-02")
def test_what_is_not_known_begins_nothing():
    for memory in (
        PowerMemory(),
        after(lost()),
        after(lost(GaugeState.ABSENT)),
        after(attrs.evolve(read(8.0), volts=None)),
        after(read(8.0, 0.0), lost(at_s=1.0)),
    ):
        assert barred(memory, 1.0, begins=True) is Reason.BATTERY_UNKNOWN
    assert barred(after(read(8.0)), 5.1, begins=True) is Reason.BATTERY_UNKNOWN


@pytest.mark.req("R-POWER-02")
def test_a_policy_that_drives_goes_on_for_a_minute_on_its_last_good_reading():
    memory = after(read(8.0, 0.0), lost(at_s=1.0))
    assert barred(memory, 59.0) is None
    assert barred(memory, 61.0) is Reason.BATTERY_UNKNOWN


@pytest.mark.req("R-POWER-02")
def test_an_owner_may_say_that_there_is_no_gauge_and_only_that():
    rule = PowerRule.specified(without_gauge=True)
    absent = lost(GaugeState.ABSENT)
    assert barred(after(absent, rule=rule), 999.0, begins=True, rule=rule) is None
    failed = after(lost(), rule=rule)
    assert barred(failed, 1.0, begins=True, rule=rule) is Reason.BATTERY_UNKNOWN
    low = after(read(6.0), absent, rule=rule)
    assert barred(low, 999.0, begins=True, rule=rule) is Reason.BATTERY_CRITICAL


LOOKS = st.lists(
    st.tuples(
        st.sampled_from(GaugeState),
        st.one_of(st.floats(2.0, 4.3), st.none()),
        st.floats(0.1, 40.0),
    ),
    max_size=12,
)


@pytest.mark.law
@pytest.mark.req("R-POWER-01", "R-POWER-02")
@given(looks=LOOKS, wait_s=st.floats(0.0, 90.0), begins=st.booleans())
def test_whatever_was_seen_what_may_drive_is_known_and_was_not_critical(
    looks, wait_s, begins
):
    memory, at_s, history = PowerMemory(), 0.0, []
    for state, cell_v, step_s in looks:
        at_s += step_s
        volts = cell_v * 2 if cell_v and state is GaugeState.READ else None
        supply = attrs.evolve(lost(state, at_s), volts=volts, cells=2)
        memory = note_supply(RULE, memory, supply)
        again = note_supply(RULE, memory, supply)
        assert again == memory
        if volts is not None:
            history.append((at_s, cell_v))
    now_s = at_s + wait_s
    if barred(memory, now_s, begins=begins) is not None:
        return
    last_s, last_v = history[-1]
    assert last_v >= 3.30
    assert now_s - last_s <= (5.0 if begins else 60.0) + 1e-6
    recent = [v for seen_s, v in history if now_s - seen_s < 30.0 - 1e-6]
    assert all(v >= 3.30 for v in recent)
    was_low = [index for index, (_, v) in enumerate(history) if v < 3.30]
    if was_low:
        assert any(v >= 3.35 for _, v in history[was_low[-1] :])


@pytest.mark.req("R-POWER-01")
@pytest.mark.parametrize("volts", [None, float("nan"), float("inf"), -float("inf")])
def test_a_reading_that_is_no_number_is_no_reading(volts):
    assert barred(after(read(volts)), 0.0) is Reason.BATTERY_UNKNOWN
    memory = after(read(8.0), read(volts, at_s=1.0))
    assert barred(memory, 1.0, begins=True) is Reason.BATTERY_UNKNOWN
    assert barred(memory, 1.0) is None
    assert barred(memory, 61.0) is Reason.BATTERY_UNKNOWN


@pytest.mark.law
@pytest.mark.req("R-POWER-01")
@given(
    proposal=st.one_of(
        st.none(), st.tuples(st.floats(allow_nan=True), st.floats(allow_nan=True))
    ),
    age_ns=st.integers(0, 10**9),
    reason=st.sampled_from([Reason.BATTERY_CRITICAL, Reason.BATTERY_UNKNOWN]),
)
def test_the_kernel_stops_at_once_whatever_is_proposed(proposal, age_ns, reason):
    limits = car_limits()
    memory = KernelState.start(limits, S)
    now = {"now_ns": 2 * S, "observed_ns": 2 * S - age_ns}
    memory, decision = judge(limits, memory, proposal, barred=reason, **now)
    assert decision.verdict is Verdict.STOP
    assert decision.reasons == (reason,)
    assert tuple(decision.command) == limits.neutral
    _, later = judge(limits, memory, (0.0, 0.1), **now)
    assert later.verdict is Verdict.STOP, "only a new start ends it"


@pytest.mark.req("R-POWER-01")
def test_a_barred_loop_still_thinks_and_drives_nothing():
    class Out:
        driven = 0

        def drive(self, pulses, *, now_ns):
            self.driven += 1

        def idle(self, *, now_ns):
            pass

    out, rig = Out(), FakeRig()
    loop = ControlLoop(
        camera=None,
        state=None,
        output=out,
        pulses=lambda command: {},
        limits=car_limits(),
        always_think=True,
    )
    loop.pilot = lambda senses: Intent(
        action=np.zeros(2, np.float32),
        source="vla_policy",
        observed_ns=senses.now_ns,
    )
    loop.start(rig.clock.monotonic_ns())
    loop.barred = Reason.BATTERY_CRITICAL
    tick = loop.tick(rig.clock.monotonic_ns())
    assert tick.decision.verdict is Verdict.STOP
    assert out.driven == 0
    assert not loop.executing
    idle = loop.tick(rig.clock.monotonic_ns())
    assert idle.decision.verdict is Verdict.PASS, "an imagined tick is not barred"


@pytest.mark.req("R-POWER-02")
@pytest.mark.parametrize(
    ("supply", "code", "word"),
    [
        (None, "E-ROBOT-POWER-002", "not looked"),
        (read(6.2, 1.0), "E-ROBOT-POWER-001", "6.20 V"),
        (lost(at_s=1.0), "E-ROBOT-POWER-002", "no acknowledge"),
        (read(8.0, -9.0), "E-ROBOT-POWER-002", "last 5 s"),
    ],
)
def test_a_refused_start_says_what_was_seen(supply, code, word):
    watch = PowerWatch(lambda: supply, RULE)
    with pytest.raises(HardwareError, match=word) as caught:
        watch.check_start(S)
    assert caught.value.code == code
    assert caught.value.hint


def test_a_stop_by_the_battery_has_its_words():
    assert "battery" in kernel_words([Reason.BATTERY_CRITICAL.value])
    assert "gauge" in kernel_words([Reason.BATTERY_UNKNOWN.value])


@pytest.fixture
def world():
    world = start_live_rig(3, width=64, height=48, depth=False)
    yield world
    world.close()


@pytest.fixture
def robot(tmp_path, world):
    rig = Factory(target="continuon.sim.live:attach", kwargs={"handle": world.path})
    config = ControlConfig(
        rig=rig,
        limits=car_limits(),
        loader=f"{FAKES}:load_fake",
        artifact_dir="gain-0.0",
        fifo_priority=0,
        lock_memory=False,
    )
    with Supervisor(Home(tmp_path), open_body(rig), config) as robot:
        yield robot


def wait_for(robot, condition, seconds=20):
    until_ns = robot.clock.monotonic_ns() + seconds * S
    while not condition():
        assert robot.clock.monotonic_ns() < until_ns, "nothing happened"
        robot.watch()
        robot.clock.sleep_until_ns(robot.clock.monotonic_ns() + S // 50)


def cell_v(robot):
    supply = robot.guard.supply()
    return None if supply is None or supply.volts is None else supply.volts / 2


@pytest.mark.slow
@pytest.mark.req("R-POWER-01", "R-POWER-03", "R-POWER-04")
def test_a_battery_that_runs_low_stops_the_policy_and_not_the_person(world, robot):
    """Real processes: gauge, guard, board, loop, kernel, mode."""
    wait_for(robot, lambda: cell_v(robot) is not None)
    robot.request(Request.START, Actor.PERSON)
    wait_for(robot, lambda: robot.guard.report().driving)
    world.drain_battery(6.4)
    wait_for(robot, lambda: not robot.keeper.state.executing)
    assert robot.keeper.state.mode is Mode.AUTONOMOUS
    assert "battery" in robot.status()["stopped_because"]
    wait_for(robot, lambda: not robot.guard.report().driving)

    world.drain_battery(8.0)
    wait_for(robot, lambda: cell_v(robot) > 3.9)
    assert not robot.keeper.state.executing, "nothing moves again by itself"
    with pytest.raises(HardwareError) as caught:
        robot.request(Request.START, Actor.PERSON)
    assert caught.value.code == "E-ROBOT-POWER-001", "a sag is remembered"
    assert not robot.keeper.state.executing

    world.drain_battery(6.4)
    wait_for(robot, lambda: cell_v(robot) < 3.3)
    robot.request(Request.MANUAL, Actor.PERSON)
    robot.request(Request.START, Actor.PERSON)

    def driven():
        robot.teleop([0.1, 0.1], "human_teleop_xr")
        return robot.guard.report().driving

    wait_for(robot, driven)
    levels = {check["name"]: check["level"] for check in robot.health()["checks"]}
    assert levels["battery"] == Level.CRITICAL, "the person is told"
