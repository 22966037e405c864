"""How far the picture moved sideways since the last frame, one number a band.

Least squares on the brightness constancy equation (Lucas and Kanade, 1981): in each
horizontal band the shift v that best explains the change between two frames,

    v = -sum(I_x I_t) / (sum(I_x^2) + 1),

with I the mean of the two frames, each normalised to mean 0 and spread 1, I_x its
central difference along a row, I_t their difference. A camera that turns moves the
whole band, so this tells a policy how it is turning before it has learnt to see it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from continuon.hope.config import HopeConfig
from continuon.hope.target import box_mean_matrix

__all__ = ["MAX_SHIFT_PX", "band_sums", "motion_of", "normalised"]

MAX_SHIFT_PX = 2.0
"""Larger shifts are clipped: the equation holds for small ones only."""


def normalised(grey: jax.Array) -> jax.Array:
    """Return frames [..., h, w] of mean 0 and, where there is contrast, spread 1."""
    centred = grey - jnp.mean(grey, (-2, -1), keepdims=True)
    variance = jnp.mean(centred * centred, (-2, -1), keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-4)


def band_sums(config: HopeConfig) -> np.ndarray:
    """Return float32 [bands, h]: row i sums the rows of the i-th equal band."""
    mean = box_mean_matrix(config.motion_bands, config.image_height)
    return mean * np.float32(config.image_height / config.motion_bands)


def motion_of(config: HopeConfig, now: jax.Array, before: jax.Array) -> jax.Array:
    """Return [..., bands] in pixels, from two normalised frames [..., h, w]."""
    bands = jnp.asarray(band_sums(config), now.dtype)
    middle = 0.5 * (now + before)
    slope = 0.5 * (middle[..., 2:] - middle[..., :-2])
    change = (now - before)[..., 1:-1]
    shared = jnp.sum(slope * change, -1) @ bands.T
    size = jnp.sum(slope * slope, -1) @ bands.T
    return jnp.clip(-shared / (size + 1.0), -MAX_SHIFT_PX, MAX_SHIFT_PX)
