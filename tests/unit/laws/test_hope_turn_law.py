"""Pairs of Mid's units turn by angles of the input, and forget as they did."""

from __future__ import annotations

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon import hope
from continuon._specs.hope.examples import (
    QUICK,
    TINY,
    furthest,
    observations,
    parameters,
    sequence_of,
)
from continuon.hope import mid
from continuon.hope.stability import spectral_radius

pytestmark = [pytest.mark.law, pytest.mark.slow]
TURNING = attrs.evolve(TINY, mid_turns=True)
SEEDS = st.integers(0, 2**16)
UNITS, PAIRS = TINY.mid_units, TINY.mid_units // 2


def layer(*, seed=0, config=TURNING, dtype=np.float64):
    return parameters(config, seed=seed, dtype=dtype)["blocks"]["0"]["mid"]


def inputs(*shape, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(scale * rng.standard_normal((*shape, TINY.d)))


@pytest.mark.req("R-HOPE-87")
@pytest.mark.parametrize("config", [TINY, TURNING], ids=["fades", "turns"])
def test_both_forms_of_a_chunk_are_the_same_algebra_as_ticks(config):
    with jax.enable_x64(True):
        params, x = layer(config=config), inputs(3, 16)
        hidden = jnp.asarray(np.random.default_rng(1).standard_normal((3, UNITS)))
        keep, drive, _ = mid._gates(params, x)
        quick = mid._associative_scan(keep, drive, hidden)
        assert furthest(mid._scan(keep, drive, hidden), quick) < 1e-12
        last, told = mid.mid_chunk(params, hidden, x)
        for tick in range(16):
            hidden, read = mid.mid_step(params, hidden, x[:, tick])
            assert furthest(read, told[:, tick]) < 1e-12
        assert furthest(hidden, last) < 1e-12


@pytest.mark.req("R-HOPE-87")
@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_two_states_come_nearer_by_what_is_forgotten_and_never_part(seed):
    with jax.enable_x64(True):
        params, x = layer(seed=seed), inputs(1, 8, seed=seed, scale=3.0)
        rng = np.random.default_rng(seed)
        states = jnp.asarray(rng.standard_normal((2, UNITS)))
        rest = np.logaddexp(params["decay"], 0.0)
        for tick in range(8):
            apart = np.hypot(*np.split(np.asarray(states[0] - states[1]), 2))
            states, _ = mid.mid_step(params, states, jnp.repeat(x[:, tick], 2, 0))
            now = np.hypot(*np.split(np.asarray(states[0] - states[1]), 2))
            assert np.all(now < apart)
            assert np.all(now >= apart * np.exp(-8.0 * rest - 1e-4))


@pytest.mark.req("R-HOPE-87")
def test_angles_add_up_whatever_their_order_where_nothing_is_forgotten():
    with jax.enable_x64(True):
        params = layer()
        params["decay"] = jnp.full_like(params["decay"], -40.0)
        x = inputs(1, 16)
        ends = []
        for order in (np.arange(16), np.arange(16)[::-1]):
            end, _ = mid.mid_chunk(params, jnp.zeros((1, UNITS)), x[:, order])
            ends.append(np.asarray(end))
        normed = x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + 1.0)
        angle = np.asarray((normed * params["norm"] @ params["turn"]).sum(1))
        wanted = np.concatenate([np.cos(angle) - 1.0, np.sin(angle)], -1)
    # 16 ticks forget and add 1e-5 and its root of what is there
    np.testing.assert_allclose(ends[0], wanted, atol=0.05)
    np.testing.assert_allclose(ends[1], wanted, atol=0.05)
    assert np.ptp(wanted) > 1.0


@pytest.mark.req("R-HOPE-87")
@settings(max_examples=4, deadline=None)
@given(SEEDS)
def test_at_rest_nothing_turns_and_everything_fades(seed):
    params = layer(seed=seed, dtype=np.float32)
    hidden = jnp.ones((1, UNITS))
    after, _ = mid.mid_step(params, hidden, jnp.zeros((1, TINY.d)))
    most = spectral_radius(
        {"blocks": {"0": parameters(TURNING, seed=seed)["blocks"]["0"]}}
    )
    assert most < 1.0
    kept = np.exp(-4.0 * np.logaddexp(np.asarray(params["decay"]), 0.0) - 1e-5)
    np.testing.assert_allclose(after[0], np.tile(kept, 2), rtol=1e-5)
    still, _ = mid.mid_step(params, jnp.zeros((1, UNITS)), jnp.zeros((1, TINY.d)))
    assert np.all(np.asarray(still) == 0.0)


@pytest.mark.req("R-HOPE-12")
def test_pairs_stay_bounded_whatever_is_sensed():
    params = parameters(TURNING, spread=10.0)
    obs = observations(TURNING, ticks=64, scale=100.0)
    state, out = sequence_of(TURNING)(params, hope.init_state(TURNING, 2), obs)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, out)))


@pytest.mark.req("R-HOPE-30")
def test_what_is_sensed_later_changes_no_pair_earlier():
    params, x = layer(dtype=np.float32), np.float32(inputs(1, 8))

    def told(x):
        return mid.mid_chunk(params, jnp.zeros((1, UNITS)), x)[1][0, 3].sum()

    slope = jax.jit(jax.grad(told), compiler_options=QUICK)(x)[0]
    assert np.any(slope[:4]), "the past counts"
    assert not np.any(slope[4:])


@pytest.mark.req("R-HOPE-84")
def test_a_network_that_does_not_turn_is_what_it_was():
    plain = hope.init(0, TINY)["blocks"]["0"]["mid"]
    turning = hope.init(0, TURNING)["blocks"]["0"]["mid"]
    assert "turn" not in plain
    assert plain["gates"].shape == (UNITS, 2 * UNITS)
    assert turning["gates"].shape == (UNITS, UNITS + PAIRS)
    assert turning["turn"].shape == (TINY.d, PAIRS)
    assert np.asarray(turning["turn"]).std() > 0.3
