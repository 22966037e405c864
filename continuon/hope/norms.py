"""Norms that keep magnitudes: small vectors pass unchanged, large ones are bounded.

Control needs amplitude; the usual norms of token models throw it away.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["soft", "soft_unit", "unit"]


def soft(x: jax.Array, gain: jax.Array | float = 1.0) -> jax.Array:
    """Return gain * x / sqrt(1 + mean(x^2)) over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1.0) * gain


def unit(x: jax.Array) -> jax.Array:
    """Return x / |x| over the last axis, where |x| is not far below 1e-3."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, -1, keepdims=True) + 1e-6)


def soft_unit(x: jax.Array) -> jax.Array:
    """Return x / sqrt(1 + |x|^2) over the last axis; its length stays below 1."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, -1, keepdims=True) + 1.0)
