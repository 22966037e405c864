"""Fast in numpy: the gated delta-rule memory of one layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from continuon.edge.calls import ONE, Array, Length, Soft, add, dot, mul, tanh

__all__ = ["Fast"]

_MIN_DECAY = 1e-5
_TWO, _HALF = np.array(2.0, np.float32), np.array(0.5, np.float32)


class Fast:
    """Weights, state and buffers; H heads of size S, `own` corrections beside a value.

    Args:
        config: of the network.
        weights: of this layer, by name.
    """

    def __init__(self, config: dict[str, Any], weights: dict[str, Array]) -> None:
        heads, size, d = config["heads"], config["head_size"], config["d"]
        w = {n.removeprefix("fast/"): v for n, v in weights.items() if "fast/" in n}
        self._self_modifying = config["self_modifying"]
        own, wide = 2 * size + 2 if self._self_modifying else 0, heads * size
        kinds = self._lay_weights(w, heads, size)
        self._normed = np.ones(d + 1, np.float32)
        self._soft = Soft(self._normed[:d])
        self._made = made = np.empty(self._into.shape[1], np.float32)
        # what both a SiLU and the gates of a write need: tanh of a half
        self._halves, self._tanhs = made[3 * wide :], np.empty_like(made[3 * wide :])
        self._half_gate, self._gated = made[3 * wide : 4 * wide], self._tanhs[:wide]
        self._gates = made[4 * wide :].reshape(heads, 2)
        self._opened = self._tanhs[wide:].reshape(heads, 2)
        self._lay_window(made[: 3 * wide], np.ascontiguousarray(w["taps"][:, kinds]))
        least = 1e-6 if config.get("unit_keys", False) else 1.0
        both = self._qkv[: 2 * wide].reshape(2 * heads, size)
        query, self._key = both[:heads], both[heads:]
        self._both_length = Length(both, least)
        self._memory = np.zeros((heads, size, size + own), np.float32)
        self._values = self._memory[..., :size]
        self._anchor = np.zeros((heads, size, own), np.float32)
        # what is to be written: the value, and beside it its own corrections
        wished = np.empty((heads, size + own), np.float32)
        self._value, self._wished = wished[:, :size], wished[:, None]
        self._told = self._qkv[2 * wide :].reshape(heads, size)
        # a head's vector as a row and as a column
        self._query_row, self._key_row = query[:, None], self._key[:, None]
        self._value_row, self._key_column = self._value[:, None], self._key[..., None]
        self._stored = np.empty((heads, 1, size + own), np.float32)
        self._outer = np.empty_like(self._memory)
        self._strength = self._opened[:, :1, None]
        self._keep = self._opened[:, 1:, None]
        # the gates of a write are sigmoids, of which the first is doubled
        scale = np.array([1.0, 0.5 * math.exp(-_MIN_DECAY)], np.float32)
        self._scale = np.tile(scale, (heads, 1))
        self._out = np.empty((heads, 1, size), np.float32)
        self._out_flat = self._out.reshape(wide)
        self._out_length = Length(self._out.reshape(heads, size), 1.0, share=1 / size)
        if self._self_modifying:
            self._lay_corrections(wished, np.asarray(w["self_gain"]), size, least)

    def _lay_weights(self, w: dict[str, Array], heads: int, size: int) -> Array:
        """Put all that meets one input side by side; return the order of `qkv`."""
        half, wide = np.float32(0.5), heads * size
        # [head, (query key value), size] to [(query key value), head, size]
        by_kind = np.arange(3 * wide).reshape(heads, 3, size)
        kinds = by_kind.transpose(1, 0, 2).reshape(-1)
        # [(strength decay), head] to pairs by head
        pairs = np.arange(2 * heads).reshape(2, heads).T.reshape(-1)
        parts = [w["qkv"][:, kinds], half * w["read_gate"], half * w["gates"][:, pairs]]
        bias = np.zeros(4 * wide + 2 * heads, np.float32)
        bias[4 * wide :] = half * w["gates_bias"][pairs]
        product = w["norm"][:, None] * np.concatenate(parts, 1)
        self._into = np.concatenate([product, bias[None]])
        self._project = np.tile(w["read_norm"], heads)[:, None] * w["out"]
        return kinds

    def _lay_window(self, newest: Array, taps: Array) -> None:
        self._newest, self._taps = newest, taps
        self._window, self._tapped = np.zeros_like(taps), np.empty_like(taps)
        self._older, self._later = self._window[:-1], self._window[1:]
        self._last_row = self._window[-1]
        self._qkv = np.empty(taps.shape[1], np.float32)
        self._ones = np.ones(len(taps), np.float32)

    def _lay_corrections(
        self, wished: Array, gain: Array, size: int, least: float
    ) -> None:
        heads = len(wished)
        self._read = np.empty((heads, 1, 2 * size + 2), np.float32)
        told = self._read[:, 0]
        self._more_key, self._more_value = told[:, :size], told[:, size : 2 * size]
        self._more_gates = told[:, 2 * size :]
        self._told_pair = told[:, : 2 * size].reshape(heads, 2, size)
        self._pair = np.empty((heads, 2, size), np.float32)
        self._pair_length = Length(self._pair.reshape(2 * heads, size), 1.0)
        self._pair_gain = np.tile(
            np.repeat(gain[:2], size).reshape(2, size), (heads, 1, 1)
        ).astype(np.float32)
        self._pair_flat = self._pair.reshape(heads, 2 * size)
        self._wished_pair = wished[:, size : 3 * size]
        self._wished_last, self._first_two = wished[:, 3 * size :], wished[:, :2]
        self._last_gain = np.array(gain[2], np.float32)
        self._key_length = Length(self._key, least)

    def reset(self) -> None:
        """Set the state to zeros."""
        for held in (self._memory, self._anchor, self._window):
            held[...] = 0.0

    def refresh(self) -> None:
        """Move the anchor, as before each tick that is a multiple of `chunk`."""
        if self._self_modifying:
            size = self._value.shape[1]
            self._anchor[...] = self._memory[..., size:]
            # of the corrections the last two are of gates, which take halves
            self._anchor[..., 2 * size :] *= _HALF

    def advance(self, x: Array) -> None:
        """Change x float32 [d] in place."""
        self._soft.of(x)
        dot(self._normed, self._into, self._made)
        self._older[...] = self._later
        self._last_row[...] = self._newest
        mul(self._window, self._taps, self._tapped)
        dot(self._ones, self._tapped, self._qkv)
        self._both_length.divide()
        self._value[...] = self._told
        if self._self_modifying:
            self._correct()
        tanhs = self._tanhs
        tanh(self._halves, tanhs)
        add(tanhs, ONE, tanhs)
        self._write()
        np.matmul(self._query_row, self._values, self._out)
        self._out_length.divide()
        gated = self._gated
        mul(gated, self._half_gate, gated)
        mul(gated, self._out_flat, gated)
        add(x, dot(gated, self._project), x)

    def _correct(self) -> None:
        """Add what the memory says of its own key, value, gates and targets."""
        key, value, last = self._key, self._value, self._wished_last
        np.matmul(self._key_row, self._anchor, self._read)
        add(key, self._more_key, key)
        self._key_length.divide()
        add(value, self._more_value, value)
        add(self._gates, self._more_gates, self._gates)
        np.matmul(self._value_row, self._anchor, self._read)
        add(self._told_pair, self._value_row, self._pair)
        self._pair_length.divide()
        mul(self._pair, self._pair_gain, self._pair)
        self._wished_pair[...] = self._pair_flat
        # the anchor's last two columns are halves
        mul(self._more_gates, _TWO, last)
        add(last, self._first_two, last)
        tanh(last, last)
        mul(last, self._last_gain, last)

    def _write(self) -> None:
        """Let the memory fade, and let it answer the key with what is wished."""
        memory, stored, opened = self._memory, self._stored, self._opened
        mul(opened, self._scale, opened)
        mul(memory, self._keep, memory)
        np.matmul(self._key_row, memory, stored)
        np.subtract(self._wished, stored, stored)
        mul(stored, self._strength, stored)
        mul(self._key_column, stored, self._outer)
        add(memory, self._outer, memory)
