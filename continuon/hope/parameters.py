"""The parameters: a plain tree of arrays, and what may be trained in it."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import jax
import numpy as np

from continuon.hope.config import HopeConfig
from continuon.hope.target import frozen_target

__all__ = ["Params", "count_parameters", "init", "near_neutral", "trainable_mask"]

Params = dict[str, Any]
_KERNEL_GAINS = (6.0, 2.25)
"""First and later convolutions. Neighbouring frames differ little: with gains near one
the encoder's output would vary by a tenth, too small for the soft norms."""
_KERNELS = (5, 3, 3)
_CALM = 0.005
_TOKEN_SIZE = 8
"""Numbers that a token is turned into; see `continuon.hope.encoder`."""
_KEEPS, _SYMBOL_KEEPS = (2.0, 6.0), (4.0, 8.0)
"""Logits of what the first and the last head's memory keeps of itself in a tick: 0.88
to 0.9975, and for symbols (unit keys) 0.98 to 0.9997. Decision 0406."""
_TURN = 2.0
"""Spread of the angles, in radians and before the norm of the input, by which pairs of
Mid turn at first: the whole circle should be in reach. Decision 0407."""


class _Draw:
    """Normal draws from one seeded stream, scaled by the fan-in."""

    def __init__(self, key: Any) -> None:
        self._rng = np.random.default_rng(_seed(key))

    def dense(self, *shape: int, gain: float = 1.0) -> np.ndarray[Any, Any]:
        """Return float32 weights; all axes but the last are the fan-in."""
        scale = gain / math.sqrt(math.prod(shape[:-1]))
        return (self._rng.standard_normal(shape) * scale).astype(np.float32)

    def uniform(self, most: float, *shape: int) -> np.ndarray[Any, Any]:
        """Return float32 values between -most and most."""
        return self._rng.uniform(-most, most, shape).astype(np.float32)


def init(key: Any, config: HopeConfig, *, past_taps: float = 0.0) -> Params:
    """Return fresh float32 parameters, as JAX arrays.

    Args:
        key: a JAX key or an integer seed.
        config: the network's shape.
        past_taps: how far from 0, at most, the taps on the past of the convolution
            before the fast memory start, uniformly drawn. At 0 only the newest tick
            counts at first, which suits control and the tracking of a state; 0.5, which
            is 1 / sqrt(taps), suits recalling symbols (decision 0406).

    Returns:
        Nested dicts: `encoder`, `blocks` (by index), `heads`, and `frozen`, which no
        trainer may change.
    """
    draw = _Draw(key)
    told = config.action_chunk * len(config.action)
    params: Params = {
        "encoder": _encoder(draw, config),
        "blocks": {
            str(i): _block(draw, config, past_taps) for i in range(config.layers)
        },
        "heads": {
            "action": draw.dense(config.d, told, gain=0.5),
            "action_bias": _full(0.0, told),
            "prediction": draw.dense(config.d, config.latent, gain=0.1),
        },
        "frozen": frozen_target(config),
    }
    arrays: Params = jax.tree.map(jax.numpy.asarray, params)
    return arrays


def near_neutral(params: Params) -> Params:
    """Return fresh parameters whose actions stay close to zero whatever is seen.

    An untrained head jumps from frame to frame across its whole range. That is no
    matter to training, but a robot's first policy must not jerk: a safety kernel would
    veto it, and rightly.
    """
    heads = params["heads"]
    calm = {**heads, "action": heads["action"] * _CALM}
    return {**params, "heads": calm}


def trainable_mask(params: Params) -> Any:
    """Return a tree of bools like `params`: False below `frozen`, else True."""
    return {
        name: jax.tree.map(lambda _, free=name != "frozen": free, branch)
        for name, branch in params.items()
    }


def count_parameters(params: Params) -> int:
    """Return the number of trainable scalars."""
    free = [branch for name, branch in params.items() if name != "frozen"]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(free))


def _encoder(draw: _Draw, config: HopeConfig) -> Params:
    d = config.d
    encoder: Params = {"bias": _full(0.0, d), "mix": draw.dense(d, d)}
    if config.has_image:
        encoder["convolutions"], features = _convolutions(
            draw, config.image_channels, *config.image_shape
        )
        encoder["image"] = draw.dense(features, d, gain=2.0)
    if config.senses_motion:
        encoder["motion"] = draw.dense(config.motion_bands, d, gain=2.0)
    if config.proprio:
        encoder["proprio"] = draw.dense(len(config.proprio), d)
    if config.use_previous_action:
        encoder["previous_action"] = draw.dense(len(config.action), d)
    if config.has_depth:
        encoder["depth_convolutions"], features = _convolutions(
            draw, config.image_channels, config.depth_height, config.depth_width, 2
        )
        encoder["depth"] = draw.dense(features, d, gain=2.0)
    if config.instruction_size:
        # an instruction is a vector of length 1: no fan-in to divide by
        scale = math.sqrt(config.instruction_size)
        encoder["instruction"] = draw.dense(config.instruction_size, d, gain=scale)
    if config.has_tokens:
        # a row of the table is looked up, not summed over: no fan-in to divide by
        codes = config.token_codes
        encoder["token_codes"] = draw.dense(codes, _TOKEN_SIZE, gain=math.sqrt(codes))
        encoder["tokens"] = draw.dense(config.token_places * _TOKEN_SIZE, d)
    return encoder


def _convolutions(
    draw: _Draw, filters: tuple[int, ...], height: int, width: int, channels: int
) -> tuple[Params, int]:
    """Return a stack of stride-2 convolutions, and how many features come out."""
    layers: Params = {}
    for index, made in enumerate(filters):
        size = _KERNELS[min(index, len(_KERNELS) - 1)]
        gain = _KERNEL_GAINS[index > 0]
        layers[str(index)] = {
            "kernel": draw.dense(size, size, channels, made, gain=gain),
            "bias": _full(0.0, made),
        }
        height, width, channels = -(-height // 2), -(-width // 2), made
    return layers, height * width * channels


def _block(draw: _Draw, config: HopeConfig, past_taps: float) -> Params:
    d, heads, size = config.d, config.heads, config.head_size
    taps = _full(0.0, config.convolution_width, 3 * heads * size)
    taps[-1] = 1.0
    if past_taps:
        taps[:-1] = draw.uniform(past_taps, *taps[:-1].shape)
    keeps = _SYMBOL_KEEPS if config.unit_keys else _KEEPS
    fast = {
        "norm": _full(1.0, d),
        "qkv": draw.dense(d, 3 * heads * size),
        "taps": taps,
        "gates": draw.dense(d, 2 * heads, gain=0.1),
        "gates_bias": np.concatenate(
            [np.zeros(heads), np.linspace(*keeps, heads)]
        ).astype(np.float32),
        "read_gate": draw.dense(d, heads * size),
        "read_norm": _full(1.0, size),
        "out": draw.dense(heads * size, d, gain=0.5),
    }
    if config.self_modifying:
        fast["self_gain"] = _full(0.1, 3)
    units = config.mid_units
    keeps_of = units // 2 if config.mid_turns else units
    decay = -np.log(np.linspace(0.9, 0.999, keeps_of)) / 8.0
    mid = {
        "norm": _full(1.0, d),
        "inputs": draw.dense(d, 2 * units),
        "gates": draw.dense(units, keeps_of + units, gain=0.5),
        "decay": np.log(np.expm1(decay)).astype(np.float32),
        "out": draw.dense(units, d, gain=0.5),
    }
    if config.mid_turns:
        mid["turn"] = draw.dense(d, keeps_of, gain=_TURN)
    levels = len(config.periods)
    slow: Params = {
        "levels": {
            str(level): {
                "norm": _full(1.0, d),
                "up": draw.dense(d, config.slow_hidden),
                "down": draw.dense(config.slow_hidden, d, gain=0.5),
            }
            for level in range(levels)
        }
    }
    if config.online:
        slow["key"] = draw.dense(d, config.slow_key)
        slow["feedback"] = draw.dense(config.latent, levels * d, gain=0.3)
        slow["rate"] = _full(-1.0, levels)
        slow["leak"] = _full(-4.0, levels)
    return {"fast": fast, "mid": mid, "slow": slow}


def _full(value: float, *shape: int) -> np.ndarray[Any, Any]:
    return np.full(shape, value, np.float32)


def _seed(key: Any) -> list[int]:
    if isinstance(key, int):
        return [key]
    if jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    digest = hashlib.sha256(np.asarray(key).tobytes()).digest()
    return list(np.frombuffer(digest, np.uint32))
