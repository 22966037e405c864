"""What goes in is checked, what comes out is bounded, what trains gets gradient."""

from __future__ import annotations

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from continuon import hope
from continuon._specs.hope.examples import (
    QUICK,
    TINY,
    TOLD,
    at,
    observations,
    parameters,
    step_of,
)
from continuon.errors import ContractError
from continuon.hope.checkpoint import flatten
from continuon.hope.target import box_mean_matrix


@pytest.mark.slow
@pytest.mark.req("R-HOPE-30")
@pytest.mark.parametrize("config", [TINY, TOLD], ids=["tiny", "told"])
def test_every_trainable_parameter_gets_gradient_and_the_frozen_none(config):
    params, obs = parameters(config), observations(config)

    def loss(params):
        state = hope.init_state(config, 2)
        _, out = hope.sequence(params, config, state, obs, remat=False)
        return jnp.mean(jnp.abs(out.action - 0.5)) + jnp.mean(out.surprise)

    slopes = flatten(jax.jit(jax.grad(loss), compiler_options=QUICK)(params))
    mask = flatten(hope.trainable_mask(params))
    assert {name for name, slope in slopes.items() if np.any(slope)} == {
        name for name, free in mask.items() if free
    }
    assert all(np.isfinite(slope).all() for slope in slopes.values())
    assert [name for name, free in mask.items() if not free] == [
        "frozen/columns",
        "frozen/projection",
        "frozen/rows",
    ]


@pytest.mark.slow
@pytest.mark.req("R-HOPE-21")
@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_actions_reach_both_ends(end):
    params = parameters(TINY)
    params["heads"]["action_bias"] = jnp.full(2, 50.0 * end)
    obs, state = at(observations(TINY), 0), hope.init_state(TINY, 2)
    action = step_of(TINY)(params, state, obs)[1].action
    assert np.array_equal(action, np.full((2, 2), end, np.float32))


@pytest.mark.slow
@pytest.mark.req("R-HOPE-05")
def test_a_step_is_traced_once_however_often_it_runs():
    traces = []

    def counted(params, state, obs):
        traces.append(1)
        return hope.step(params, TINY, state, obs)

    step, obs = jax.jit(counted, compiler_options=QUICK), observations(TINY)
    params, state = parameters(TINY), hope.init_state(TINY, 2)
    for tick in range(6):
        state, _ = step(params, state, at(obs, tick))
    assert len(traces) == 1


@pytest.mark.req("R-HOPE-04")
def test_a_length_that_fills_no_whole_chunks_is_refused_with_both_numbers():
    params, state = parameters(TINY), hope.init_state(TINY, 2)
    with pytest.raises(ContractError, match=r"10 ticks .* chunks of 4") as caught:
        hope.sequence(params, TINY, state, observations(TINY, ticks=10))
    assert caught.value.code == "E-HOPE-CHUNK-001"


@pytest.mark.req("R-HOPE-04")
def test_a_state_inside_a_chunk_is_refused_with_both_numbers():
    state = hope.init_state(TINY, 2) | {"tick": jnp.asarray(3, jnp.int32)}
    with pytest.raises(ContractError, match=r"tick 3, inside a chunk of 4") as caught:
        hope.sequence(parameters(TINY), TINY, state, observations(TINY, ticks=8))
    assert caught.value.code == "E-HOPE-CHUNK-002"


@pytest.mark.req("R-HOPE-20")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda obs: obs.pop("proprio"), "E-HOPE-OBS-001"),
        (lambda obs: obs.update(action=obs["previous_action"]), "E-HOPE-OBS-001"),
        (lambda obs: obs.update(image=obs["image"] / 255.0), "E-HOPE-OBS-002"),
        (lambda obs: obs.update(image=obs["image"][:, :4]), "E-HOPE-OBS-002"),
        (lambda obs: obs.update(proprio=obs["proprio"][:1]), "E-HOPE-OBS-002"),
        (lambda obs: obs.update(proprio=obs["proprio"] > 0), "E-HOPE-OBS-002"),
    ],
)
def test_a_wrong_observation_is_refused(change, code):
    obs = at(observations(TINY), 0)
    change(obs)
    with pytest.raises(ContractError) as caught:
        hope.step(parameters(TINY), TINY, hope.init_state(TINY, 2), obs)
    assert caught.value.code == code


@pytest.mark.req("R-HOPE-22")
def test_the_target_is_fixed_by_the_config_alone():
    first, second = hope.init(0, TINY), hope.init(jax.random.key(7), TINY)
    for name, value in first["frozen"].items():
        assert np.array_equal(value, second["frozen"][name])
    other = hope.init(0, attrs.evolve(TINY, proprio=("yaw_rate_rad_s",)))
    assert not np.array_equal(
        first["frozen"]["projection"], other["frozen"]["projection"]
    )
    assert not np.array_equal(first["heads"]["action"], second["heads"]["action"])


@pytest.mark.parametrize(("cells", "pixels"), [(6, 30), (8, 40), (6, 8), (5, 7)])
def test_box_means_keep_a_constant_and_the_mean(cells, pixels):
    matrix = box_mean_matrix(cells, pixels)
    np.testing.assert_allclose(matrix.sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(matrix.mean(0), 1.0 / pixels, rtol=1e-6)


@pytest.mark.req("R-HOPE-13")
@pytest.mark.parametrize("name", ["seed", "nano", "pi5"])
def test_fresh_networks_forget_at_rest(name):
    assert 0.9 < hope.spectral_radius(hope.init(0, hope.preset(name))) < 1.0


@pytest.mark.req("R-HOPE-13")
def test_the_radius_is_below_one_for_any_decay_and_shows_a_broken_one():
    params = parameters(TINY)
    mid = params["blocks"]["0"]["mid"]
    mid["decay"] = jnp.full_like(mid["decay"], -1e9)
    assert hope.spectral_radius(params) < 1.0
    mid["decay"] = jnp.full_like(mid["decay"], -8.0)
    rest = 4.0 * np.log1p(np.exp(-8.0))
    assert hope.spectral_radius(params) == pytest.approx(np.exp(-rest - 1e-5), rel=1e-6)
    mid["decay"] = jnp.full_like(mid["decay"], jnp.nan)
    assert np.isnan(hope.spectral_radius(params))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("seed", 3e4, 5e4), ("nano", 2e5, 3e5), ("pi5", 1.5e6, 2e6)],
)
def test_presets_have_the_size_that_their_names_promise(name, low, high):
    assert low < hope.count_parameters(hope.init(0, hope.preset(name))) < high


@pytest.mark.slow
@pytest.mark.req("R-HOPE-34")
def test_a_robot_s_first_policy_does_not_jerk_whatever_it_sees():
    """Unlike fresh parameters, whose head jumps across much of its range."""
    params, obs = parameters(TINY), observations(TINY)
    jumps = []
    for seen in (params, hope.near_neutral(params)):
        _, out = hope.sequence(seen, TINY, hope.init_state(TINY, 2), obs, remat=False)
        jumps.append(float(np.abs(np.diff(out.action, axis=1)).max()))
    assert jumps[1] < 0.05 < 0.2 < jumps[0]


def test_taps_on_the_past_start_at_zero_unless_asked_for():
    for most in (0.0, 0.5):
        fast = hope.init(0, TINY, past_taps=most)["blocks"]["0"]["fast"]
        past, now = np.asarray(fast["taps"][:-1]), np.asarray(fast["taps"][-1])
        assert (now == 1.0).all()
        assert bool(past.any()) == (most > 0)
        assert np.abs(past).max() <= most


def test_networks_for_symbols_start_with_longer_memories():
    for unit_keys, least in ((False, 2.0), (True, 4.0)):
        config = attrs.evolve(TINY, unit_keys=unit_keys)
        fast = hope.init(0, config)["blocks"]["0"]["fast"]
        assert fast["gates_bias"][config.heads :].min() == least
