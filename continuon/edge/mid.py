"""Mid in numpy: the selective diagonal recurrence of one layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from continuon.edge.calls import ONE, Array, Soft, add, dot, mul, tanh

__all__ = ["Mid"]

_GELU = math.sqrt(2.0 / math.pi)
_CUBIC = np.array(0.044715 * _GELU, np.float32)
_LINEAR = np.array(_GELU, np.float32)
_TWICE_LEAST = np.array(2e-5, np.float32)


class Mid:
    """Weights, state and buffers of u units.

    Args:
        config: of the network.
        weights: of this layer, by name.
    """

    def __init__(self, config: dict[str, Any], weights: dict[str, Array]) -> None:
        units, d = config["mid_units"], config["d"]
        w = {n.removeprefix("mid/"): v for n, v in weights.items() if "mid/" in n}
        half, inputs = np.float32(0.5), w["inputs"][:, :units]
        # nothing stands between the inputs and their gates, so both are one product
        gates = (0.5 * inputs.astype(np.float64) @ w["gates"]).astype(np.float32)
        decay = w["decay"].astype(np.float64)
        self._turns = config.get("mid_turns", False)
        angles = []
        if self._turns:
            # a pair shares what it keeps
            recur, take = np.split(gates, [units // 2], 1)
            gates, decay = np.concatenate([recur, recur, take], 1), np.tile(decay, 2)
            angles = [w["turn"]]
        # the inputs are halved for the gate that they meet
        parts = [half * inputs, gates, w["inputs"][:, units:], *angles]
        self._into = w["norm"][:, None] * np.concatenate(parts, 1)
        self._normed = np.empty(d, np.float32)
        self._soft = Soft(self._normed)
        self._made = made = np.empty(self._into.shape[1], np.float32)
        self._inputs, self._gates = made[:units], made[units : 3 * units]
        self._recur, self._take = self._gates[:units], self._gates[units:]
        self._gate, self._angle = made[3 * units : 4 * units], made[4 * units :]
        # twice the log of what is kept, where a gate is twice its sigmoid
        rate = -8.0 * np.logaddexp(decay, 0.0)
        self._rate = rate.astype(np.float32)
        self._hidden = np.zeros(units, np.float32)
        self._first, self._second = np.array_split(self._hidden, 2)
        self._keep, self._inner = np.empty((2, units), np.float32)
        self._project = half * w["out"]

    def reset(self) -> None:
        """Set the state to zeros."""
        self._hidden[...] = 0.0

    def advance(self, x: Array) -> None:
        """Change x float32 [d] in place."""
        self._soft.of(x)
        dot(self._normed, self._into, self._made)
        gates, fall, hidden, keep = self._gates, self._recur, self._hidden, self._keep
        tanh(gates, gates)
        add(gates, ONE, gates)
        mul(fall, self._rate, fall)
        np.subtract(fall, _TWICE_LEAST, fall)
        # 1 - keep^2, exact where it is small
        np.expm1(fall, fall)
        np.negative(fall, fall)
        np.subtract(ONE, fall, keep)
        np.sqrt(keep, keep)
        if self._turns:
            self._turn()
        mul(hidden, keep, hidden)
        np.sqrt(fall, fall)
        mul(fall, self._take, fall)
        mul(fall, self._inputs, fall)
        add(hidden, fall, hidden)
        add(x, dot(self._gelu(hidden), self._project), x)

    def _turn(self) -> None:
        """Turn each pair about -1 of its first unit."""
        first, second = self._first, self._second
        along, across = np.cos(self._angle), np.sin(self._angle)
        add(first, ONE, first)
        moved = across * first
        mul(first, along, first)
        np.subtract(first, across * second, first)
        np.subtract(first, ONE, first)
        mul(second, along, second)
        add(second, moved, second)

    def _gelu(self, times: Array) -> Array:
        """Return twice the GELU of the output gate, times something."""
        gate, inner = self._gate, self._inner
        mul(gate, gate, inner)
        mul(inner, _CUBIC, inner)
        add(inner, _LINEAR, inner)
        mul(inner, gate, inner)
        tanh(inner, inner)
        add(inner, ONE, inner)
        mul(inner, gate, inner)
        return np.asarray(mul(inner, times, inner))
