"""Adapters: silent at first, equal merged or beside, bounded, never dropped."""

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
    at,
    furthest,
    observations,
    parameters,
    step_of,
)
from continuon.errors import ContractError, DataError
from continuon.hope.adapter import held_adapter
from continuon.tensorfile import write_tensors

OBS = at(observations(TINY), 0)


def _trained(params, *, seed=0, scale=0.3):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda a: jnp.asarray(a + scale * rng.standard_normal(a.shape), a.dtype),
        hope.init_adapter(seed, params, rank=3),
    )


@pytest.mark.req("R-HOPE-40")
def test_whoever_uses_an_adapter_holds_it_to_half_its_weight_unless_told():
    params = parameters(TINY)
    loud = _trained(params, scale=30.0)
    before = params["heads"]["action"]
    held = held_adapter(params, loud)["heads/action"]
    used = hope.attach_adapter(params, loud)["heads"]["action"]
    merged = hope.merge_adapter(params, loud)["heads"]["action"]
    half = pytest.approx(0.5 * np.linalg.norm(before), rel=1e-3)
    for change in (held["down"] @ held["up"], used.down @ used.up, merged - before):
        assert np.linalg.norm(change) == half


@pytest.mark.slow
@pytest.mark.req("R-HOPE-40")
def test_a_fresh_adapter_changes_nothing():
    params, state = parameters(TINY), hope.init_state(TINY, 2)
    adapter = hope.init_adapter(0, params)
    plain = step_of(TINY)(params, state, OBS)
    merged = step_of(TINY)(hope.merge_adapter(params, adapter), state, OBS)
    beside = step_of(TINY)(hope.attach_adapter(params, adapter), state, OBS)
    assert furthest(plain, merged) == 0.0
    assert furthest(plain, beside) < 1e-6


@pytest.mark.slow
@pytest.mark.req("R-HOPE-40")
def test_merged_and_separate_adapters_answer_alike_and_unlike_the_base():
    params, state = parameters(TINY), hope.init_state(TINY, 2)
    adapter = _trained(params)
    step = step_of(TINY)
    for _ in range(3):
        merged, left = step(hope.merge_adapter(params, adapter), state, OBS)
        beside, right = step(hope.attach_adapter(params, adapter), state, OBS)
        assert furthest((merged, left), (beside, right)) < 1e-5
        assert furthest(left.action, step(params, state, OBS)[1].action) > 1e-3
        state = merged


@pytest.mark.req("R-HOPE-41")
@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 1e6), st.floats(0.05, 1.0))
def test_the_product_stays_within_its_share_of_the_weight(scale, bound):
    params = parameters(TINY)
    adapter = _trained(params, scale=scale)
    merged = hope.merge_adapter(params, adapter, bound=bound)
    for path in ("heads/action", "blocks/0/mid/out"):
        *branches, name = path.split("/")
        before, after = params, merged
        for branch in branches:
            before, after = before[branch], after[branch]
        size = np.linalg.norm(before[name])
        assert np.linalg.norm(after[name] - before[name]) <= bound * size * 1.001


@pytest.mark.req("R-HOPE-42")
def test_an_adapter_of_another_network_is_refused_by_name():
    params = parameters(TINY)
    adapter = hope.init_adapter(0, params)
    narrow = {
        **adapter,
        "heads/action": {"down": jnp.ones((9, 3)), "up": jnp.ones((3, 2))},
    }
    unknown = {**adapter, "heads/actoin": adapter["heads/action"]}
    for bad, path in ((narrow, "heads/action"), (unknown, "heads/actoin")):
        for use in (hope.merge_adapter, hope.attach_adapter):
            with pytest.raises(ContractError) as caught:
                use(params, bad)
            assert (caught.value.code, caught.value.where) == ("E-HOPE-LORA-002", path)


@pytest.mark.req("R-HOPE-42")
@pytest.mark.parametrize("pattern", ["heads/actoin", "frozen/*", "encoder/bias"])
def test_a_pattern_that_names_no_projection_is_refused(pattern):
    with pytest.raises(ContractError) as caught:
        hope.init_adapter(0, parameters(TINY), patterns=[pattern])
    assert caught.value.code == "E-HOPE-LORA-001"


@pytest.mark.slow
@pytest.mark.req("R-HOPE-43")
def test_training_the_adapter_moves_the_outputs_towards_the_labels():
    params, state = parameters(TINY), hope.init_state(TINY, 2)

    def loss(adapter):
        _, out = hope.step(hope.attach_adapter(params, adapter), TINY, state, OBS)
        return jnp.mean(jnp.abs(out.action - 0.9))

    slope = jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)
    adapter = _trained(params, scale=0.05)
    before, gradient = slope(adapter)
    # at the first tick of an episode the memories are empty, so their keys are idle
    assert all(np.any(part) for part in jax.tree.leaves(gradient["heads/action"]))
    for _ in range(20):
        _, gradient = slope(adapter)
        adapter = jax.tree.map(lambda a, g: a - 0.3 * g, adapter, gradient)
    assert slope(adapter)[0] < 0.8 * before


@pytest.mark.req("R-HOPE-42")
def test_an_adapter_file_is_read_back_and_bound_to_its_config(tmp_path):
    params = parameters(TINY)
    adapter, path = _trained(params), tmp_path / "a.lora"
    sha256 = hope.save_adapter(path, TINY, adapter, metadata={"steps": 5})
    loaded = hope.load_adapter(path, TINY)
    assert (loaded.sha256, loaded.metadata) == (sha256, {"steps": 5})
    assert furthest(loaded.adapter, adapter) == 0.0
    with pytest.raises(ContractError) as caught:
        hope.load_adapter(path, attrs.evolve(TINY, latent=9))
    assert caught.value.code == "E-HOPE-LORA-004"
    write_tensors(path, {}, {"kind": "other"})
    with pytest.raises(DataError) as other:
        hope.load_adapter(path, TINY)
    assert other.value.code == "E-HOPE-LORA-003"


@pytest.mark.req("R-HOPE-43")
def test_a_fresh_adapter_has_a_finite_gradient_at_once():
    weight = jnp.ones((4, 3))
    params = {"heads": {"action": weight}}

    def total(adapter):
        return jnp.sum(hope.merge_adapter(params, adapter)["heads"]["action"])

    fresh = {"heads/action": {"down": jnp.ones((4, 2)), "up": jnp.zeros((2, 3))}}
    slope = jax.grad(total)(fresh)["heads/action"]
    assert np.abs(slope["up"]).max() > 0
    assert all(np.isfinite(part).all() for part in slope.values())
