"""The manipulation head on the robot, in numpy: future fingertips from what is seen.

The maths is that of `continuon.hope.aina`, written anew: no framework to trust.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from continuon.errors import ContractError
from continuon.tensorfile import read_kind

__all__ = ["AinaHead"]

_SCALE_M, _STEP_M = 0.1, 0.01
_VERSION = 1
"""Of the files that are read here."""
Array = np.ndarray[Any, Any]


class AinaHead:
    """A trained head; `sha256` is of the file that it was read from.

    Attributes:
        fingertips, history, horizon: its sizes, see `continuon.hope.aina`.
        rate_hz: ticks a second of what it was trained on; 0 where the file says none.
        origin: of what it was trained on.
    """

    def __init__(
        self,
        config: dict[str, Any],
        tensors: dict[str, Array],
        *,
        metadata: dict[str, Any],
        sha256: str,
    ) -> None:
        self.fingertips, self.history = config["fingertips"], config["history"]
        self.horizon, self.sha256 = config["horizon"], sha256
        self.rate_hz = float(metadata.get("rate_hz", 0.0))
        self.origin = str(metadata.get("origin", ""))
        self._heads, self._d = config["heads"], config["d"]
        self._weights = tensors
        self._layers = range(config["layers"])

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a head's file.

        Raises:
            DataError: it is torn or altered, or E-EDGE-AINA-001, no head of a
                known version.
        """
        file = read_kind(
            path,
            "hope-aina",
            _VERSION,
            code="E-EDGE-AINA-001",
            what="manipulation head",
        )
        document = file.document
        return cls(
            document["config"],
            file.tensors,
            metadata=document["metadata"],
            sha256=file.sha256,
        )

    def __call__(self, points_m: Array, tips_m: Array) -> Array:
        """Return float32 [horizon, K, 3] in the frame of the inputs, metres.

        Args:
            points_m: object points [N, 3], in any order.
            tips_m: fingertip tracks [history, K, 3], the newest last.

        Raises:
            ContractError: E-EDGE-AINA-002, an input has another shape or is not finite.
        """
        wanted = (self.history, self.fingertips, 3)
        points, tips = np.asarray(points_m), np.asarray(tips_m)
        fits = points.ndim == 2 and points.shape[-1:] == (3,) and len(points)
        if tips.shape != wanted or not fits:
            raise _refused(points, tips, f"points [N, 3], tracks {list(wanted)}")
        if not (np.isfinite(points).all() and np.isfinite(tips).all()):
            raise _refused(points, tips, "finite metres")
        w = self._weights
        points, tips = points.astype(np.float32), tips.astype(np.float32)
        now = tips[-1]
        steps = np.moveaxis(tips[1:] - tips[:-1], 0, 1)
        tokens = self._tokens(points, now, steps)
        for layer in self._layers:
            tokens = self._attend(layer, tokens)
        at_points, at_tips = tokens[: len(points)], tokens[len(points) :]
        gates = self._by_horizon(at_tips @ w["gates"])
        reach, among = points[None] - now[:, None], now[None] - now[:, None]
        pulled = self._pull(w["to_point"], at_tips, at_points, reach)
        change = gates[..., :1] * pulled
        change += gates[..., 1:2] * self._pull(w["to_tip"], at_tips, at_tips, among)
        change += np.einsum("hks,ksx->hkx", gates[..., 2:], steps)
        return np.asarray(now[None] + change, np.float32)

    def _tokens(self, points: Array, now: Array, steps: Array) -> Array:
        centre = points.mean(0)
        point = np.concatenate(
            [
                _lengths(points[:, None] - now[None], _SCALE_M),
                _lengths(points - centre, _SCALE_M)[:, None],
            ],
            -1,
        )
        tip = np.concatenate(
            [
                _lengths(now[:, None] - now[None], _SCALE_M),
                _lengths(steps, _STEP_M),
                _lengths(now - centre, _SCALE_M)[:, None],
            ],
            -1,
        )
        w = self._weights
        return np.concatenate([point @ w["point"], tip @ w["tip"] + w["name"]])

    def _attend(self, layer: int, tokens: Array) -> Array:
        w = {
            name: self._weights[f"layers/{layer}/{name}"]
            for name in ("qkv", "out", "up", "down")
        }
        count, size = len(tokens), self._d // self._heads
        qkv = (_normed(tokens) @ w["qkv"]).reshape(count, 3, self._heads, size)
        query, key, value = (qkv[:, part].transpose(1, 0, 2) for part in range(3))
        scores = query @ key.transpose(0, 2, 1) / np.float32(size**0.5)
        mixed = _softmax(scores) @ value
        tokens = tokens + mixed.transpose(1, 0, 2).reshape(count, self._d) @ w["out"]
        hidden = _normed(tokens) @ w["up"]
        hidden = hidden * (0.5 * (np.tanh(0.5 * hidden) + 1.0))
        return np.asarray(tokens + hidden @ w["down"])

    def _pull(self, weight: Array, at_tips: Array, at_goals: Array, to: Array) -> Array:
        query = self._by_horizon(_normed(at_tips) @ weight)
        scores = np.einsum("hkd,nd->hkn", query, _normed(at_goals))
        share = _softmax(scores / np.float32(self._d**0.5))
        return np.asarray(np.einsum("hkn,knx->hkx", share, to))

    def _by_horizon(self, flat: Array) -> Array:
        return flat.reshape(len(flat), self.horizon, -1).swapaxes(0, 1)


def _lengths(vectors: Array, unit_m: float) -> Array:
    squares = np.sum(vectors * vectors, -1)
    return np.asarray(np.log1p(np.sqrt(squares + np.float32(1e-12)) / unit_m))


def _normed(x: Array) -> Array:
    return np.asarray(x / np.sqrt(np.mean(x * x, -1, keepdims=True) + np.float32(1e-6)))


def _softmax(scores: Array) -> Array:
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(shares / shares.sum(-1, keepdims=True))


def _refused(points: Array, tips: Array, allowed: str) -> ContractError:
    return ContractError(
        "E-EDGE-AINA-002",
        "the points or tracks do not fit the manipulation head",
        seen=f"points {points.shape}, tracks {tips.shape}",
        allowed=allowed,
    )
