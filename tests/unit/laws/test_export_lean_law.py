"""The lean step and its fold are the network's own step, in another order."""

from __future__ import annotations

import attrs
import jax
import numpy as np
import pytest

from continuon import hope
from continuon._specs.hope.examples import (
    QUICK,
    TINY,
    at,
    observations,
    parameters,
    step_of,
)
from continuon.export.lean import fold, fold_state, lean_step, step_state
from continuon.export.lean_weights import rearrange

pytestmark = [pytest.mark.law, pytest.mark.slow]
BLIND = attrs.evolve(TINY, image_height=0, image_width=0, periods=(4, 8, 24))


def run_lean(config, params, obs, *, ticks, dtype):
    """Return actions [T, A] and surprises [T]; what `fold` is told is kept by row."""
    weights = rearrange(params, config, dtype)
    step = jax.jit(
        lambda state, seen: lean_step(params, weights, config, state, seen),
        compiler_options=QUICK,
    )
    folded = jax.jit(lambda held: fold(weights, config, held), compiler_options=QUICK)
    state = {k: np.zeros(v, dtype) for k, v in step_state(config).items()}
    held = {k: np.zeros(v, dtype) for k, v in fold_state(config).items()}
    actions, surprises = [], []
    for tick in range(ticks):
        row = tick % config.chunk
        if held and tick and row == 0:
            for name in set(held) & {f"state/{key}" for key in state}:
                held[name] = state[name.removeprefix("state/")]
            given_back = folded(held)
            held |= {n: v for n, v in given_back.items() if n in held}
            state |= {
                name.removeprefix("state/"): value
                for name, value in given_back.items()
                if name.removeprefix("state/") in state
            }
        new, told = step(state, at(obs, tick))
        state |= new
        for name in [n for n in told if n.startswith("log/")]:
            held[name][row] = told[name][0]
        actions.append(told["action"][0])
        surprises.append(told["surprise"][0])
    return np.stack(actions), np.stack(surprises)


def furthest_lean(config, *, seed, ticks, dtype):
    """Return the largest difference from `hope.step`, of actions and surprises."""
    params = parameters(config, seed=seed, dtype=dtype)
    obs = observations(config, ticks=ticks, seed=seed + 1, dtype=dtype)
    obs = {name: value[:1] for name, value in obs.items()}
    state = hope.init_state(config, 1, dtype=dtype)
    actions, surprises = [], []
    for tick in range(ticks):
        state, output = step_of(config)(params, state, at(obs, tick))
        actions.append(output.action[0])
        surprises.append(output.surprise[0])
    seen = run_lean(config, params, obs, ticks=ticks, dtype=dtype)
    wanted = (np.stack(actions), np.stack(surprises))
    errors = [
        np.abs(a - b).max() / max(1.0, np.abs(b).max())
        for a, b in zip(seen, wanted, strict=True)
    ]
    return max(errors), float(np.ptp(wanted[0]))


@pytest.mark.req("R-EXPORT-10")
@pytest.mark.parametrize(
    "changes",
    [
        {"layers": 2, "periods": (8, 12, 24)},
        {"unit_keys": True, "convolution_width": 2},
        {"online": False, "action_chunk": 2},
        {"self_modifying": False},
    ],
    ids=str,
)
def test_lean_is_the_same_algebra_as_the_step_in_double_precision(changes):
    with jax.enable_x64(True):
        config = attrs.evolve(BLIND, **changes)
        error, moved = furthest_lean(config, seed=3, ticks=45, dtype=np.float64)
    assert error < 1e-10
    assert moved > 0.01
