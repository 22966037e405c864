"""Step and sequence are one network: equal, splittable, causal, batch by batch."""

from __future__ import annotations

import attrs
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon import hope
from continuon._specs.hope.examples import (
    TINY,
    TOLD,
    between,
    furthest,
    observations,
    parameters,
    run_steps,
    sequence_of,
)

pytestmark = [pytest.mark.law, pytest.mark.slow]
SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=6, deadline=None)
EACH = pytest.mark.parametrize("config", [TINY, TOLD], ids=["tiny", "told"])


@pytest.mark.req("R-HOPE-01")
@EACH
def test_sequence_is_the_same_algebra_as_steps_in_double_precision(config):
    with jax.enable_x64(True):
        double = np.float64
        params = parameters(config, seed=3, dtype=double)
        obs = observations(config, seed=4, dtype=double)
        state = hope.init_state(config, 2, dtype=double)
        left = sequence_of(config)(params, state, obs)
        right = run_steps(config, params, state, obs)
        assert left[1].action.dtype == double
        assert furthest(left, right) < 1e-12


@pytest.mark.req("R-HOPE-01")
def test_sequence_follows_steps_in_single_precision_at_chunk_sixteen():
    config = attrs.evolve(TINY, chunk=16, periods=(16, 32))
    params = parameters(config, seed=1)
    obs = observations(config, ticks=32, seed=2)
    state = hope.init_state(config, 2)
    left = sequence_of(config)(params, state, obs)
    assert furthest(left, run_steps(config, params, state, obs)) < 1e-5


@pytest.mark.req("R-HOPE-01")
@EACH
@FEW
@given(seed=SEEDS)
def test_step_and_sequence_agree_for_any_weights_and_senses(seed, config):
    params, obs = parameters(config, seed=seed), observations(config, seed=seed + 1)
    state = hope.init_state(config, 2)
    left = sequence_of(config)(params, state, obs)
    assert furthest(left, run_steps(config, params, state, obs)) < 1e-5


@pytest.mark.req("R-HOPE-02")
@EACH
@FEW
@given(seed=SEEDS)
def test_a_sequence_may_be_split_at_every_chunk_boundary(seed, config):
    params, obs = parameters(config), observations(config, seed=seed)
    run, state = sequence_of(config), hope.init_state(config, 2)
    whole_state, whole = run(params, state, obs)
    parts = []
    for start in range(0, 16, config.chunk):
        state, part = run(params, state, between(obs, start, start + config.chunk))
        parts.append(part)
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves, 1), *parts)
    assert furthest((whole_state, whole), (state, joined)) < 1e-5


@pytest.mark.req("R-HOPE-03")
@EACH
@FEW
@given(seed=SEEDS, tick=st.integers(1, 15))
def test_no_output_sees_the_future(seed, tick, config):
    params, obs = parameters(config), observations(config, seed=seed)
    other = observations(config, seed=seed + 1)
    changed = {
        name: np.concatenate([value[:, :tick], other[name][:, tick:]], 1)
        for name, value in obs.items()
    }
    run, state = sequence_of(config), hope.init_state(config, 2)
    before, after = run(params, state, obs)[1], run(params, state, changed)[1]
    past = [jax.tree.map(lambda a: a[:, :tick], out) for out in (before, after)]
    assert furthest(*past) == 0.0
    assert furthest(before, after) > 0.0


@pytest.mark.req("R-HOPE-14")
@EACH
@FEW
@given(seed=SEEDS)
def test_a_row_of_the_batch_knows_nothing_of_its_neighbour(seed, config):
    params, obs = parameters(config), observations(config, seed=seed)
    other = observations(config, seed=seed + 1)
    mixed = {name: np.stack([value[0], other[name][1]]) for name, value in obs.items()}
    run, state = sequence_of(config), hope.init_state(config, 2)
    (_, left), (_, right) = run(params, state, obs), run(params, state, mixed)
    assert furthest(left.action[0], right.action[0]) == 0.0
    assert furthest(left.action[1], right.action[1]) > 0.0
