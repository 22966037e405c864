"""The lean step of a checkpoint as two functions of named, flat tensors."""

from __future__ import annotations

from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np

from continuon.export.lean import fold, fold_state, lean_step, step_state
from continuon.export.lean_weights import rearrange
from continuon.export.lowering import STATE_PREFIX, Lowered, senses
from continuon.hope.checkpoint import Checkpoint

__all__ = ["Lean", "layer_products", "lower_lean"]


@attrs.frozen(kw_only=True)
class Lean:
    """What a `.tflite` holds.

    Attributes:
        step: one tick; senses and `state/...` in, `action`, `surprise`, the `state/...`
            that changed and `log/...` out.
        fold: `state/...` and `log/...` in, `state/...` out; None where none is needed.
        every: fold before each step whose number is a positive multiple of this.
    """

    step: Lowered
    fold: Lowered | None
    every: int


def lower_lean(checkpoint: Checkpoint) -> Lean:
    """Return the step and the fold."""
    config = checkpoint.config
    weights = rearrange(checkpoint.params, config)
    params = jax.tree.map(jnp.asarray, checkpoint.params)
    sensed = senses(config)
    state = _zeros(step_state(config))

    def step(*arrays: jax.Array) -> dict[str, jax.Array]:
        obs = dict(zip(sensed, arrays, strict=False))
        before = dict(zip(state, arrays[len(sensed) :], strict=True))
        new, told = lean_step(params, weights, config, before, obs)
        return told | {STATE_PREFIX + name: value for name, value in new.items()}

    named = {STATE_PREFIX + name: value for name, value in state.items()}
    held = _zeros(fold_state(config))

    def folded(*arrays: jax.Array) -> dict[str, jax.Array]:
        return fold(weights, config, dict(zip(held, arrays, strict=True)))

    return Lean(
        step=_lowered(step, sensed | named),
        fold=_lowered(folded, held) if held else None,
        every=config.chunk if held else 0,
    )


def layer_products(checkpoint: Checkpoint) -> tuple[np.ndarray[Any, Any], ...]:
    """Return the layers' matrices as they stand in the lean step."""
    weights = rearrange(checkpoint.params, checkpoint.config)
    return tuple(matrix for block in weights.blocks for matrix in block.products)


def _zeros(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def _lowered(function: Any, inputs: dict[str, np.ndarray[Any, Any]]) -> Lowered:
    """Fix the order of the outputs, which is by name."""
    outputs = tuple(sorted(jax.eval_shape(function, *inputs.values())))

    def ordered(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        named = function(*arrays)
        return tuple(named[name] for name in outputs)

    return Lowered(ordered, inputs, outputs)
