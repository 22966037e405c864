"""The laws hold with every optional part on: chunks, depth, instruction, unit keys."""

from __future__ import annotations

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from continuon import hope
from continuon._specs.hope.examples import (
    QUICK,
    RICH,
    TINY,
    at,
    furthest,
    observations,
    parameters,
    run_steps,
    sequence_of,
    step_of,
)
from continuon.edge.network import NumpyEngine
from continuon.hope.checkpoint import flatten

pytestmark = [pytest.mark.law, pytest.mark.slow]
SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=4, deadline=None)


@pytest.mark.req("R-HOPE-01")
def test_rich_sequence_is_the_same_algebra_as_rich_steps():
    with jax.enable_x64(True):
        params = parameters(RICH, seed=3, dtype=np.float64)
        obs = observations(RICH, seed=4, dtype=np.float64)
        state = hope.init_state(RICH, 2, dtype=np.float64)
        left = sequence_of(RICH)(params, state, obs)
        assert furthest(left, run_steps(RICH, params, state, obs)) < 1e-12


@pytest.mark.req("R-HOPE-01")
@pytest.mark.req("R-HOPE-80")
@FEW
@example(41469)
@given(SEEDS)
def test_rich_step_sequence_and_numpy_agree(seed):
    params, obs = parameters(RICH, seed=seed), observations(RICH, seed=seed + 1)
    state = hope.init_state(RICH, 2)
    _, told = sequence_of(RICH)(params, state, obs)
    stepped = run_steps(RICH, params, state, obs)[1]
    for name, ours, theirs in zip(told._fields, told, stepped, strict=True):
        # Relative where it is large: a surprise is a square, and may be 20.
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5, err_msg=name)
    assert told.chunk.shape == (2, 16, 3, 2)
    # a compiler may compute the two apart, and round them apart
    np.testing.assert_allclose(told.chunk[..., 0, :], told.action, atol=1e-6)
    engine = NumpyEngine(RICH.as_dict(), flatten(params))
    for tick in range(16):
        now = {name: value[0] for name, value in at(obs, tick).items()}
        action, _ = engine.advance(now)
        np.testing.assert_allclose(action, told.action[0, tick], atol=2e-5)
        np.testing.assert_allclose(engine.chunk, told.chunk[0, tick], atol=2e-5)


@pytest.mark.req("R-HOPE-30")
@pytest.mark.req("R-HOPE-80")
def test_gradient_reaches_every_rich_parameter_and_only_what_is_used():
    params, obs = parameters(RICH), observations(RICH)

    def loss(params):
        state = hope.init_state(RICH, 2)
        out = hope.sequence(params, RICH, state, obs, remat=False)[1]
        return jnp.mean(jnp.abs(out.chunk - 0.5)) + jnp.mean(out.surprise)

    slopes = flatten(jax.jit(jax.grad(loss), compiler_options=QUICK)(params))
    dead = {name for name, slope in slopes.items() if not np.any(slope)}
    assert dead == {name for name in slopes if name.startswith("frozen/")}
    more = set(flatten(params)) - set(flatten(hope.init(0, TINY)))
    assert {name.split("/")[1] for name in more - {"blocks/0/mid/turn"}} == {
        "depth",
        "depth_convolutions",
        "instruction",
    }


@pytest.mark.req("R-HOPE-12")
@pytest.mark.req("R-HOPE-81")
@pytest.mark.parametrize("depth_m", [0.0, -3.0, np.nan, np.inf, 1e30])
def test_depth_that_is_not_known_or_far_away_stays_finite(depth_m):
    obs = at(observations(RICH), 0)
    obs["depth"] = np.full_like(obs["depth"], depth_m)
    _, out = step_of(RICH)(parameters(RICH), hope.init_state(RICH, 2), obs)
    assert all(np.isfinite(leaf).all() for leaf in out)
    obs["depth"] = np.full_like(obs["depth"], 4.0 if depth_m == 1e30 else 0.0)
    _, same = step_of(RICH)(parameters(RICH), hope.init_state(RICH, 2), obs)
    assert furthest(out.action, same.action) == 0.0


@pytest.mark.req("R-HOPE-12")
@FEW
@given(SEEDS)
def test_memories_with_unit_keys_stay_bounded(seed):
    config = attrs.evolve(RICH, self_modifying=False)
    params = parameters(config, seed=seed, spread=3.0)
    obs = observations(config, ticks=64, seed=seed, scale=100.0)
    state, out = sequence_of(config)(params, hope.init_state(config, 2), obs)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, out)))


@pytest.mark.req("R-HOPE-82")
def test_unit_keys_can_turn_a_memory_into_its_opposite_and_soft_ones_cannot():
    least = {}
    for unit_keys in (False, True):
        config = attrs.evolve(TINY, unit_keys=unit_keys, self_modifying=False)
        params = parameters(config, spread=0.0)
        fast = params["blocks"]["0"]["fast"]
        fast["gates_bias"] = jnp.full_like(fast["gates_bias"], 20.0)
        obs, rng = observations(config, batch=1, ticks=4), np.random.default_rng(0)
        state = hope.init_state(config, 1)
        memory = rng.standard_normal((1, 2, 8, 8)).astype(np.float32)
        ends = []
        for scale in (0.0, 1.0):
            state["blocks"]["0"]["memory"] = jnp.asarray(scale * memory)
            after, _ = step_of(config)(params, state, at(obs, 0))
            ends.append(after["blocks"]["0"]["memory"])
        kept = np.linalg.lstsq(
            memory[0, 0].T, np.asarray(ends[1] - ends[0])[0, 0].T, rcond=None
        )[0]
        least[unit_keys] = np.linalg.eigvals(kept).real.min()
    assert least[True] < -0.99
    assert least[False] > -0.9
