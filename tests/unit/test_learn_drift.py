"""The drift life's own rules: schedules, statistics, gates, and the two worlds."""

from __future__ import annotations

import math

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuon._specs.learn import drift_car, drift_car_lives, drift_point
from continuon._specs.learn.drift import LEARNED
from continuon._specs.learn.drift_compare import PHASES, padded
from continuon._specs.learn.drift_forget import elastic, fisher
from continuon._specs.learn.drift_gate import (
    MAX_ACTION_DELTA,
    SURPRISE_FACTOR,
    WORSE_FACTOR,
    WORSE_MARGIN,
    Evidence,
    must_go,
    passes,
    surprised,
)
from continuon._specs.learn.drift_life import (
    LIVES,
    PHASE,
    TEST,
    VALIDATION,
    Seen,
)
from continuon._specs.learn.drift_method import hindsight
from continuon._specs.learn.drift_models import plain_model, scalars
from continuon._specs.learn.drift_point import MOST_DELAY, POINT
from continuon._specs.learn.drift_stats import (
    GOOD,
    SMOOTH,
    mean_interval,
    ratio_interval,
    ticks_to_good,
)
from continuon._specs.learn.drift_tracks import CAR, STEP_S, car_step
from continuon._specs.learn.drift_train import KEPT, Rows, imitated, running_mean
from continuon._specs.learn.drift_tune import best, score
from continuon.sim.car import CarState
from continuon.sim.car import step as sim_step

NAN = float("nan")
SMALL = plain_model(8, len(POINT.proprio), len(POINT.action), recurrent=False)
TWO = LIVES["rotation"][:2]
some = st.floats(0.0, 10.0)


@pytest.mark.parametrize("name", [n for n in LIVES if n != "A-B-A-B"])
def test_a_life_begins_at_home_and_ends_there(name: str) -> None:
    first, *between, last = LIVES[name]
    assert attrs.evolve(last, name=first.name) == first
    assert any(attrs.evolve(d, name=first.name) != first for d in between)


def test_a_repeating_life_is_the_same_two_conditions_in_turn() -> None:
    bare = [attrs.evolve(drift, name="") for drift in LIVES["A-B-A-B"]]
    assert bare == bare[:2] * 3
    assert bare[0] != bare[1]


@pytest.mark.parametrize("name", LEARNED)
def test_lives_that_learn_are_of_one_length_and_begin_as_they_are(name: str) -> None:
    drifts = LIVES[name][:PHASES]
    phases = padded(drifts)
    assert len(phases) == PHASES
    assert tuple(phases[: len(drifts)]) == drifts
    assert set(phases[len(drifts) :]) <= {drifts[-1]}


def test_a_drift_changes_what_it_names_and_leaves_the_robot_its_own() -> None:
    robots = POINT.robots(3, 4)
    for drift in {d for phases in LIVES.values() for d in phases}:
        body = drift_point.drifted(robots, drift)
        size = np.linalg.norm(body.map, axis=1)
        np.testing.assert_allclose(size, robots.gain * drift.gain, rtol=1e-5)
        np.testing.assert_array_equal(body.bias, robots.bias)
        assert (np.asarray(body.delay) == drift.delay).all()
        np.testing.assert_allclose(body.lag, drift.lag)


def test_robots_that_choose_are_not_those_that_are_reported() -> None:
    chose, told = POINT.robots(VALIDATION, 4), POINT.robots(TEST, 4)
    assert not np.isin(np.asarray(chose.gain), np.asarray(told.gain)).any()


@given(st.lists(st.floats(0.0, 0.3), min_size=SMOOTH, max_size=60))
def test_ticks_to_good_is_the_first_good_stretch(values: list[float]) -> None:
    away = np.array(values)
    means = [away[i : i + SMOOTH].mean() for i in range(len(away) - SMOOTH + 1)]
    first = next((i for i, m in enumerate(means) if m < GOOD - 1e-9), len(away))
    none_near = all(abs(m - GOOD) > 1e-9 for m in means)
    if none_near:
        assert ticks_to_good(away[None])[0] == first


def test_the_interval_over_seeds_is_students() -> None:
    mean, low, high = mean_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    half = 2.776 * math.sqrt(2.5) / math.sqrt(5)
    assert (mean, low, high) == pytest.approx((3.0, 3.0 - half, 3.0 + half))


@pytest.mark.parametrize("count", [0, 1, 12])
def test_an_interval_is_not_told_for_seeds_that_give_none(count: int) -> None:
    with pytest.raises(ValueError, match="seeds"):
        mean_interval(np.ones(count))


@given(st.integers(0, 1000), st.floats(0.1, 10.0))
def test_a_ratio_scales_with_its_upper_side(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    above, below = rng.uniform(0.1, 1.0, (2, 4, 6))
    one = ratio_interval(above, below, draws=50)
    many = ratio_interval(factor * above, below, draws=50)
    assert many == pytest.approx([factor * value for value in one])
    assert one[1] <= one[2]


def test_a_ratio_of_one_side_to_itself_holds_one() -> None:
    side = np.random.default_rng(0).uniform(0.1, 1.0, (5, 32))
    middle, low, high = ratio_interval(side, side)
    assert middle == 1.0
    assert low < 1.0 < high


def test_robots_of_a_ratio_are_paired() -> None:
    with pytest.raises(ValueError, match="robots differ"):
        ratio_interval(np.ones((2, 3)), np.ones((2, 4)))


@given(st.dictionaries(st.integers(), st.floats(), max_size=5))
def test_what_is_not_finite_is_never_chosen(scores: dict[int, float]) -> None:
    if not any(math.isfinite(value) for value in scores.values()):
        with pytest.raises(ValueError, match="finite"):
            best(scores)
        return
    won = scores[best(scores)]
    assert all(not value < won for value in scores.values() if math.isfinite(value))


def test_a_life_with_a_number_missing_has_no_score() -> None:
    away = np.full((1, 2, 2, PHASE), 0.1)
    assert score(away) == pytest.approx(0.1)
    away[0, :, 1, -1] = NAN
    assert math.isnan(score(away))


@given(some, some, some)
def test_a_candidate_must_be_better_and_move_little(
    before: float, after: float, delta: float
) -> None:
    assert passes(Evidence(before, after, delta)) == (
        after < before and delta <= MAX_ACTION_DELTA
    )


@pytest.mark.parametrize("place", range(3))
def test_a_gate_refuses_what_is_not_a_number(place: int) -> None:
    values = [1.0, 0.5, 0.0]
    assert passes(Evidence(*values))
    values[place] = NAN
    assert not passes(Evidence(*values))


@given(some, some)
def test_only_a_surprised_robot_learns(surprise: float, level: float) -> None:
    assert surprised(surprise, level) == (surprise > SURPRISE_FACTOR * level)
    assert not surprised(NAN, level)
    assert not surprised(surprise, NAN)


@given(some, some)
def test_a_robot_that_does_worse_takes_the_candidate_back(
    before: float, now: float
) -> None:
    assert must_go(before, now) == (now > WORSE_FACTOR * before + WORSE_MARGIN)
    assert must_go(before, NAN)
    assert must_go(NAN, now)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6), st.integers(0, 99))
def test_the_elastic_penalty_is_a_weighed_square(move: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    old = {"a": rng.normal(size=len(move)), "b": {"c": rng.normal(size=2)}}
    weights = jax.tree.map(lambda leaf: rng.uniform(0, 2, leaf.shape), old)
    moved = {"a": old["a"] + np.array(move), "b": old["b"]}
    expected = 0.5 * float(np.sum(weights["a"] * np.array(move) ** 2))
    assert float(elastic(moved, old, weights)) == pytest.approx(expected, abs=1e-4)
    assert float(elastic(old, old, weights)) == 0.0


def rows_of(seed: int, episodes: int, ticks: int) -> Rows:
    rng = np.random.default_rng(seed)
    senses = rng.normal(size=(episodes, ticks, len(POINT.proprio)))
    action = rng.uniform(-1, 1, (episodes, ticks, len(POINT.action)))
    return Rows(*(jnp.asarray(a, jnp.float32) for a in (senses, action, action)), 0.0)


def test_fisher_weights_have_a_mean_of_one_and_none_is_negative() -> None:
    rows = rows_of(0, 2, 16)._replace(distance=jnp.zeros((2, 16)))
    params = SMALL.init(0)
    leaves = jax.tree.leaves(jax.jit(lambda p: fisher(SMALL, p, rows))(params))
    total = sum(float(leaf.sum()) for leaf in leaves)
    assert total / scalars(params) == pytest.approx(1.0, rel=1e-4)
    assert min(float(leaf.min()) for leaf in leaves) >= 0.0


def test_hindsight_asks_for_the_motion_that_came() -> None:
    rows = rows_of(1, 1, 20)
    seen = Seen(rows.senses, rows.previous, rows.label, rows.senses, jnp.ones((1, 20)))
    made = jax.jit(hindsight)(seen)
    moved = np.asarray(rows.senses[0, :, -2:])
    assert (made.senses[..., 2:4] == 0.0).all()
    came = 0.5 * (moved[1:] + moved[:-1])
    np.testing.assert_allclose(made.senses[0, :, 4:6], came, rtol=1e-6)
    np.testing.assert_array_equal(made.label, rows.label[:, :-1])


def test_an_action_acts_after_the_delay() -> None:
    delays = jnp.arange(MOST_DELAY + 1)
    robots = POINT.robots(3, len(delays))
    body = POINT.drifted(robots, drift_point.Drift(name="late"))
    still = body._replace(bias=jnp.zeros_like(body.bias), delay=delays)

    def tick(plant: drift_point.Plant, index: jax.Array) -> tuple[object, object]:
        action = jnp.where(index == 0, jnp.ones_like(body.bias), 0.0)
        after = POINT.move(plant, still, robots.scene, action)
        return after, jnp.abs(after.v).max(-1)

    start = POINT.begin(robots.scene, None)
    felt = jax.jit(lambda: jax.lax.scan(tick, start, jnp.arange(6))[1])()
    np.testing.assert_array_equal(np.argmax(felt, 0), delays)


def test_the_lane_is_kept_by_who_knows_the_car_and_moves_as_the_camera_tilts() -> None:
    world = drift_car.TRACK
    robots = world.robots(0, 4)
    body = world.drifted(robots, drift_car_lives.OTHER)
    up = body._replace(tilt_rad=jnp.full(4, 0.07))
    noise = jnp.zeros((4, world.noise_size))

    def tick(plant: drift_car.Plant, index: jax.Array) -> tuple[object, object]:
        action = world.expert(plant, body, robots.scene, index)
        after = world.move(plant, body, robots.scene, action)
        told = [
            world.sense(after, b, robots.scene, index, noise)[0] for b in (body, up)
        ]
        return after, (world.distance(after, robots.scene, index), *told)

    start = world.begin(robots.scene, None)
    away, flat, tilted = jax.jit(
        lambda: jax.lax.scan(tick, start, jnp.arange(200))[1]
    )()
    assert float(np.max(away)) < 0.06
    assert np.abs(flat - tilted)[..., 3].max() > 0.01
    np.testing.assert_array_equal(flat[..., 4:], tilted[..., 4:])


@given(st.floats(-1.5, 1.5), st.floats(-0.2, 1.0), st.floats(-1, 1), st.floats(-1, 3))
def test_the_car_of_the_drift_life_is_the_simulators(
    target: float, throttle: float, steering: float, speed: float
) -> None:
    state = CarState(
        x_m=1.0,
        y_m=2.0,
        heading_rad=0.5,
        speed_mps=speed,
        steering=steering,
        motor=0.2,
    )
    theirs = sim_step(
        state, CAR, steering_target=target, throttle=throttle, dt_s=STEP_S
    )
    names = ("x", "y", "heading", "speed", "steering", "motor")
    values = (1.0, 2.0, 0.5, speed, steering, 0.2)
    zero = jnp.zeros(1)
    fields = dict.fromkeys(drift_car.Plant._fields, zero)
    held = {n: jnp.full(1, v) for n, v in zip(names, values, strict=True)}
    ours = jax.jit(car_step)(drift_car.Plant(**{**fields, **held}), target, throttle)
    for name, key in (
        ("x", "x_m"),
        ("y", "y_m"),
        ("heading", "heading_rad"),
        ("speed", "speed_mps"),
        ("steering", "steering"),
        ("motor", "motor"),
        ("yaw_rate", "yaw_rate_rad_s"),
    ):
        assert float(getattr(ours, name)[0]) == pytest.approx(
            getattr(theirs, key), abs=2e-5
        )


@given(st.integers(0, 999), st.integers(1, 40))
def test_a_running_mean_is_that_of_tick_after_tick(seed: int, ticks: int) -> None:
    values = np.random.default_rng(seed).normal(size=(2, ticks, 3))
    held, expected = np.zeros((2, 3)), []
    for tick in range(ticks):
        held = KEPT * held + (1.0 - KEPT) * values[:, tick]
        expected.append(held)
    told = running_mean(jnp.asarray(values, jnp.float32))
    np.testing.assert_allclose(told, np.stack(expected, 1), atol=1e-5)


def test_an_error_that_lasts_costs_more_than_one_that_alternates() -> None:
    rows = rows_of(2, 1, 32)._replace(label=jnp.zeros((1, 32, 2)))
    lasting = jnp.full((1, 32, 2), 0.5)
    turning = lasting * jnp.where(jnp.arange(32) % 2, 1.0, -1.0)[None, :, None]

    def cost(action: jax.Array, slow: float) -> float:
        known = jnp.roll(rows.senses, -1, 1)
        return float(imitated((action, known), rows, slow))

    assert cost(lasting, 0.0) == pytest.approx(cost(turning, 0.0))
    assert cost(lasting, 1.0) > 1.5 * cost(turning, 1.0)
    assert cost(lasting, 1.0) < 2.0 * cost(lasting, 0.0) + 1e-6
