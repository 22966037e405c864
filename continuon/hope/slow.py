"""Slow: a Continuum Memory System, a chain of levels written at their own periods.

Level l is an MLP plus an associative memory F_l [m, d] read by a key. F_l changes
only when the tick is a multiple of its period P_l, by what was accumulated since:

    G += key[t-1] (B_l e[t] - F_l^T key[t-1])     e: bounded prediction error
    F <- (1 - leak) (F + rate / P G),  G <- 0      rate in (0, 2), leak in (0, 1)

Keys are shorter than 1, so rate / P * sum(key key^T) has its eigenvalues below 2 and
F stays bounded for any input and any parameters. (Dividing by sqrt(P), as for short
periods, makes F diverge at P = 1024 on constant keys.)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from continuon.hope.config import HopeConfig
from continuon.hope.norms import soft, soft_unit
from continuon.hope.parameters import Params
from continuon.hope.projection import project

__all__ = ["accumulate", "due_levels", "slow_key", "slow_read", "write_due"]


def due_levels(config: HopeConfig, tick: jax.Array, dtype: Any) -> jax.Array:
    """Return [levels*d] of 0 and 1: which columns are written before this tick."""
    periods = jnp.asarray(config.periods, tick.dtype)
    due = (jax.lax.rem(tick, periods) == 0) & (tick > 0)
    return jnp.repeat(due.astype(dtype), config.d)


def accumulate(
    params: Params, gradient: jax.Array, slow: jax.Array, key: jax.Array, error: Any
) -> jax.Array:
    """Return G plus the terms of the ticks in `key` [B, T, m], `error` [B, T, n]."""
    residual = soft(error) @ params["feedback"] - key @ slow
    return gradient + jnp.einsum("btm,btc->bmc", key, residual)


def write_due(
    params: Params, config: HopeConfig, slow: jax.Array, gradient: jax.Array, due: Any
) -> tuple[jax.Array, jax.Array]:
    """Return F and G after the writes that `due` names."""
    periods = jnp.asarray(config.periods, due.dtype)
    rate = jnp.repeat(2.0 * jax.nn.sigmoid(params["rate"]) / periods, config.d)
    leak = jnp.repeat(jax.nn.sigmoid(params["leak"]), config.d)
    slow = (1.0 - due * leak) * (slow + (due * rate) * gradient)
    return slow, (1.0 - due) * gradient


def slow_key(params: Params, x: jax.Array) -> jax.Array:
    """Return the key [..., m] with which the levels are read and written."""
    return soft_unit(soft(x, params["levels"]["0"]["norm"]) @ params["key"])


def slow_read(
    params: Params, config: HopeConfig, x: jax.Array, read: jax.Array | None
) -> jax.Array:
    """Return x [..., d] after the chain; `read` [..., levels*d] is key @ F, or None."""
    for level in range(len(config.periods)):
        mlp = params["levels"][str(level)]
        y = project(jax.nn.silu(project(soft(x, mlp["norm"]), mlp["up"])), mlp["down"])
        if read is not None:
            y = y + read[..., level * config.d : (level + 1) * config.d]
        x = x + y
    return x
