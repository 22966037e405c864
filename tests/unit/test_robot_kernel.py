import math

import attrs
import pytest

from continuon.bundle.safety import CAR_BASE_RULES, ChannelLimit, SafetyManifest
from continuon.errors import ContractError
from continuon.robot.envelope import car_limits, limits_from_manifest
from continuon.robot.kernel import (
    KernelState,
    Reason,
    SafetyLimits,
    Verdict,
    judge,
)

MS = 1_000_000
LIMITS = SafetyLimits(
    names=("steering", "throttle"),
    low=(-1, -0.5),
    high=(1, 0.5),
    max_rate_per_s=(20, 1e9),
    neutral=(0, 0),
    throttle=1,
    max_speed_mps=2.0,
)


def tick(state, proposal, now_ms, observed_ms=None, speed=0.0):
    observed = now_ms if observed_ms is None else observed_ms
    return judge(
        LIMITS,
        state,
        proposal,
        now_ns=now_ms * MS,
        observed_ns=observed * MS,
        speed_mps=speed,
    )


@pytest.fixture
def fresh():
    return KernelState.start(LIMITS, 0)


@pytest.mark.req("R-KERNEL-01")
def test_a_command_inside_every_limit_passes_as_it_is(fresh):
    _, decision = tick(fresh, [0.2, 0.3], 20)
    assert decision.verdict is Verdict.PASS
    assert decision.command.tolist() == pytest.approx([0.2, 0.3])


@pytest.mark.req("R-KERNEL-02")
@pytest.mark.parametrize(
    "bad",
    [
        [math.nan, 0.1],
        [0.1, math.inf],
        [0.1],
        [[0.1, 0.2]],
        None,
        "left",
        [None, 0.1],
        [],
    ],
)
def test_a_command_that_is_no_command_leaves_the_last_safe_one_standing(fresh, bad):
    state, _ = tick(fresh, [0.2, 0.3], 20)
    state, decision = tick(state, bad, 40)
    assert decision.verdict is Verdict.HELD
    assert decision.command.tolist() == pytest.approx([0.2, 0.3])


@pytest.mark.req("R-KERNEL-03")
def test_a_command_beyond_a_bound_is_clipped_to_it(fresh):
    _, decision = tick(fresh, [0.0, 7.0], 20)
    assert decision.verdict is Verdict.CLIPPED
    assert decision.reasons == (Reason.RANGE,)
    assert decision.command[1] == pytest.approx(0.5)


@pytest.mark.req("R-KERNEL-04")
def test_a_jump_is_spread_over_ticks(fresh):
    state, first = tick(fresh, [1.0, 0.0], 20)
    _, second = tick(state, [1.0, 0.0], 40)
    assert first.reasons == (Reason.RATE,)
    assert [first.command[0], second.command[0]] == pytest.approx([0.4, 0.8])


@pytest.mark.req("R-KERNEL-04")
def test_a_long_pause_buys_no_larger_jump_than_the_cap(fresh):
    _, decision = tick(fresh, [1.0, 0.0], 5_000)
    assert decision.command[0] == pytest.approx(20 * 0.040)


@pytest.mark.req("R-KERNEL-05")
@pytest.mark.parametrize("observed_ms", [40 - 501, 40 + 6])
def test_an_old_or_future_observation_is_not_acted_on(fresh, observed_ms):
    _, decision = tick(fresh, [0.2, 0.3], 40, observed_ms)
    assert decision.verdict is Verdict.HELD


@pytest.mark.req("R-KERNEL-05")
def test_no_observation_at_all_is_not_acted_on(fresh):
    _, decision = judge(LIMITS, fresh, [0.1, 0.1], now_ns=MS, observed_ns=None)
    assert decision.reasons == (Reason.NO_OBSERVATION,)


@pytest.mark.req("R-KERNEL-06", "R-KERNEL-07")
def test_holding_too_long_stops_for_good(fresh):
    state, decision = tick(fresh, [math.nan, 0.0], 201)
    assert decision.verdict is Verdict.STOP
    assert Reason.HELD_TOO_LONG in decision.reasons
    state, decision = tick(state, [0.1, 0.1], 220)
    assert decision.verdict is Verdict.STOP
    assert decision.command.tolist() == [0.0, 0.0]
    _, decision = tick(KernelState.start(LIMITS, 220 * MS), [0.1, 0.1], 240)
    assert decision.verdict is Verdict.PASS


@pytest.mark.req("R-KERNEL-08")
@pytest.mark.parametrize(
    ("speed", "throttle", "expected"),
    [
        (2.5, 0.4, 0.0),
        (2.5, -0.4, -0.4),
        (-2.5, -0.4, 0.0),
        (1.9, 0.4, 0.4),
        (math.nan, 0.4, 0.0),
        (None, -0.4, 0.0),
    ],
)
def test_above_the_speed_limit_the_throttle_may_only_brake(
    fresh, speed, throttle, expected
):
    _, decision = tick(fresh, [0.0, throttle], 20, speed=speed)
    assert decision.command[1] == pytest.approx(expected)


@pytest.mark.parametrize(
    "change",
    [
        {"low": (-1, math.nan)},
        {"low": (0.5, 0.5)},
        {"neutral": (0,)},
        {"max_rate_per_s": (0, 1)},
        {"max_rate_per_s": (math.inf, 1)},
        {"max_hold_ns": 0},
        {"throttle": 2},
    ],
)
def test_an_envelope_without_an_inside_is_refused(change):
    values = {
        "names": ("steering", "throttle"),
        "low": (-1, -1),
        "high": (1, 1),
        "max_rate_per_s": (1, 1),
        "neutral": (0, 0),
    }
    with pytest.raises(ContractError, match="E-ROBOT-KERNEL-001"):
        SafetyLimits(**values | change)


def test_the_cars_base_rules_become_limits():
    limits = car_limits()
    assert limits.names == ("steering", "throttle")
    assert limits.max_speed_mps == CAR_BASE_RULES.max_speed_mps
    assert limits.unenforced == ()


def test_a_bundle_only_tightens_the_base_rules():
    bundle = SafetyManifest(
        base_rule_version=1,
        channels=(
            ChannelLimit(name="steering", min=-9.0, max=9.0),
            ChannelLimit(name="throttle", min=-0.1, max=0.3, max_rate_per_s=2.0),
        ),
        max_speed_mps=9.0,
        max_observation_age_ms=100.0,
    )
    limits = car_limits(manifest=bundle)
    assert limits.low == (-1.0, -0.1)
    assert limits.high == (1.0, 0.3)
    assert limits.max_rate_per_s == (20.0, 2.0)
    assert limits.max_speed_mps == CAR_BASE_RULES.max_speed_mps
    assert limits.max_observation_age_ns == 100 * MS


def test_a_limit_that_the_robot_cannot_measure_is_named():
    assert car_limits(state_names=()).unenforced == ("max_speed_mps",)


def test_an_action_channel_without_a_limit_is_refused():
    with pytest.raises(ContractError, match="E-ROBOT-KERNEL-002"):
        limits_from_manifest(
            CAR_BASE_RULES, action_names=("steering", "gripper"), state_names=()
        )


@pytest.mark.req("R-KERNEL-09")
@pytest.mark.parametrize(
    "slow",
    [
        {},
        {"max_observation_age_ms": 5_000.0},
        {"heartbeat_timeout_ms": 5_000.0},
        {"max_observation_age_ms": 90.0, "heartbeat_timeout_ms": 60.0},
    ],
)
def test_a_frozen_camera_is_a_stop_within_450_ms_whatever_a_bundle_asks_for(slow):
    manifest = attrs.evolve(CAR_BASE_RULES, **slow)
    limits = limits_from_manifest(
        manifest, action_names=("steering", "throttle"), state_names=("speed_mps",)
    )
    state = KernelState.start(limits, 0)
    now_ns, verdict = 0, None
    while verdict is not Verdict.STOP:
        now_ns += 5 * MS
        assert now_ns <= 460 * MS
        state, decision = judge(
            limits, state, [0.1, 0.2], now_ns=now_ns, observed_ns=0, speed_mps=0.0
        )
        verdict = decision.verdict
