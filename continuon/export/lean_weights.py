"""The parameters rearranged for a runtime on which every small operator costs.

A pure function of the parameters; nothing is lost but the order of rounding:

- a gain before a product becomes part of the product's rows;
- products of the same input become one product, their columns side by side;
- a product after a product becomes one, where nothing stands between them (the gates
  of Mid);
- queries, keys and values stand by kind, then head, so that a part is one slice;
- what the config and the parameters alone say (rates, leaks, decays) is a constant.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from continuon.hope.config import HopeConfig
from continuon.hope.fast import MIN_DECAY

__all__ = ["BlockWeights", "LeanWeights", "rearrange"]

Array = np.ndarray[Any, Any]


@attrs.frozen(kw_only=True)
class BlockWeights:
    """One layer; H heads of size S, u Mid units, m key entries, K levels.

    Attributes:
        fast: [d, 3HS + HS + 2H], for query, key and value, read gate, gates; its bias.
        taps: [taps, 3HS].
        gate_scale: [2], what the sigmoids of write strength and decay are times.
        self_gain: [3].
        fast_out: [HS, d].
        mid: [d, 4u], for input, output gate, recurrence and input gates; and u / 2 more
            for the angles of pairs that turn, which share a recurrence gate.
        log_keep: [1, u], log of what Mid keeps where its recurrence gate is open.
        mid_out: [u, d].
        up: K of [d, hidden]; the first also makes the key, in its last m columns.
        down: K of [hidden, d].
    """

    fast: Array
    fast_bias: Array
    taps: Array
    gate_scale: Array
    self_gain: Array
    fast_out: Array
    mid: Array
    log_keep: Array
    mid_out: Array
    up: tuple[Array, ...]
    down: tuple[Array, ...]

    @property
    def products(self) -> tuple[Array, ...]:
        """Every matrix [inputs, outputs] of the layer."""
        return (self.fast, self.fast_out, self.mid, self.mid_out, *self.up, *self.down)


@attrs.frozen(kw_only=True)
class LeanWeights:
    """The network but its encoder; columns of all layers side by side in the first two.

    Attributes:
        feedback: [latent, layers K d], from the error to what the levels should read.
        rate, leak: [layers K d], of the writes, the rate over the period.
        heads: [d, A + latent], the first action of the chunk, then the prediction.
        bias: of the heads.

    Without online writes the first three are empty.
    """

    blocks: tuple[BlockWeights, ...]
    feedback: Array
    rate: Array
    leak: Array
    heads: Array
    bias: Array


def rearrange(params: Any, config: HopeConfig, dtype: Any = np.float32) -> LeanWeights:
    """Return the weights of `params`, whose leaves are plain arrays, in this order."""
    wide = _float64(params)
    blocks = [wide["blocks"][str(index)] for index in range(config.layers)]
    first = len(config.action)
    heads = wide["heads"]
    slow = [block["slow"] for block in blocks] if config.online else []
    periods = np.asarray(config.periods, np.float64)
    values = LeanWeights(
        blocks=tuple(_block(block, config) for block in blocks),
        feedback=_beside([s["feedback"] for s in slow]),
        rate=_columns([2.0 * _sigmoid(s["rate"]) / periods for s in slow], config.d),
        leak=_columns([_sigmoid(s["leak"]) for s in slow], config.d),
        heads=np.concatenate([heads["action"][:, :first], heads["prediction"]], 1),
        bias=np.pad(heads["action_bias"][:first], (0, config.latent)),
    )
    cast: LeanWeights = _cast(values, dtype)
    return cast


def _block(block: dict[str, Any], config: HopeConfig) -> BlockWeights:
    fast, mid, slow = block["fast"], block["mid"], block["slow"]
    heads, size, units = config.heads, config.head_size, config.mid_units
    # [H, (q k v), S] to [(q k v), H, S], and [(strength decay), H] to pairs by head
    order = np.arange(3 * heads * size).reshape(heads, 3, size)
    kinds = order.transpose(1, 0, 2).reshape(-1)
    pairs = np.arange(2 * heads).reshape(2, heads).T.reshape(-1)
    gain = fast["norm"][:, None]
    width = 4 * heads * size
    mid_gain = mid["norm"][:, None]
    into = mid_gain * mid["inputs"]
    parts = [into, into[:, :units] @ mid["gates"]]
    decay = mid["decay"]
    if config.mid_turns:
        recur, take = np.split(parts.pop(), [units // 2], 1)
        parts += [recur, recur, take, mid_gain * mid["turn"]]
        decay = np.tile(decay, 2)
    levels = [slow["levels"][str(level)] for level in range(len(config.periods))]
    up = [level["norm"][:, None] * level["up"] for level in levels]
    if config.online:
        up[0] = np.concatenate([up[0], levels[0]["norm"][:, None] * slow["key"]], 1)
    return BlockWeights(
        fast=gain
        * np.concatenate(
            [fast["qkv"][:, kinds], fast["read_gate"], fast["gates"][:, pairs]], 1
        ),
        fast_bias=np.concatenate([np.zeros(width), fast["gates_bias"][pairs]]),
        taps=fast["taps"][:, kinds],
        gate_scale=np.array([2.0, np.exp(-MIN_DECAY)]),
        self_gain=fast["self_gain"] if config.self_modifying else np.zeros(3),
        fast_out=np.tile(fast["read_norm"], heads)[:, None] * fast["out"],
        mid=np.concatenate(parts, 1),
        log_keep=-8.0 * np.logaddexp(decay, 0.0)[None],
        mid_out=mid["out"],
        up=tuple(up),
        down=tuple(level["down"] for level in levels),
    )


def _beside(parts: list[Array]) -> Array:
    return np.concatenate(parts, -1) if parts else np.zeros(0)


def _columns(parts: list[Array], width: int) -> Array:
    """Return one number for each column of each layer from one for each level."""
    return _beside([np.repeat(part, width) for part in parts])


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (np.tanh(0.5 * x) + 1.0))


def _float64(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _float64(branch) for name, branch in tree.items()}
    return np.asarray(tree, np.float64)


def _cast(value: Any, dtype: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_cast(part, dtype) for part in value)
    if attrs.has(type(value)):
        fields = attrs.fields(type(value))
        return type(value)(
            **{f.name: _cast(getattr(value, f.name), dtype) for f in fields}
        )
    return np.asarray(value, dtype)
