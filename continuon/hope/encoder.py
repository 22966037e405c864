"""Senses in, one vector a tick out; and the frozen latent to be predicted."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from continuon.hope.config import HopeConfig
from continuon.hope.motion import normalised
from continuon.hope.parameters import Params

__all__ = ["PROPRIO_LIMIT", "encode", "frame_of", "nearness", "target_latent"]

PROPRIO_LIMIT = 1000.0
"""Proprioceptive inputs are clipped to plus and minus this, in their own units."""


def encode(
    params: Params,
    config: HopeConfig,
    obs: Mapping[str, jax.Array],
    motion: jax.Array | None = None,
) -> jax.Array:
    """Return [..., d] from an observation with any leading axes.

    `motion` [..., bands] is from `motion_of`, where the config has bands.

    A linear path from the senses is kept beside the mixed one, since control is
    nearly linear in what is sensed.
    """
    encoder = params["encoder"]
    x: jax.Array = encoder["bias"]
    if config.has_image:
        pixels = _pixels(obs["image"], x)
        x = x + _features(encoder["convolutions"], pixels) @ encoder["image"]
    if config.has_depth:
        near = nearness(obs["depth"].astype(x.dtype), config.depth_limit_m)
        x = x + _features(encoder["depth_convolutions"], near) @ encoder["depth"]
    if config.instruction_size:
        told = jnp.clip(obs["instruction"].astype(x.dtype), -1.0, 1.0)
        x = x + told @ encoder["instruction"]
    if config.has_tokens:
        x = x + _codes(encoder["token_codes"], obs["tokens"]) @ encoder["tokens"]
    if config.proprio:
        x = x + _proprio(obs, x) @ encoder["proprio"]
    if config.use_previous_action:
        previous = jnp.clip(obs["previous_action"].astype(x.dtype), -1.0, 1.0)
        x = x + previous @ encoder["previous_action"]
    if motion is not None:
        x = x + motion @ encoder["motion"]
    return x + jnp.matmul(jax.nn.silu(x), encoder["mix"])


def frame_of(params: Params, obs: Mapping[str, jax.Array]) -> jax.Array:
    """Return the normalised grey frame [..., h, w] of an observation."""
    return normalised(jnp.mean(_pixels(obs["image"], params["encoder"]["bias"]), -1))


def target_latent(
    params: Params, config: HopeConfig, obs: Mapping[str, jax.Array]
) -> jax.Array:
    """Return the frozen latent [..., latent] of an observation; no gradient flows."""
    frozen = jax.lax.stop_gradient(params["frozen"])
    projection = frozen["projection"]
    parts = []
    if config.has_image:
        grey = jnp.mean(_pixels(obs["image"], projection), -1)
        cells = frozen["rows"] @ grey @ frozen["columns"]
        parts.append(cells.reshape((*cells.shape[:-2], -1)))
    if config.proprio:
        parts.append(_proprio(obs, projection))
    return jnp.matmul(jnp.concatenate(parts, -1), projection)


def _pixels(image: jax.Array, like: jax.Array) -> jax.Array:
    return image.astype(like.dtype) * (1.0 / 255.0) - 0.5


def _proprio(obs: Mapping[str, jax.Array], like: jax.Array) -> jax.Array:
    return jnp.clip(obs["proprio"].astype(like.dtype), -PROPRIO_LIMIT, PROPRIO_LIMIT)


def nearness(depth_m: jax.Array, limit_m: float) -> jax.Array:
    """Return [..., h, w, 2] of depth [..., h, w] in metres.

    How near, 0.5 at the camera to -0.5 at the limit and beyond, and whether that is
    known at all. What is 0, negative or not finite is unknown; then both are 0.
    """
    known = jnp.isfinite(depth_m) & (depth_m > 0)
    near = 0.5 - jnp.clip(jnp.where(known, depth_m, 0.0), 0.0, limit_m) / limit_m
    zero = jnp.zeros_like(near)
    return jnp.stack([jnp.where(known, near, zero), known.astype(near.dtype)], -1)


def _codes(table: jax.Array, tokens: jax.Array) -> jax.Array:
    """Return [..., places * size], each place's row of the table [codes, size].

    The places stand side by side and each has its own rows of the matrix that follows:
    a table [codes, d] for each place, of rank `size`. A sum of rows would tell what is
    seen and not where, and an offset for each place would not help: summed, it is the
    same for any tokens. Full tables would be larger than the small networks.

    A token that is no code is NaN all along: inside jit it cannot be refused, and the
    nearest legal one would be a picture that nobody saw.
    """
    known = (tokens >= 0) & (tokens < len(table))
    rows = table[jnp.where(known, tokens, 0)]
    rows = jnp.where(known[..., None], rows, jnp.nan)
    return rows.reshape((*tokens.shape[:-1], -1))


def _features(layers: Params, x: jax.Array) -> jax.Array:
    """Return flat features [..., n] of pictures [..., h, w, channels]."""
    leading = x.shape[:-3]
    x = x.reshape((-1, *x.shape[-3:]))
    for index in range(len(layers)):
        layer = layers[str(index)]
        x = jax.lax.conv_general_dilated(
            x,
            layer["kernel"],
            window_strides=(2, 2),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = jax.nn.silu(x + layer["bias"])
    return x.reshape((*leading, -1))
