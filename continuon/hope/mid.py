"""Mid: a selective diagonal state-space layer (RG-LRU, De et al., arXiv 2402.19427)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from continuon.hope.fast import MIN_DECAY
from continuon.hope.norms import soft
from continuon.hope.parameters import Params
from continuon.hope.projection import project

__all__ = ["mid_chunk", "mid_step"]


def mid_step(
    params: Params, hidden: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return hidden [B, units] after one tick, and x [B, d] with its read."""
    keep, drive, gate = _gates(params, x)
    hidden = keep * hidden + drive
    return hidden, x + project(hidden * gate, params["out"])


def mid_chunk(
    params: Params, hidden: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the same as C calls of `mid_step`, for x [B, C, d]."""
    keep, drive, gate = _gates(params, x)
    states = jax.lax.platform_dependent(
        keep, drive, hidden, cpu=_scan, default=_associative_scan
    )
    return states[:, -1], x + project(states * gate, params["out"])


def _gates(params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    inputs, gate = jnp.split(project(soft(x, params["norm"]), params["inputs"]), 2, -1)
    recur, take = jnp.split(jax.nn.sigmoid(inputs @ params["gates"]), 2, -1)
    log_keep = -8.0 * jax.nn.softplus(params["decay"]) * recur - MIN_DECAY
    drive = jnp.sqrt(-jnp.expm1(2.0 * log_keep)) * take * inputs
    return jnp.exp(log_keep), drive, jax.nn.gelu(gate)


def _scan(keep: jax.Array, drive: jax.Array, hidden: jax.Array) -> jax.Array:
    """Evaluate tick by tick; twice as fast as the associative form on a CPU."""

    def tick(
        carry: jax.Array, inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        carry = inputs[0] * carry + inputs[1]
        return carry, carry

    ordered = jnp.moveaxis(keep, 1, 0), jnp.moveaxis(drive, 1, 0)
    return jnp.moveaxis(jax.lax.scan(tick, hidden, ordered)[1], 0, 1)


def _associative_scan(
    keep: jax.Array, drive: jax.Array, hidden: jax.Array
) -> jax.Array:
    """Evaluate in log2(C) parallel rounds, for accelerators."""

    def join(
        left: tuple[jax.Array, jax.Array], right: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        return left[0] * right[0], right[0] * left[1] + right[1]

    drive = drive.at[:, 0].add(keep[:, 0] * hidden)
    states: jax.Array = jax.lax.associative_scan(join, (keep, drive), axis=1)[1]
    return states
