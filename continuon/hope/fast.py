"""Fast: a gated delta-rule memory whose projections are columns of itself.

One memory M [size, memory_size] per head holds the values and, beside them, the
corrections of its own key, value, write strength and decay (Behrouz et al., Nested
Learning, 2025: self-referential Titans in matrix form). Write strength beta lies in
(0, 2), which parity needs (Grazzi et al., 2024, arXiv 2411.12537): what is kept along
a key is 1 - beta |k|^2, which comes near -1 only with `unit_keys`. The corrections
are read from an anchor that is refreshed every `chunk` ticks, so a chunk can be
evaluated at once (delta rule in chunk form: Yang et al., 2024, arXiv 2406.06484).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from continuon.hope.config import HopeConfig
from continuon.hope.norms import soft, soft_unit, unit
from continuon.hope.parameters import Params
from continuon.hope.projection import project

__all__ = ["MIN_DECAY", "fast_chunk", "fast_step"]

MIN_DECAY = 1e-5
"""Least decay exponent of one tick, so that no memory ever keeps all of itself."""


class _Writes(NamedTuple):
    """Per tick and head: query and key [size], value [memory_size], two gates."""

    query: jax.Array
    key: jax.Array
    value: jax.Array
    strength: jax.Array
    log_decay: jax.Array


def fast_step(
    params: Params, config: HopeConfig, state: Any, x: jax.Array
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """Return the new state, x [B, d] with what was read, and mean strength [B]."""
    normed = soft(x, params["norm"])
    window = jnp.concatenate(
        [state["window"], project(normed, params["qkv"])[:, None]], 1
    )
    qkv = jnp.sum(window * params["taps"], 1)
    w = _writes(params, config, qkv[:, None], _gates(params, normed)[:, None], state)
    query, key, value, strength, log_decay = (part[:, 0] for part in w)
    kept = jnp.exp(log_decay)[..., None, None] * state["memory"]
    stored = jnp.einsum("bhk,bhkv->bhv", key, kept)
    update = strength[..., None] * (value - stored)
    memory = kept + key[..., :, None] * update[..., None, :]
    read = jnp.einsum("bhk,bhkv->bhv", query, memory[..., : config.head_size])
    new = {"window": window[:, 1:], "memory": memory}
    return new, x + _out(params, normed, read), jnp.mean(strength, -1)


def fast_chunk(
    params: Params, config: HopeConfig, state: Any, x: jax.Array
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """Return the same as C calls of `fast_step`, for x [B, C, d]; strength [B, C]."""
    ticks = x.shape[1]
    normed = soft(x, params["norm"])
    window = jnp.concatenate([state["window"], project(normed, params["qkv"])], 1)
    taps = params["taps"]
    qkv = sum(window[:, i : i + ticks] * taps[i] for i in range(taps.shape[0]))
    writes = _writes(params, config, qkv, _gates(params, normed), state)
    read, memory = _delta_chunk(writes, state["memory"], config.head_size)
    new = {"window": window[:, ticks:], "memory": memory}
    return new, x + _out(params, normed, read), jnp.mean(writes.strength, -1)


def _gates(params: Params, normed: jax.Array) -> jax.Array:
    return jnp.add(normed @ params["gates"], params["gates_bias"])


def _out(params: Params, normed: jax.Array, read: jax.Array) -> jax.Array:
    read = soft(read, params["read_norm"])
    flat = read.reshape((*read.shape[:-2], -1))
    return project(flat * jax.nn.silu(normed @ params["read_gate"]), params["out"])


def _writes(
    params: Params, config: HopeConfig, qkv: Any, gates: jax.Array, state: Any
) -> _Writes:
    """Return the writes from convolved qkv [B, T, 3*H*size], gates [B, T, 2*H]."""
    size = config.head_size
    qkv = qkv.reshape((*qkv.shape[:-1], config.heads, 3 * size))
    length = unit if config.unit_keys else soft_unit
    query = length(qkv[..., :size])
    key = length(qkv[..., size : 2 * size])
    value = qkv[..., 2 * size :]
    strength, decay = jnp.split(gates, 2, -1)
    if config.self_modifying:
        anchor = state["anchor"]
        read = jnp.einsum("bthk,bhkv->bthv", key, anchor)
        key = length(key + read[..., :size])
        value = value + read[..., size : 2 * size]
        strength = strength + read[..., -2]
        decay = decay + read[..., -1]
        gain = params["self_gain"]
        own = jnp.einsum("bthk,bhkv->bthv", value, anchor)
        value = jnp.concatenate(
            [
                value,
                gain[0] * soft_unit(own[..., :size] + value),
                gain[1] * soft_unit(own[..., size : 2 * size] + value),
                gain[2] * jnp.tanh(own[..., 2 * size :] + value[..., :2]),
            ],
            -1,
        )
    log_decay = -jax.nn.softplus(-decay) - MIN_DECAY
    return _Writes(query, key, value, 2.0 * jax.nn.sigmoid(strength), log_decay)


def _delta_chunk(
    writes: _Writes, memory: jax.Array, size: int
) -> tuple[jax.Array, jax.Array]:
    """Return reads [B, C, H, size] and the memory after C ticks of the delta rule.

    Its products are float32 whatever the rest is computed in: the solve sums powers of
    a matrix, and each rounding would be carried on to the next chunk.
    """
    with jax.default_matmul_precision("float32"):
        return _delta_products(writes, memory, size)


def _delta_products(
    writes: _Writes, memory: jax.Array, size: int
) -> tuple[jax.Array, jax.Array]:
    query, key, value = (a.transpose(0, 2, 1, 3) for a in writes[:3])
    strength = writes.strength.transpose(0, 2, 1)[..., None]
    ticks = key.shape[2]
    lower = jnp.tril(jnp.ones((ticks, ticks), key.dtype))
    log_decay = jnp.einsum("ts,bsh->bht", lower, writes.log_decay)
    between = log_decay[..., :, None] - log_decay[..., None, :]
    decay = jnp.exp(jnp.where(lower > 0, between, -jnp.inf))
    from_start = jnp.exp(log_decay)[..., None]
    both = jnp.concatenate([key, query], 2)
    overlap = both @ jnp.swapaxes(key, -1, -2)
    past = both @ memory
    coupling = -strength * jnp.tril(decay * overlap[..., :ticks, :], -1)
    new = strength * (value - from_start * past[..., :ticks, :])
    update = _solve(coupling, new)
    inside = (decay * overlap[..., ticks:, :]) @ update[..., :size]
    read = from_start * past[..., ticks:, :size] + inside
    last = log_decay[..., -1:]
    to_end = jnp.exp(last - log_decay)[..., None]
    grown = jnp.swapaxes(key * to_end, -1, -2) @ update
    memory = jnp.exp(last)[..., None] * memory + grown
    return read.transpose(0, 2, 1, 3), memory


@jax.custom_vjp
def _solve(coupling: jax.Array, right: jax.Array) -> jax.Array:
    """Return X of (I - coupling) X = right, coupling [.., C, C] strictly lower."""
    return _inverse(coupling) @ right


def _inverse(coupling: jax.Array) -> jax.Array:
    """Sum the powers of a nilpotent matrix in log2(C) doublings."""
    ticks = coupling.shape[-1]
    inverse = jnp.eye(ticks, dtype=coupling.dtype) + coupling
    span = 2
    while span < ticks:
        coupling = coupling @ coupling
        inverse = inverse + coupling @ inverse
        span *= 2
    return inverse


def _solve_forward(
    coupling: jax.Array, right: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    inverse = _inverse(coupling)
    solution = inverse @ right
    return solution, (inverse, solution)


def _solve_backward(
    kept: tuple[jax.Array, jax.Array], slope: jax.Array
) -> tuple[jax.Array, jax.Array]:
    inverse, solution = kept
    with jax.default_matmul_precision("float32"):
        right = jnp.swapaxes(inverse, -1, -2) @ slope
        return right @ jnp.swapaxes(solution, -1, -2), right


_solve.defvjp(_solve_forward, _solve_backward)
