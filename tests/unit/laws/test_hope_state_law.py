"""The state keeps its shape, its rhythm and its bounds, whatever is sensed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon import hope
from continuon._specs.hope.examples import (
    TINY,
    TOLD,
    at,
    observations,
    parameters,
    sequence_of,
    step_of,
)

pytestmark = [pytest.mark.law, pytest.mark.slow]
FEW = settings(max_examples=6, deadline=None)
EXTREMES = st.sampled_from([0.0, 1e-38, 1.0, -1e3, 1e20, -3e38, 3e38])


def _finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.req("R-HOPE-10")
@FEW
@given(st.integers(0, 2**16))
def test_the_state_never_changes_shape_or_type(seed):
    params, obs = parameters(TINY), observations(TINY, seed=seed)
    state = hope.init_state(TINY, 2)
    described = jax.tree.map(lambda a: (a.shape, a.dtype), state)
    stepped, _ = step_of(TINY)(params, state, at(obs, 0))
    jumped, _ = sequence_of(TINY)(params, state, obs)
    for new in (stepped, jumped):
        assert jax.tree.map(lambda a: (a.shape, a.dtype), new) == described


@pytest.mark.req("R-HOPE-11")
def test_levels_and_anchor_change_only_at_their_own_ticks():
    params, obs = parameters(TINY), observations(TINY, ticks=17)
    step, state = step_of(TINY), hope.init_state(TINY, 2)
    seen = {"anchor": [], 0: [], 1: []}
    for tick in range(17):
        old, (state, _) = state["blocks"]["0"], step(params, state, at(obs, tick))
        new = state["blocks"]["0"]
        if not np.array_equal(old["anchor"], new["anchor"]):
            seen["anchor"].append(tick)
        for level in (0, 1):
            columns = slice(level * TINY.d, (level + 1) * TINY.d)
            if not np.array_equal(old["slow"][..., columns], new["slow"][..., columns]):
                seen[level].append(tick)
    assert seen == {"anchor": [4, 8, 12, 16], 0: [4, 8, 12, 16], 1: [8, 16]}


@pytest.mark.req("R-HOPE-12")
@pytest.mark.parametrize("config", [TINY, TOLD], ids=["tiny", "told"])
@FEW
@given(
    sense=EXTREMES,
    last=EXTREMES,
    pixel=st.sampled_from([0, 255]),
    spread=st.sampled_from([0.1, 30.0]),
)
def test_everything_stays_finite_under_any_finite_input(
    sense, last, pixel, spread, config
):
    params = parameters(config, spread=spread)
    obs = observations(config)
    obs["image"] = np.full_like(obs["image"], pixel)
    obs["proprio"] = np.full_like(obs["proprio"], sense)
    obs["previous_action"] = np.full_like(obs["previous_action"], last)
    run, state = sequence_of(config), hope.init_state(config, 2)
    for _ in range(4):
        state, output = run(params, state, obs)
        assert _finite((state, output))
        assert np.abs(output.action).max() <= 1.0


@pytest.mark.req("R-HOPE-12")
def test_a_slow_level_stays_bounded_where_its_key_never_changes():
    params = parameters(TINY)
    slow = params["blocks"]["0"]["slow"]
    slow["rate"] = jnp.full_like(slow["rate"], 20.0)
    slow["key"] = 50.0 * slow["key"]
    obs = observations(TINY, ticks=1)
    still = {name: np.repeat(value, 16, 1) for name, value in obs.items()}
    run, state, sizes = sequence_of(TINY), hope.init_state(TINY, 2), []
    for _ in range(40):
        state, _ = run(params, state, still)
        sizes.append(float(np.abs(state["blocks"]["0"]["slow"]).max()))
    assert sizes[1] > 0.0
    assert max(sizes) < 100.0


@pytest.mark.req("R-HOPE-15")
def test_every_row_of_every_memory_is_used():
    params, obs = parameters(TINY), observations(TINY)
    state, _ = sequence_of(TINY)(params, hope.init_state(TINY, 2), obs)
    block = state["blocks"]["0"]
    for name in ("memory", "anchor", "slow", "gradient"):
        rows = np.abs(block[name]).max(-1)
        assert rows.min() > 0.0, name
    assert np.abs(block["mid"]).min() > 0.0


@pytest.mark.req("R-HOPE-23")
def test_surprise_is_the_error_of_the_last_prediction():
    params, obs = parameters(TINY), observations(TINY)
    _, out = sequence_of(TINY)(params, hope.init_state(TINY, 2), obs)
    error = np.asarray(out.latent)[:, 1:] - np.asarray(out.prediction)[:, :-1]
    assert np.array_equal(out.surprise[:, 0], [0.0, 0.0])
    np.testing.assert_allclose(
        out.surprise[:, 1:], 0.5 * np.mean(error**2, -1), rtol=1e-5
    )
