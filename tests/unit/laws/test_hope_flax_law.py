"""The Flax module is the functions over the same parameters."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache

import attrs
import chex
import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon import hope
from continuon._specs.hope.contract import check_output, check_state
from continuon._specs.hope.examples import (
    RICH,
    TINY,
    TOLD,
    at,
    observations,
    parameters,
    sequence_of,
    step_of,
)
from continuon.hope.checkpoint import flatten
from continuon.hope.flax_module import Frozen

pytestmark = [pytest.mark.law, pytest.mark.slow]
CONFIGS = (TINY, RICH, TOLD, attrs.evolve(TINY, online=False, self_modifying=False))


@lru_cache
def merged(config):
    """Return the module's two orders as functions of its leaves, compiled."""
    graph, _ = nnx.split(hope.HopeModule(config, parameters(config)))

    def step(leaves, state, obs):
        return nnx.merge(graph, leaves)(state, obs)

    def sequence(leaves, state, obs):
        return nnx.merge(graph, leaves).sequence(state, obs)

    return jax.jit(step), jax.jit(sequence)


@pytest.mark.req("R-HOPE-06")
@pytest.mark.req("R-HOPE-10")
@pytest.mark.parametrize("config", CONFIGS, ids=["tiny", "rich", "told", "bare"])
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_the_module_gives_what_the_functions_give(seed, config):
    params, obs = parameters(config, seed=seed), observations(config, seed=seed)
    module = hope.HopeModule(config, params)
    leaves, state = nnx.state(module), module.initial_state(2)
    step, sequence = merged(config)
    one = step(leaves, state, at(obs, 0))
    many = sequence(leaves, state, obs)
    own = step_of(config)(params, state, at(obs, 0))
    chex.assert_trees_all_close(one, own, atol=1e-5)
    own = sequence_of(config)(params, state, obs)
    chex.assert_trees_all_close(many, own, atol=1e-5)
    for answer, ticks in ((one, None), (many, 16)):
        check_state(config, answer[0], 2)
        check_output(config, answer[1], 2, ticks)


@pytest.mark.req("R-HOPE-06")
@pytest.mark.req("R-HOPE-30")
def test_its_gradient_is_the_functions_own_and_the_frozen_have_none():
    params, obs = parameters(TINY), observations(TINY)
    module, state = hope.HopeModule(TINY, params), hope.init_state(TINY, 2)
    graph, free, frozen = nnx.split(module, nnx.Param, Frozen)

    def loss(run, state, obs):
        return run(state, obs)[1].action.sum()

    slope = jax.jit(
        jax.grad(lambda free: loss(nnx.merge(graph, free, frozen).sequence, state, obs))
    )(free)
    told = flatten(nnx.to_pure_dict(slope)["params"])

    def functional(tree):
        return loss(lambda s, o: hope.sequence(tree, TINY, s, o), state, obs)

    wanted = flatten(jax.jit(jax.grad(functional))(params))
    assert set(told) == {name for name in wanted if not name.startswith("frozen/")}
    for name, value in told.items():
        np.testing.assert_allclose(value, wanted[name], atol=1e-5, err_msg=name)


@pytest.mark.req("R-HOPE-06")
def test_a_module_and_a_checkpoint_are_the_same_parameters(tmp_path):
    module = hope.HopeModule.fresh(TINY, rngs=nnx.Rngs(params=3))
    other = hope.HopeModule.fresh(TINY, rngs=nnx.Rngs(params=4))
    hope.save_checkpoint(tmp_path / "m.hope", TINY, module.tree, metadata={})
    again = hope.HopeModule.of(hope.load_checkpoint(tmp_path / "m.hope"))
    chex.assert_trees_all_equal(again.tree, module.tree)
    differ = flatten(module.tree)["heads/action"] != flatten(other.tree)["heads/action"]
    assert differ.any()


def test_a_broken_state_or_answer_breaks_the_contract():
    state = hope.init_state(TINY, 2)
    check_state(TINY, state, 2)
    for broken in (
        {**state, "tick": np.float32(0)},
        {**state, "prediction": state["prediction"][:, 1:]},
        {**state, "prediction": state["prediction"] + np.nan},
        {name: value for name, value in state.items() if name != "frame"},
    ):
        with pytest.raises(AssertionError):
            check_state(TINY, broken, 2)
    _, output = step_of(TINY)(parameters(TINY), state, at(observations(TINY), 0))
    check_output(TINY, output, 2)
    for broken in (
        output._replace(chunk=output.chunk + 2.0),
        output._replace(surprise=output.surprise - 1.0),
        output._replace(action=output.action[:1]),
        output._replace(write_strength=output.write_strength + 2.0),
    ):
        with pytest.raises(AssertionError):
            check_output(TINY, broken, 2)


def test_nobody_loads_flax_who_does_not_ask_for_the_module():
    script = (
        "import sys; from continuon import hope; hope.preset('nano'); hope.step; "
        "assert 'flax' not in sys.modules; hope.HopeModule; assert 'flax' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
