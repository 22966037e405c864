"""The network in its two orders of evaluation, which agree to rounding.

`step` is one control tick with state of constant size. `sequence` is the same maths
over many ticks for training: a scan over chunks, everything inside a chunk at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from continuon.hope.bend import bent
from continuon.hope.config import HopeConfig
from continuon.hope.encoder import encode, frame_of, target_latent
from continuon.hope.fast import fast_chunk, fast_step
from continuon.hope.levels import drawn
from continuon.hope.mid import mid_chunk, mid_step
from continuon.hope.motion import motion_of
from continuon.hope.observation import check_boundary, check_observation
from continuon.hope.parameters import Params
from continuon.hope.projection import project
from continuon.hope.slow import (
    accumulate,
    due_levels,
    slow_key,
    slow_read,
    write_due,
)
from continuon.hope.state import State

__all__ = ["Output", "sequence", "step"]


class Output(NamedTuple):
    """What the network says at each tick; (T,) stands only in `sequence`.

    Attributes:
        action: [B, (T,) A] in [-1, 1], the first of the chunk.
        prediction: [B, (T,) latent], the expected latent of the next tick.
        surprise: [B, (T,)], half the mean squared error of the last prediction;
            0 at the first tick of an episode.
        latent: [B, (T,) latent], the frozen latent of this tick's observation.
        write_strength: [B, (T,)] in (0, 2), mean over blocks and heads.
        chunk: [B, (T,) action_chunk, A], actions for this tick and those after it, to
            be run open loop.
    """

    action: jax.Array
    prediction: jax.Array
    surprise: jax.Array
    latent: jax.Array
    write_strength: jax.Array
    chunk: jax.Array


def step(
    params: Params, config: HopeConfig, state: State, obs: Mapping[str, jax.Array]
) -> tuple[State, Output]:
    """Evaluate one tick.

    Args:
        params: from `init`.
        config: static under jit.
        state: from `init_state` or the last step.
        obs: `image` uint8 [B, h, w, 3], `depth` [B, h, w] in metres, `tokens` integer
            [B, N], `proprio` [B, P], `instruction` [B, n], `previous_action` [B, A],
            exactly those that the config names.

    Raises:
        ContractError: E-HOPE-OBS-*, at trace time; a token's range only outside jit.
    """
    check_observation(config, obs, state["prediction"].shape[0], ticks=None)
    latent = target_latent(params, config, obs)
    error = _first_error(state, latent)
    tick = state["tick"]
    due = due_levels(config, tick, latent.dtype)
    refresh = jax.lax.rem(tick, jnp.asarray(config.chunk, tick.dtype)) == 0
    sensed, motion = {}, None
    if config.senses_motion:
        sensed["frame"] = frame_of(params, obs)
        moved = motion_of(config, sensed["frame"], state["frame"])
        motion = jnp.where(tick > 0, moved, jnp.zeros_like(moved))
    x = encode(params, config, obs, motion)
    blocks, strengths = {}, []
    for name, before in state["blocks"].items():
        block, old = params["blocks"][name], dict(before)
        if config.online:
            _write_first(block["slow"], config, old, error, due)
        if config.self_modifying:
            own = old["memory"][..., config.head_size :]
            old["anchor"] = jnp.where(refresh, own, old["anchor"])
        changed, x, strength = fast_step(block["fast"], config, old, x)
        new = {**old, **changed}
        new["mid"], x = mid_step(block["mid"], old["mid"], x)
        read = None
        if config.online:
            new["key"] = slow_key(block["slow"], x)
            read = (new["key"][:, None] @ old["slow"])[:, 0]
        x = slow_read(block["slow"], config, x, read)
        blocks[name] = new
        strengths.append(strength)
    prediction = x @ params["heads"]["prediction"]
    output = _output(params, config, x, prediction, (error, latent, strengths))
    new_state = {"tick": tick + 1, "prediction": prediction, "blocks": blocks}
    return {**sensed, **new_state}, output


def sequence(
    params: Params,
    config: HopeConfig,
    state: State,
    obs: Mapping[str, jax.Array],
    *,
    follows: jax.Array | None = None,
    remat: bool = True,
) -> tuple[State, Output]:
    """Evaluate T ticks, T a multiple of `config.chunk`; see `step` for the rest.

    Args:
        params: from `init`.
        config: static under jit.
        state: its tick must be a multiple of `config.chunk`.
        obs: as for `step`, with a time axis after the batch axis.
        follows: bool [B, T], whether a tick comes right after the one before it; where
            it does not, no motion is sensed. None: all but an episode's first do.
        remat: recompute inside the backward pass instead of storing.

    Raises:
        ContractError: E-HOPE-OBS-*, E-HOPE-CHUNK-001 or -002.
    """
    ticks = check_observation(config, obs, state["prediction"].shape[0], ticks=0)
    check_boundary(config, state["tick"], ticks)
    batch = state["prediction"].shape[0]
    sensed, motion = _motion(params, config, state, obs, follows)
    x, latent = encode(params, config, obs, motion), target_latent(params, config, obs)
    inner = {name: held for name, held in state.items() if name not in sensed}

    def cut(a: jax.Array) -> jax.Array:
        parts = a.reshape((batch, ticks // config.chunk, config.chunk, a.shape[-1]))
        return jnp.moveaxis(parts, 1, 0)

    def body(carry: State, inputs: tuple[jax.Array, jax.Array]) -> tuple[State, Output]:
        return _chunk(params, config, carry, *inputs)

    scan_body = jax.checkpoint(body) if remat else body
    inner, output = jax.lax.scan(scan_body, inner, (cut(x), cut(latent)))

    def join(a: jax.Array) -> jax.Array:
        return jnp.reshape(jnp.moveaxis(a, 0, 1), (batch, ticks, *a.shape[3:]))

    return {**sensed, **inner}, jax.tree.map(join, output)


def _motion(
    params: Params,
    config: HopeConfig,
    state: State,
    obs: Mapping[str, jax.Array],
    follows: jax.Array | None,
) -> tuple[State, jax.Array | None]:
    """Return the last frame as it enters the state, and the motion of each tick."""
    if not config.senses_motion:
        return {}, None
    frames = frame_of(params, obs)
    before = jnp.concatenate([state["frame"][:, None], frames[:, :-1]], 1)
    motion = motion_of(config, frames, before)
    if follows is None:
        follows = jnp.ones(frames.shape[:2], bool).at[:, 0].set(state["tick"] > 0)
    motion = jnp.where(follows[..., None], motion, jnp.zeros_like(motion))
    return {"frame": frames[:, -1]}, motion


def _chunk(
    params: Params, config: HopeConfig, state: State, x: jax.Array, latent: jax.Array
) -> tuple[State, Output]:
    """Evaluate `config.chunk` ticks from a chunk boundary; x [B, C, d]."""
    first = _first_error(state, latent[:, 0])
    due = due_levels(config, state["tick"], latent.dtype)
    blocks, reads, strengths = {}, [], []
    for name, before in state["blocks"].items():
        block, old = params["blocks"][name], dict(before)
        if config.online:
            _write_first(block["slow"], config, old, first, due)
        if config.self_modifying:
            old["anchor"] = old["memory"][..., config.head_size :]
        changed, x, strength = fast_chunk(block["fast"], config, old, x)
        new = {**old, **changed}
        new["mid"], x = mid_chunk(block["mid"], old["mid"], x)
        read = None
        if config.online:
            key = slow_key(block["slow"], x)
            read = key @ old["slow"]
            new["key"] = key[:, -1]
            reads.append(key)
        x = slow_read(block["slow"], config, x, read)
        blocks[name] = new
        strengths.append(strength)
    prediction = x @ params["heads"]["prediction"]
    later = latent[:, 1:] - prediction[:, :-1]
    error = jnp.concatenate([first[:, None], later], 1)
    for (name, new), key in zip(blocks.items(), reads, strict=config.online):
        slow = params["blocks"][name]["slow"]
        new["gradient"] = accumulate(
            slow, new["gradient"], new["slow"], key[:, :-1], later
        )
    output = _output(params, config, x, prediction, (error, latent, strengths))
    tick = state["tick"] + x.shape[1]
    return {"tick": tick, "prediction": prediction[:, -1], "blocks": blocks}, output


def _first_error(state: State, latent: jax.Array) -> jax.Array:
    error = jnp.subtract(latent, state["prediction"])
    return jnp.where(state["tick"] > 0, error, jnp.zeros_like(error))


def _write_first(
    params: Params, config: HopeConfig, old: State, error: jax.Array, due: jax.Array
) -> None:
    """Account for the newest error, then write the due levels, into `old`."""
    gradient = accumulate(
        params, old["gradient"], old["slow"], old["key"][:, None], error[:, None]
    )
    old["slow"], old["gradient"] = write_due(params, config, old["slow"], gradient, due)


def _output(
    params: Params,
    config: HopeConfig,
    x: jax.Array,
    prediction: jax.Array,
    seen: tuple[jax.Array, jax.Array, list[Any]],
) -> Output:
    heads, (error, latent, strengths) = params["heads"], seen
    told = bent(config, project(x, heads["action"]) + heads["action_bias"])
    chunk = told.reshape((*told.shape[:-1], config.action_chunk, len(config.action)))
    chunk = drawn(config, chunk)
    return Output(
        action=chunk[..., 0, :],
        prediction=prediction,
        surprise=0.5 * jnp.mean(error * error, -1),
        latent=latent,
        write_strength=sum(strengths) / len(strengths),
        chunk=chunk,
    )
