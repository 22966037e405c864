"""Manipulation head: a point cloud and fingertip tracks in, future fingertips out.

The task is AINA's (arXiv 2511.16661): object points and the last fingertip positions,
in metres and in one frame, to the next fingertip positions. Here the network sees only
what no rigid motion changes (distances, lengths of steps) and answers with weights on
vectors between points it was given, so that, exactly and without training,

- the order of the points does not matter,
- a motion of the whole scene moves the answer by the same motion,
- metres in are metres out.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np

from continuon.errors import ContractError
from continuon.hope.parameters import Params

__all__ = ["AinaConfig", "aina", "init_aina"]

_SCALE_M = 0.1
"""Distances enter in units of a hand's breadth."""
_STEP_M = 0.01


@attrs.frozen(kw_only=True)
class AinaConfig:
    """Sizes of the head.

    Attributes:
        fingertips: tracked points, in a fixed order.
        history: past ticks of each track, the newest last; at least 2.
        horizon: future ticks.
        d, heads, layers: width, attention heads and depth of the transformer.
    """

    fingertips: int = 5
    history: int = 4
    horizon: int = 8
    d: int = 64
    heads: int = 4
    layers: int = 2

    def __attrs_post_init__(self) -> None:
        low = min(self.fingertips, self.history - 1, self.horizon, self.layers)
        if low < 1 or self.heads < 1 or self.d % self.heads:
            raise ContractError(
                "E-HOPE-AINA-001",
                "the manipulation head's sizes do not fit",
                seen=self,
                allowed="positive sizes, history 2 or more, d a multiple of heads",
            )


def init_aina(seed: int, config: AinaConfig) -> Params:
    """Return fresh float32 parameters; a fresh head predicts nearly no motion."""
    rng = np.random.default_rng([seed, 41])
    d, tips, steps = config.d, config.fingertips, config.history - 1

    def dense(rows: int, columns: int, gain: float = 1.0) -> jax.Array:
        scale = gain / math.sqrt(rows)
        return jnp.asarray(rng.standard_normal((rows, columns)) * scale, jnp.float32)

    return {
        "point": dense(tips + 1, d),
        "tip": dense(tips + steps + 1, d),
        "name": dense(tips, d),
        "layers": {
            str(index): {
                "qkv": dense(d, 3 * d),
                "out": dense(d, d, 0.5),
                "up": dense(d, 2 * d),
                "down": dense(2 * d, d, 0.5),
            }
            for index in range(config.layers)
        },
        "to_point": dense(d, config.horizon * d),
        "to_tip": dense(d, config.horizon * d),
        "gates": dense(d, config.horizon * (2 + steps), 0.1),
    }


def aina(
    params: Params, config: AinaConfig, points_m: jax.Array, tips_m: jax.Array
) -> jax.Array:
    """Return future fingertips [B, horizon, K, 3] in the frame of the inputs, metres.

    Args:
        params: from `init_aina`.
        config: static.
        points_m: object points [B, N, 3], in any order.
        tips_m: fingertip tracks [B, history, K, 3], the newest last.

    Raises:
        ContractError: E-HOPE-AINA-002, an input has another shape.
    """
    wanted = (tips_m.shape[0], config.history, config.fingertips, 3)
    if tips_m.shape != wanted or points_m.ndim != 3 or points_m.shape[-1] != 3:
        raise ContractError(
            "E-HOPE-AINA-002",
            "the points or tracks have the wrong shape",
            seen=f"points {points_m.shape}, tracks {tips_m.shape}",
            allowed=f"points [B, N, 3], tracks {list(wanted)}",
        )
    now = tips_m[:, -1]
    steps = jnp.moveaxis(tips_m[:, 1:] - tips_m[:, :-1], 1, 2)
    tokens = _tokens(params, points_m, now, steps)
    for layer in params["layers"].values():
        tokens = _attend(layer, config, tokens)
    count = points_m.shape[1]
    at_points, at_tips = tokens[:, :count], tokens[:, count:]
    gates = _by_horizon(at_tips @ params["gates"], config)
    reach = points_m[:, None] - now[:, :, None]
    moved = _pull(params["to_point"], config, at_tips, at_points, vectors_m=reach)
    change = gates[..., :1] * moved
    among = now[:, None] - now[:, :, None]
    moved = _pull(params["to_tip"], config, at_tips, at_tips, vectors_m=among)
    change = change + gates[..., 1:2] * moved
    change = change + jnp.einsum("bhks,bksx->bhkx", gates[..., 2:], steps)
    return now[:, None] + change


def _tokens(params: Params, points_m: Any, now: Any, steps: Any) -> jax.Array:
    """Return a token [B, N + K, d] for each point and fingertip, from lengths only."""
    centre = jnp.mean(points_m, 1, keepdims=True)

    def lengths(vectors: jax.Array, unit_m: float) -> jax.Array:
        squares = jnp.sum(vectors * vectors, -1)
        return jnp.log1p(jnp.sqrt(squares + 1e-12) / unit_m)

    to_tips = lengths(points_m[:, :, None] - now[:, None], _SCALE_M)
    point = jnp.concatenate(
        [to_tips, lengths(points_m - centre, _SCALE_M)[..., None]], -1
    )
    among = lengths(now[:, :, None] - now[:, None], _SCALE_M)
    tip = jnp.concatenate(
        [among, lengths(steps, _STEP_M), lengths(now - centre, _SCALE_M)[..., None]], -1
    )
    named = tip @ params["tip"] + params["name"]
    return jnp.concatenate([point @ params["point"], named], 1)


def _attend(layer: Params, config: AinaConfig, tokens: jax.Array) -> jax.Array:
    """Return tokens after attention and a multilayer perceptron, without positions."""
    batch, count, d = tokens.shape
    size = d // config.heads
    qkv = (_normed(tokens) @ layer["qkv"]).reshape(batch, count, 3, config.heads, size)
    query, key, value = (qkv[:, :, i] for i in range(3))
    scores = jnp.einsum("bqhc,bkhc->bhqk", query, key) / math.sqrt(size)
    mixed = jnp.einsum("bhqk,bkhc->bqhc", jax.nn.softmax(scores, -1), value)
    tokens = tokens + mixed.reshape(batch, count, d) @ layer["out"]
    hidden = jax.nn.silu(_normed(tokens) @ layer["up"])
    return jnp.add(tokens, hidden @ layer["down"])


def _pull(
    weight: Any, config: AinaConfig, at_tips: Any, at_goals: Any, *, vectors_m: Any
) -> jax.Array:
    """Return the weighted mean [B, horizon, K, 3] of vectors [B, K, N, 3] to goals."""
    query = _by_horizon(_normed(at_tips) @ weight, config)
    scores = jnp.einsum("bhkd,bnd->bhkn", query, _normed(at_goals))
    share = jax.nn.softmax(scores / math.sqrt(config.d), -1)
    return jnp.einsum("bhkn,bknx->bhkx", share, vectors_m)


def _by_horizon(flat: jax.Array, config: AinaConfig) -> jax.Array:
    """Return [B, K, horizon * n] as [B, horizon, K, n]."""
    shape = (*flat.shape[:2], config.horizon, -1)
    return jnp.moveaxis(flat.reshape(shape), 2, 1)


def _normed(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)
