"""A product with a weight matrix, which may carry a low-rank adapter beside it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

__all__ = ["LowRank", "project"]


class LowRank(NamedTuple):
    """A weight [in, out] and its adapter: `down` [in, rank], `up` [rank, out]."""

    base: jax.Array
    down: jax.Array
    up: jax.Array


def project(x: jax.Array, weight: Any) -> jax.Array:
    """Return x @ weight, where an adapted weight is base + down @ up."""
    if isinstance(weight, LowRank):
        y: jax.Array = x @ weight.base + (x @ weight.down) @ weight.up
    else:
        y = x @ weight
    return y
