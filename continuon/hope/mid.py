"""Mid: a selective diagonal state-space layer (RG-LRU, De et al., arXiv 2402.19427).

With `mid_turns` its units are pairs, each of which also turns at every tick, by an
angle that is linear in the input: a sum modulo n is an angle, which a state that only
fades cannot hold (complex eigenvalues: Grazzi et al., 2024, arXiv 2411.12537). It turns
about -1 of its first unit: what starts at zero then has an angle from the first tick
on, and none at rest.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from continuon.hope.fast import MIN_DECAY
from continuon.hope.norms import soft
from continuon.hope.parameters import Params
from continuon.hope.projection import project

__all__ = ["mid_chunk", "mid_step"]

Keep = tuple[jax.Array, ...]
"""What a unit keeps of itself; or what a pair keeps along itself and across."""


def mid_step(
    params: Params, hidden: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return hidden [B, units] after one tick, and x [B, d] with its read."""
    keep, drive, gate = _gates(params, x)
    hidden = _kept(keep, hidden) + drive
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


def _gates(params: Params, x: jax.Array) -> tuple[Keep, jax.Array, jax.Array]:
    normed = soft(x, params["norm"])
    inputs, gate = jnp.split(project(normed, params["inputs"]), 2, -1)
    gates = jax.nn.sigmoid(inputs @ params["gates"])
    recur, take = jnp.split(gates, [params["decay"].size], -1)
    log_keep = -8.0 * jax.nn.softplus(params["decay"]) * recur - MIN_DECAY
    if "turn" not in params:
        drive = jnp.sqrt(-jnp.expm1(2.0 * log_keep)) * take * inputs
        return (jnp.exp(log_keep),), drive, jax.nn.gelu(gate)
    keep, turn = jnp.exp(log_keep), normed @ params["turn"]
    along, across = keep * jnp.cos(turn), keep * jnp.sin(turn)
    log_keep = jnp.concatenate([log_keep, log_keep], -1)
    drive = jnp.sqrt(-jnp.expm1(2.0 * log_keep)) * take * inputs
    # keep (turn (h + 1) - 1) is keep turn h, and this
    drive = drive + jnp.concatenate([along - keep, across], -1)
    return (along, across), drive, jax.nn.gelu(gate)


def _kept(keep: Keep, hidden: jax.Array) -> jax.Array:
    if len(keep) == 1:
        return keep[0] * hidden
    along, across = keep
    first, second = jnp.split(hidden, 2, -1)
    parts = [along * first - across * second, across * first + along * second]
    return jnp.concatenate(parts, -1)


def _scan(keep: Keep, drive: jax.Array, hidden: jax.Array) -> jax.Array:
    """Evaluate tick by tick; twice as fast as the associative form on a CPU."""

    def tick(
        carry: jax.Array, inputs: tuple[Keep, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        carry = _kept(inputs[0], carry) + inputs[1]
        return carry, carry

    ordered = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), (keep, drive))
    return jnp.moveaxis(jax.lax.scan(tick, hidden, ordered)[1], 0, 1)


def _associative_scan(keep: Keep, drive: jax.Array, hidden: jax.Array) -> jax.Array:
    """Evaluate in log2(C) parallel rounds, for accelerators."""

    def join(
        left: tuple[Keep, jax.Array], right: tuple[Keep, jax.Array]
    ) -> tuple[Keep, jax.Array]:
        return _product(left[0], right[0]), _kept(right[0], left[1]) + right[1]

    first = _kept(tuple(part[:, 0] for part in keep), hidden)
    drive = drive.at[:, 0].add(first)
    states: jax.Array = jax.lax.associative_scan(join, (keep, drive), axis=1)[1]
    return states


def _product(left: Keep, right: Keep) -> Keep:
    if len(left) == 1:
        return (left[0] * right[0],)
    along = left[0] * right[0] - left[1] * right[1]
    return along, left[0] * right[1] + left[1] * right[0]
