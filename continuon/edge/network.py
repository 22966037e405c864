"""The recurrent step in numpy: oracle of the compiled artifacts, and a fallback.

The maths is that of `continuon.hope`, written a second time on purpose: plain float32
numpy without a batch axis, state changed in place, no framework to trust.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from continuon.edge.block import Block
from continuon.edge.encoding import Encoder
from continuon.tensorfile import read_kind

__all__ = ["NumpyEngine"]

_VERSION = 1
"""Of the files that are read here."""
Array = np.ndarray[Any, Any]


class NumpyEngine:
    """One network's weights and its recurrent state.

    Each tick's slow keys and residuals are logged, a row a tick; the memories that they
    change are written every `chunk` ticks, as the network defines it.
    """

    def __init__(self, config: dict[str, Any], tensors: dict[str, Array]) -> None:
        layers, levels = config["layers"], len(config["periods"])
        size, columns = config["slow_key"], levels * config["d"]
        self._chunk, self._online = config["chunk"], config["online"]
        self._periods = np.asarray(config["periods"])
        self._encode = Encoder(config, tensors)
        self._key = np.zeros(layers * size, np.float32)
        self._read = np.zeros(layers * columns, np.float32)
        self._keys = np.zeros((self._chunk, layers * size), np.float32)
        self._residuals = np.zeros((self._chunk, layers * columns), np.float32)
        self._own = [
            (
                slice(index * size, (index + 1) * size),
                slice(index * columns, (index + 1) * columns),
            )
            for index in range(layers)
        ]
        below = [_below(tensors, f"blocks/{index}/") for index in range(layers)]
        self._blocks = [
            Block(config, weights, key=self._key[key], read=self._read[read])
            for weights, (key, read) in zip(below, self._own, strict=True)
        ]
        if self._online:
            self._feedback = np.concatenate([w["slow/feedback"] for w in below], 1)
        self._actions = tensors["heads/action"].shape[1]
        heads = [tensors["heads/action"], tensors["heads/prediction"]]
        self._heads = np.concatenate(heads, 1)
        self._bias = tensors["heads/action_bias"]
        self.chunk = np.zeros((1, len(config["action"])), np.float32)
        """[action_chunk, A], the last tick's actions to be run open loop."""
        self._action = len(config["action"])
        keyed = config.get("action_levels", ())
        self._levels = np.isin(config["action"], keyed) if keyed else None
        self._straight = config.get("straight_action", False)
        self._latent = config["latent"]
        self.reset()

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read `policy.weights` or a checkpoint.

        Raises:
            DataError: the file is torn or altered, or E-EDGE-WEIGHTS-001, it holds no
                HOPE network of a known version.
        """
        file = read_kind(
            path,
            "hope-checkpoint",
            _VERSION,
            code="E-EDGE-WEIGHTS-001",
            what="HOPE network",
        )
        return cls(file.document["config"], file.tensors)

    def reset(self) -> None:
        """Set the recurrent state to zeros."""
        self._tick = 0
        self._encode.reset()
        self._prediction = np.zeros(self._latent, np.float32)
        for block in self._blocks:
            block.reset()

    def advance(self, inputs: dict[str, Array]) -> tuple[Array, float]:
        """Run one tick; see `Engine`."""
        x, latent = self._encode(inputs)
        error = latent - self._prediction
        if self._tick == 0:
            error[...] = 0.0
        square = float(error.dot(error)) / self._latent
        if self._tick:
            self._account(error, 1.0 / (square + 1.0) ** 0.5)
        for block in self._blocks:
            block.advance(x)
        self._tick += 1
        made = x @ self._heads
        self._prediction = made[self._actions :]
        raw = made[: self._actions] + self._bias
        told = np.clip(raw if self._straight else np.tanh(raw), -1.0, 1.0)
        self.chunk = self._drawn(told.reshape(-1, self._action))
        return self.chunk[0], 0.5 * square

    def _drawn(self, told: Array) -> Array:
        """Return actions [.., A], those with levels drawn to -1, 0 and 1."""
        if self._levels is None:
            return told
        square = told * told
        curve = told * square * (10.0 - 15.0 * np.abs(told) + 6.0 * square)
        return np.clip(np.where(self._levels, curve, told), -1.0, 1.0)

    def _account(self, error: Array, scale: float) -> None:
        """Log what the last tick's keys should have read; at a chunk's end, fold."""
        row = (self._tick - 1) % self._chunk
        if self._online:
            self._keys[row] = self._key
            wished = (error * scale) @ self._feedback
            np.subtract(wished, self._read, out=self._residuals[row])
        if self._tick % self._chunk:
            return
        due = np.flatnonzero(self._tick % self._periods == 0) if self._online else None
        for block, (key, read) in zip(self._blocks, self._own, strict=True):
            block.fold(due, self._keys[:, key], self._residuals[:, read])


def _below(tensors: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
