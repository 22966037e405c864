"""What a HOPE network's state and answers must look like, checked by chex."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from continuon.hope import HopeConfig, Output

__all__ = ["check_output", "check_state", "state_shapes"]


def state_shapes(config: HopeConfig, batch: int) -> dict[str, Any]:
    """Return the shape of every part of the state, as the contract has it."""
    heads, size, rows = config.heads, config.head_size, config.convolution_width - 1
    block: dict[str, tuple[int, ...]] = {
        "window": (batch, rows, 3 * heads * size),
        "memory": (batch, heads, size, config.memory_size),
        "mid": (batch, config.mid_units),
    }
    if config.self_modifying:
        block["anchor"] = (batch, heads, size, 2 * size + 2)
    if config.online:
        memory = (batch, config.slow_key, len(config.periods) * config.d)
        block |= {"key": (batch, config.slow_key), "slow": memory, "gradient": memory}
    shapes: dict[str, Any] = {
        "tick": (),
        "prediction": (batch, config.latent),
        "blocks": {str(index): block for index in range(config.layers)},
    }
    if config.motion_bands and config.image_height:
        shapes["frame"] = (batch, config.image_height, config.image_width)
    return shapes


def check_state(config: HopeConfig, state: Any, batch: int) -> None:
    """Check names, shapes, types and that all is finite.

    Raises:
        AssertionError: names the leaf.
    """
    shapes = state_shapes(config, batch)
    described = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        shapes,
        is_leaf=lambda shape: isinstance(shape, tuple),
    )
    described["tick"] = jax.ShapeDtypeStruct((), jnp.int32)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, described)
    chex.assert_tree_all_finite(state)


def check_output(
    config: HopeConfig, output: Output, batch: int, ticks: int | None = None
) -> None:
    """Check shapes, types and ranges of `step` (`ticks` None) or of `sequence`.

    Raises:
        AssertionError: names what is wrong.
    """
    lead = (batch,) if ticks is None else (batch, ticks)
    actions = len(config.action)
    shapes = Output(
        action=(*lead, actions),
        prediction=(*lead, config.latent),
        surprise=lead,
        latent=(*lead, config.latent),
        write_strength=lead,
        chunk=(*lead, config.action_chunk, actions),
    )
    described = Output(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    chex.assert_trees_all_equal_shapes_and_dtypes(output, described)
    chex.assert_tree_all_finite(output)
    assert float(jnp.abs(output.chunk).max()) <= 1.0, "an action is out of [-1, 1]"
    assert float(output.surprise.min()) >= 0.0, "surprise is negative"
    strength = output.write_strength
    assert 0.0 < float(strength.min()) <= float(strength.max()) < 2.0, "write strength"
