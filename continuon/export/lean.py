"""The recurrent step rearranged for a runtime of small operators; see `lean_weights`.

It is `continuon.hope.step` in another order, in two functions:

- `step`, one tick. It only reads what is written at chunk boundaries (the anchors of
  Fast, the memories F and gradients G of Slow), so those are neither computed nor
  copied at a tick. The terms that G should have gathered are told instead: a key and
  a residual a tick, as `log/...`.
- `fold`, before a step whose number is a positive multiple of `chunk`: it adds the log
  of the last `chunk` ticks to G, writes the levels that are due, moves the anchors.

One term is due at once: a level written at tick t takes part in it with the error of
that very tick, which `fold` cannot know. It is of rank one, key (x) value, and waits in
`pending` until the next fold, while reads add (key . pending key) value.

No integer, no branch and no boolean is computed: a flag is a float that starts at zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from continuon.export.lean_weights import BlockWeights, LeanWeights
from continuon.hope.bend import bent
from continuon.hope.config import HopeConfig
from continuon.hope.encoder import encode, frame_of, target_latent
from continuon.hope.fast import MIN_DECAY
from continuon.hope.levels import drawn
from continuon.hope.motion import motion_of

__all__ = ["Tensors", "fold", "fold_state", "lean_step", "step_state"]

Tensors = dict[str, jax.Array]
Shapes = dict[str, tuple[int, ...]]


def step_state(config: HopeConfig) -> Shapes:
    """Return the shapes of what `lean_step` reads from tick to tick."""
    heads, size = config.heads, config.head_size
    shapes: Shapes = {"begun": (1, 1), "prediction": (1, config.latent)}
    if config.senses_motion:
        shapes["frame"] = (1, config.image_height, config.image_width)
    rows = config.convolution_width - 1
    for index in range(config.layers):
        shapes[f"window/{index}"] = (1, rows, 3 * heads * size)
        shapes[f"values/{index}"] = (heads, size, size)
        if config.self_modifying:
            shapes[f"self/{index}"] = (heads, size, config.self_size)
            shapes[f"anchor/{index}"] = (heads, size, config.self_size)
        shapes[f"mid/{index}"] = (1, config.mid_units)
        if config.online:
            shapes[f"slow/{index}"] = (1, config.slow_key, _columns(config))
    if config.online:
        shapes["key"] = shapes["pending_key"] = (1, config.layers * config.slow_key)
        every = (1, config.layers * _columns(config))
        shapes["read"] = shapes["pending"] = shapes["due"] = every
        shapes["folded"] = (1, 1)
    return shapes


def fold_state(config: HopeConfig) -> Shapes:
    """Return the shapes of what `fold` reads, the log's too; none if it is not needed.

    A row of the log is a tick, the first of the chunk first.
    """
    shapes: Shapes = {}
    for index in range(config.layers):
        if config.self_modifying:
            kept = (config.heads, config.head_size, config.self_size)
            shapes[f"state/self/{index}"] = kept
        if config.online:
            memory = (1, config.slow_key, _columns(config))
            shapes[f"state/slow/{index}"] = shapes[f"state/gradient/{index}"] = memory
    if config.online:
        shapes["state/folds"] = (1, 1)
        shapes["state/pending_key"] = (1, config.layers * config.slow_key)
        shapes["state/pending"] = (1, config.layers * _columns(config))
        for name, row in (("key", "pending_key"), ("residual", "pending")):
            shapes[f"log/{name}"] = (config.chunk, shapes[f"state/{row}"][1])
    return shapes


def lean_step(
    params: Any,
    weights: LeanWeights,
    config: HopeConfig,
    state: Tensors,
    obs: Mapping[str, jax.Array],
) -> tuple[Tensors, Tensors]:
    """Evaluate one tick of batch 1.

    Args:
        params: for the encoder.
        weights: of the same parameters.
        config: of both.
        state: as `step_state` has it.
        obs: as for `continuon.hope.step`.

    Returns:
        The state that changed; and `action` [1, A], `surprise` [1], `log/...`.
    """
    new: Tensors = {"begun": jnp.maximum(state["begun"], 1.0)}
    latent = target_latent(params, config, obs)
    error = (latent - state["prediction"]) * state["begun"]
    told: Tensors = {"surprise": 0.5 * jnp.mean(error * error, -1)}
    motion = None
    if config.senses_motion:
        new["frame"] = frame_of(params, obs)
        motion = motion_of(config, new["frame"], state["frame"]) * state["begun"]
    x = encode(params, config, obs, motion)
    pending: list[tuple[jax.Array, jax.Array]] = [(x, x)] * config.layers
    if config.online:
        pending = _account(weights, config, error, state=state, new=new, told=told)
    keys, reads = [], []
    for index, block in enumerate(weights.blocks):
        x = _fast(block, config, x, state=state, index=index, new=new)
        x = _mid(block, config, x, state=state, index=index, new=new)
        memory = state.get(f"slow/{index}")
        x, key, read = _slow(block, config, x, memory=memory, pending=pending[index])
        keys.append(key)
        reads.append(read)
    if config.online:
        new["key"], new["read"] = jnp.concatenate(keys, 1), jnp.concatenate(reads, 1)
    heads = x @ weights.heads + weights.bias
    first = len(config.action)
    told["action"] = drawn(config, bent(config, heads[:, :first]))
    new["prediction"] = heads[:, first:]
    return new, told


def fold(weights: LeanWeights, config: HopeConfig, given: Tensors) -> Tensors:
    """Return what changes at a chunk boundary, named `state/...`, from `fold_state`."""
    new: Tensors = {}
    if config.self_modifying:
        for index in range(config.layers):
            new[f"state/anchor/{index}"] = given[f"state/self/{index}"] + 0.0
    if not config.online:
        return new
    columns, size, count = _columns(config), config.slow_key, config.layers
    level, new["state/folds"] = _due(config, given["state/folds"])
    due = jnp.concatenate([level] * count, 1)
    leak, rate = 1.0 - due * weights.leak, due * weights.rate
    for index in range(count):
        here = slice(index * columns, (index + 1) * columns)
        own = slice(index * size, (index + 1) * size)
        key = given["log/key"][:, own].T[None]
        told = key @ given["log/residual"][None, :, here]
        gradient = given[f"state/gradient/{index}"] + told
        waiting = given["state/pending_key"][:, own].reshape(1, size, 1)
        slow = given[f"state/slow/{index}"]
        slow = slow + waiting * given["state/pending"][:, None, here]
        slow = leak[:, None, here] * (slow + rate[:, None, here] * gradient)
        new[f"state/slow/{index}"] = slow
        new[f"state/gradient/{index}"] = gradient * (1.0 - level[:, None])
    new["state/due"] = due
    new["state/folded"] = jnp.ones_like(given["state/folds"])
    for name in ("state/pending_key", "state/pending"):
        new[name] = given[name] * 0.0
    return new


def _columns(config: HopeConfig) -> int:
    return len(config.periods) * config.d


def _due(config: HopeConfig, folds: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return [1, K d], one where a level is due, and the folds so far.

    They start again at zero when all levels are due at once, so they stay exact.
    """
    folds = folds + 1.0
    turns = np.array([period // config.chunk for period in config.periods])

    def rest(turn: Any) -> jax.Array:
        # half a turn more: the quotient's rounding cannot cross a whole number
        whole = jnp.floor((folds + 0.5) * np.asarray(1.0 / turn, folds.dtype))
        return folds - whole * np.asarray(turn, folds.dtype)

    due = 1.0 - jnp.minimum(rest(np.repeat(turns, config.d)[None]), 1.0)
    return due, rest(np.array([[math.lcm(*turns.tolist())]]))


def _account(
    weights: LeanWeights,
    config: HopeConfig,
    error: jax.Array,
    *,
    state: Tensors,
    new: Tensors,
    told: Tensors,
) -> list[tuple[jax.Array, jax.Array]]:
    """Log the newest error; return each layer's pending write, [1, m] and [1, K d]."""
    due = state["due"] * state["folded"]
    residual = _soft(error) @ weights.feedback - state["read"]
    told["log/key"] = state["key"] * 1.0
    told["log/residual"] = residual * (1.0 - due)
    share = due * ((1.0 - weights.leak) * weights.rate)
    new["pending"] = state["pending"] + share * residual
    # where no level was due the value is zero, and its key does not matter
    new["pending_key"] = state["pending_key"] + state["folded"] * state["key"]
    new["folded"] = state["folded"] * 0.0
    keys = jnp.split(new["pending_key"], config.layers, 1)
    values = jnp.split(new["pending"], config.layers, 1)
    return list(zip(keys, values, strict=True))


def _fast(
    w: BlockWeights,
    config: HopeConfig,
    x: jax.Array,
    *,
    state: Tensors,
    index: int,
    new: Tensors,
) -> jax.Array:
    heads, size = config.heads, config.head_size
    wide = heads * size
    made = _soft(x) @ w.fast + w.fast_bias
    newest, window = made[:, None, : 3 * wide], state[f"window/{index}"]
    new[f"window/{index}"] = jnp.concatenate([window[:, 1:], newest], 1)
    past = jnp.sum(window * w.taps[None, :-1], 1)
    qkv = past + made[:, : 3 * wide] * w.taps[-1]
    length = _unit if config.unit_keys else _soft_unit
    both = length(qkv[:, : 2 * wide].reshape(2 * heads, size))
    query, key = both[:heads], both[heads:]
    value = qkv[:, 2 * wide :].reshape(heads, size)
    gates = made[:, 4 * wide :].reshape(heads, 2)
    if config.self_modifying:
        anchor = state[f"anchor/{index}"]
        read = _read(key, anchor)
        key = length(key + read[:, :size])
        value = value + read[:, size : 2 * size]
        gates = gates + read[:, 2 * size :]
        own = _read(value, anchor)
        pair = own[:, : 2 * size].reshape(heads, 2, size) + value[:, None]
        pair = pair * (_inverse_length(pair) * w.self_gain[None, :2, None])
        last = jnp.tanh(own[:, 2 * size :] + value[:, :2]) * w.self_gain[2]
        wished = jnp.concatenate([pair.reshape(heads, 2 * size), last], 1)
    gates = jax.nn.sigmoid(gates) * w.gate_scale
    strength, keep = gates[:, :1], gates[:, 1:]
    column, kept = key[:, :, None], keep[:, :, None]

    def write(memory: jax.Array, value: jax.Array) -> jax.Array:
        update = strength * (value - keep * jnp.sum(column * memory, 1))
        return kept * memory + column * update[:, None]

    values = write(state[f"values/{index}"], value)
    new[f"values/{index}"] = values
    if config.self_modifying:
        new[f"self/{index}"] = write(state[f"self/{index}"], wished)
    flat = _soft(_read(query, values)).reshape(1, wide)
    gate = made[:, 3 * wide : 4 * wide]
    return x + (flat * (gate * jax.nn.sigmoid(gate))) @ w.fast_out


def _mid(
    w: BlockWeights,
    config: HopeConfig,
    x: jax.Array,
    *,
    state: Tensors,
    index: int,
    new: Tensors,
) -> jax.Array:
    units = config.mid_units
    made = _soft(x) @ w.mid
    inputs, gate = made[:, :units], made[:, units : 2 * units]
    gates = jax.nn.sigmoid(made[:, 2 * units : 4 * units])
    log_keep = gates[:, :units] * w.log_keep - MIN_DECAY
    keep = jnp.exp(log_keep)
    # 1 - e^2a as -tanh(a) (e^2a + 1): exact where a is small, unlike a difference
    drive = jnp.sqrt(jnp.tanh(-log_keep) * (keep * keep + 1.0))
    held = state[f"mid/{index}"]
    if config.mid_turns:
        held = _turned(held, made[:, 4 * units :])
    hidden = keep * held + drive * (gates[:, units:] * inputs)
    new[f"mid/{index}"] = hidden
    return x + (hidden * jax.nn.gelu(gate)) @ w.mid_out


def _turned(held: jax.Array, turn: jax.Array) -> jax.Array:
    """Return pairs [1, u] turned by angles [1, u / 2] about -1 of their first."""
    first, second = jnp.split(held, 2, -1)
    first, along, across = first + 1.0, jnp.cos(turn), jnp.sin(turn)
    parts = [along * first - across * second - 1.0, across * first + along * second]
    return jnp.concatenate(parts, -1)


def _slow(
    w: BlockWeights,
    config: HopeConfig,
    x: jax.Array,
    *,
    memory: jax.Array | None,
    pending: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return x after the levels, and the key and what it read, where there is one."""
    key = read = x
    for level, (up, down) in enumerate(zip(w.up, w.down, strict=True)):
        made = _soft(x) @ up
        hidden = made[:, : config.slow_hidden]
        y = (hidden * jax.nn.sigmoid(hidden)) @ down
        if memory is not None and level == 0:
            key = _soft_unit(made[:, config.slow_hidden :])
            read = _read(key, memory)
            near = jnp.sum(key * pending[0], -1, keepdims=True)
            read = read + near * pending[1]
        if memory is not None:
            y = y + read[:, level * config.d : (level + 1) * config.d]
        x = x + y
    return x, key, read


def _read(key: jax.Array, memory: jax.Array) -> jax.Array:
    """Return [n, c] for keys [n, s] and memories [n, s, c], without repacking them."""
    return jnp.sum(key[:, :, None] * memory, 1)


def _soft(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1.0)


def _inverse_length(x: jax.Array) -> jax.Array:
    return jax.lax.rsqrt(jnp.sum(x * x, -1, keepdims=True) + 1.0)


def _soft_unit(x: jax.Array) -> jax.Array:
    return x * _inverse_length(x)


def _unit(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.sum(x * x, -1, keepdims=True) + 1e-6)
