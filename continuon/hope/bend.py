"""From the action head's sums to actions in [-1, 1]: by tanh, or straight and cut."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from continuon.hope.config import HopeConfig

__all__ = ["bent"]


def bent(config: HopeConfig, raw: jax.Array) -> jax.Array:
    """Return actions [..., A] in [-1, 1] of the head's sums [..., A]."""
    if config.straight_action:
        return _cut(raw)
    return jnp.clip(jnp.tanh(raw), -1.0, 1.0)


@jax.custom_jvp
def _cut(raw: jax.Array) -> jax.Array:
    return jnp.clip(raw, -1.0, 1.0)


@_cut.defjvp
def _through(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # a sum that is beyond 1 on the wrong side must still be told the way back
    return _cut(primals[0]), tangents[0]
