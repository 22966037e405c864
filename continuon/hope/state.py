"""The recurrent state: an explicit tree of fixed shapes, reset at episode ends."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from continuon.hope.config import HopeConfig

__all__ = ["State", "init_state"]

State = dict[str, Any]


def init_state(config: HopeConfig, batch: int, *, dtype: Any = jnp.float32) -> State:
    """Return the state before the first tick of an episode: all zeros.

    Axes, batch first: `tick` int32 scalar; `prediction` [B, latent]; with motion
    bands `frame` [B, h, w], the last frame; per block
    `window` [B, taps-1, 3*heads*size], `memory` [B, heads, size, memory_size],
    `anchor` [B, heads, size, self_size], `mid` [B, units] (of pairs that turn first all
    first units, then the second), and, with online writes,
    `key` [B, m], `slow` and `gradient` [B, m, levels*d].
    """

    def zeros(*shape: int) -> jax.Array:
        return jnp.zeros((batch, *shape), dtype)

    heads, size = config.heads, config.head_size

    def block() -> State:
        values = {
            "window": zeros(config.convolution_width - 1, 3 * heads * size),
            "memory": zeros(heads, size, config.memory_size),
            "mid": zeros(config.mid_units),
        }
        if config.self_modifying:
            values["anchor"] = zeros(heads, size, config.self_size)
        if config.online:
            columns = len(config.periods) * config.d
            values["key"] = zeros(config.slow_key)
            values["slow"] = zeros(config.slow_key, columns)
            values["gradient"] = zeros(config.slow_key, columns)
        return values

    sensed = {}
    if config.senses_motion:
        sensed["frame"] = zeros(config.image_height, config.image_width)
    return {
        **sensed,
        "tick": jnp.zeros((), jnp.int32),
        "prediction": zeros(config.latent),
        "blocks": {str(index): block() for index in range(config.layers)},
    }
