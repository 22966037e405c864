"""The lean step and its fold are the network's own step, in another order.

So are numpy's step and the ONNX graph, each written once more.
"""

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
from continuon.edge.network import NumpyEngine
from continuon.edge.onnx import OnnxEngine
from continuon.edge.spec import Artifact, PolicySpec
from continuon.export.lean import fold, fold_state, lean_step, step_state
from continuon.export.lean_weights import rearrange
from continuon.export.onnx_graph import to_onnx
from continuon.hope.checkpoint import Checkpoint, flatten

pytestmark = [pytest.mark.law, pytest.mark.slow]
SPEC = PolicySpec(
    name="law",
    image_height=0,
    image_width=0,
    proprio=(),
    action=(),
    use_previous_action=False,
    control_rate_hz=50.0,
    state={},
    config_digest="",
    checkpoint_sha256="",
    golden_sha256="",
    artifacts=(),
    parameters=0,
)
ENTRY = Artifact(path="policy.onnx", backend="onnxruntime", bytes=0, sha256="")
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


def run_numpy(config, params, obs, *, ticks):
    """Return what `run_lean` returns, of the robot's own step in single precision."""
    tensors = {n: np.asarray(v, np.float32) for n, v in flatten(params).items()}
    engine = NumpyEngine(config.as_dict(), tensors)
    told = [
        engine.advance({n: v[0].astype(np.float32) for n, v in at(obs, tick).items()})
        for tick in range(ticks)
    ]
    return tuple(np.stack(part)[:, None] for part in zip(*told, strict=True))


def run_onnx(config, params, obs, *, ticks, folder):
    """Return what `run_lean` returns, of the ONNX graph and its fold."""
    single = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
    path = folder / "policy.onnx"
    path.write_bytes(to_onnx(Checkpoint(config, single, {}, "")))
    spec = attrs.evolve(
        SPEC,
        proprio=config.proprio,
        action=config.action,
        use_previous_action=config.use_previous_action,
    )
    engine = OnnxEngine(path, spec, attrs.evolve(ENTRY, fold_every=folds(config)))
    engine.reset()
    told = [
        engine.advance({n: v[0].astype(np.float32) for n, v in at(obs, tick).items()})
        for tick in range(ticks)
    ]
    return tuple(np.stack(part)[:, None] for part in zip(*told, strict=True))


def folds(config):
    return config.chunk if fold_state(config) else 0


def furthest_lean(config, *, folder, seed=3, ticks=45, dtype=np.float64):
    """Return the largest differences from `hope.step`, of actions and surprises.

    Of the lean step, then of numpy's and ONNX Runtime's; and how far the actions move.
    """
    params = parameters(config, seed=seed, dtype=dtype)
    obs = observations(config, ticks=ticks, seed=seed + 1, dtype=dtype)
    obs = {name: value[:1] for name, value in obs.items()}
    state = hope.init_state(config, 1, dtype=dtype)
    actions, surprises = [], []
    for tick in range(ticks):
        state, output = step_of(config)(params, state, at(obs, tick))
        actions.append(output.action[0])
        surprises.append(output.surprise[0])
    wanted = (np.stack(actions), np.stack(surprises))
    answers = (
        run_lean(config, params, obs, ticks=ticks, dtype=dtype),
        run_numpy(config, params, obs, ticks=ticks),
        run_onnx(config, params, obs, ticks=ticks, folder=folder),
    )
    errors = [
        max(
            np.abs(a.reshape(b.shape) - b).max() / max(1.0, np.abs(b).max())
            for a, b in zip(seen, wanted, strict=True)
        )
        for seen in answers
    ]
    return (*errors, float(np.ptp(wanted[0])))


@pytest.mark.req("R-EXPORT-10")
@pytest.mark.req("R-EDGE-10")
@pytest.mark.parametrize(
    "changes",
    [
        {"layers": 2, "periods": (8, 12, 24)},
        {"unit_keys": True, "convolution_width": 2},
        {"straight_action": True},
        {"online": False, "action_chunk": 2, "action_levels": ("throttle",)},
        {"self_modifying": False},
        {"mid_turns": True},
    ],
    ids=str,
)
def test_each_order_is_the_same_algebra_as_the_step(changes, tmp_path):
    with jax.enable_x64(True):
        config = attrs.evolve(BLIND, **changes)
        lean, plain, onnx, moved = furthest_lean(config, folder=tmp_path)
    assert lean < 1e-10
    assert plain < 1e-5
    assert onnx < 1e-5
    assert moved > 0.01
