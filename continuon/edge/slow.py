"""Slow in numpy: the chain of levels of one layer, and their memories."""

from __future__ import annotations

from typing import Any

import numpy as np

from continuon.edge.calls import Array, Length, Soft, add, dot, silu

__all__ = ["Slow"]


class Slow:
    """Weights, state and buffers; memories of all levels stand side by side.

    Args:
        config: of the network.
        weights: of this layer, by name.
        key, read: views [m], [levels d] where each tick's key, and what it reads, are
            left for their owner, who knows the error a tick later.
    """

    def __init__(
        self,
        config: dict[str, Any],
        weights: dict[str, Array],
        *,
        key: Array,
        read: Array,
    ) -> None:
        levels, width = len(config["periods"]), config["d"]
        w = {n.removeprefix("slow/"): v for n, v in weights.items() if "slow/" in n}
        self._online = config["online"]
        self._levels = []
        for level in range(levels):
            place = f"levels/{level}/"
            gain, up = w[place + "norm"][:, None], w[place + "up"]
            into = gain * (np.float32(0.5) * up)
            if self._online and level == 0:
                into = np.concatenate([into, gain * w["key"]], 1)
            made = np.empty(into.shape[1], np.float32)
            half = made[: up.shape[1]]
            here = read[level * width : (level + 1) * width]
            self._levels.append((into, made, half, w[place + "down"], here))
        self._made_key = self._levels[0][1][up.shape[1] :]
        self._normed = np.empty(width, np.float32)
        self._soft = Soft(self._normed)
        self._active = np.empty(up.shape[1], np.float32)
        self._key, self._read = key, read
        if self._online:
            periods = np.asarray(config["periods"], np.float64)
            self._rate = (2.0 * _sigmoid(w["rate"]) / periods).astype(np.float32)
            self._kept = (1.0 - _sigmoid(w["leak"])).astype(np.float32)
            self._length = Length(self._made_key[None], 1.0)
        self._memory = np.zeros((len(key), len(read)), np.float32)
        self._gradient = np.zeros_like(self._memory)

    def reset(self) -> None:
        """Set the state to zeros."""
        for held in (self._memory, self._gradient, self._key, self._read):
            held[...] = 0.0

    def fold(self, due: Array, keys: Array, residuals: Array) -> None:
        """Write the levels that are due, indices, after a chunk's ticks.

        Args:
            due: indices of levels.
            keys: of those ticks, [C, m].
            residuals: of the same, [C, levels d].
        """
        self._gradient += keys.T @ residuals
        width = len(self._normed)
        for level in due.tolist():
            columns = slice(level * width, (level + 1) * width)
            memory, gradient = self._memory[:, columns], self._gradient[:, columns]
            memory += self._rate[level] * gradient
            memory *= self._kept[level]
            gradient[...] = 0.0

    def advance(self, x: Array) -> None:
        """Change x float32 [d] in place."""
        for level, (into, made, half, down, read) in enumerate(self._levels):
            self._soft.of(x)
            dot(self._normed, into, made)
            if self._online and level == 0:
                self._length.divide()
                self._key[...] = self._made_key
                dot(self._key, self._memory, self._read)
            add(x, dot(silu(half, self._active), down), x)
            if self._online:
                add(x, read, x)


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (np.tanh(0.5 * x.astype(np.float64)) + 1.0))
