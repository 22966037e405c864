"""The recurrent step in numpy: oracle of the compiled artifacts, and a fallback.

The maths is that of `continuon.hope`, written a second time on purpose: plain float32
numpy without a batch axis, state changed in place, no framework to trust.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

import numpy as np

from continuon.edge.convolution import Convolution
from continuon.edge.motion import Motion
from continuon.errors import DataError
from continuon.tensorfile import read_tensors

__all__ = ["NumpyEngine"]

Array = np.ndarray[Any, Any]
_PROPRIO_LIMIT = 1000.0
_MIN_DECAY = np.float32(1e-5)


class NumpyEngine:
    """One network's weights and its recurrent state."""

    def __init__(self, config: dict[str, Any], tensors: dict[str, Array]) -> None:
        self._config = config
        self._weights = tensors
        self._blocks = [
            _Block(config, _below(tensors, f"blocks/{index}/"))
            for index in range(config["layers"])
        ]
        self._convolutions = self._stack("convolutions") if self._sees else []
        self._deep = bool(config.get("depth_height", 0))
        self._depth = self._stack("depth_convolutions") if self._deep else []
        self.chunk = np.zeros((1, len(config["action"])), np.float32)
        """[action_chunk, A], the last tick's actions to be run open loop."""
        bands = config.get("motion_bands", 0)
        self._motion = Motion(bands) if bands and self._sees else None
        self.reset()

    def _stack(self, name: str) -> list[Convolution]:
        below = _below(self._weights, f"encoder/{name}/")
        layers = range(len(self._config["image_channels"]))
        return [Convolution(below[f"{i}/kernel"], below[f"{i}/bias"]) for i in layers]

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read `policy.weights` or a checkpoint.

        Raises:
            DataError: the file is torn or altered, or holds no HOPE network.
        """
        file = read_tensors(path)
        if file.document.get("kind") != "hope-checkpoint":
            raise DataError(
                "E-EDGE-WEIGHTS-001",
                "this tensor file holds no HOPE network",
                where=path,
                seen=file.document.get("kind"),
                allowed="hope-checkpoint",
            )
        return cls(file.document["config"], file.tensors)

    @property
    def _sees(self) -> bool:
        return bool(self._config["image_height"] > 0)

    def reset(self) -> None:
        """Set the recurrent state to zeros."""
        self._tick = 0
        if self._motion is not None:
            self._motion.reset()
        self._prediction = np.zeros(self._config["latent"], np.float32)
        for block in self._blocks:
            block.reset()

    def advance(self, inputs: dict[str, Array]) -> tuple[Array, float]:
        """Run one tick; see `Engine`."""
        weights = self._weights
        x, latent = self._encode(inputs)
        error = latent - self._prediction
        if self._tick == 0:
            error = np.zeros_like(latent)
        for block in self._blocks:
            x = block.advance(x, error, self._tick)
        self._tick += 1
        self._prediction = x @ weights["heads/prediction"]
        raw = x @ weights["heads/action"] + weights["heads/action_bias"]
        told = np.clip(np.tanh(raw), -1.0, 1.0)
        self.chunk = told.reshape(-1, len(self._config["action"]))
        return self.chunk[0], float(0.5 * np.mean(error * error))

    def _encode(self, inputs: dict[str, Array]) -> tuple[Array, Array]:
        weights = self._weights
        x = weights["encoder/bias"]
        sources = []
        if self._sees:
            pixels = inputs["image"].astype(np.float32) * np.float32(1 / 255) - 0.5
            x = x + _seen(self._convolutions, pixels) @ weights["encoder/image"]
            grey = np.mean(pixels, -1)
            if self._motion is not None:
                x = x + self._motion(grey) @ weights["encoder/motion"]
            cells = weights["frozen/rows"] @ grey @ weights["frozen/columns"]
            sources.append(cells.reshape(-1))
        if self._deep:
            near = _nearness(inputs["depth"], self._config["depth_limit_m"])
            x = x + _seen(self._depth, near) @ weights["encoder/depth"]
        if self._config.get("instruction_size", 0):
            told = np.clip(inputs["instruction"], -1.0, 1.0)
            x = x + told @ weights["encoder/instruction"]
        if self._config["proprio"]:
            proprio = np.clip(inputs["proprio"], -_PROPRIO_LIMIT, _PROPRIO_LIMIT)
            x = x + proprio @ weights["encoder/proprio"]
            sources.append(proprio)
        if self._config["use_previous_action"]:
            previous = np.clip(inputs["previous_action"], -1.0, 1.0)
            x = x + previous @ weights["encoder/previous_action"]
        x = x + _silu(x) @ weights["encoder/mix"]
        return x, np.concatenate(sources) @ weights["frozen/projection"]


class _Block:
    """Fast, Mid and Slow of one layer."""

    def __init__(self, config: dict[str, Any], weights: dict[str, Array]) -> None:
        self._config = config
        self._w = weights
        self._taps = weights["fast/taps"]

    def reset(self) -> None:
        config, size = self._config, self._config["head_size"]
        heads, levels = config["heads"], len(config["periods"])
        own = 2 * size + 2 if config["self_modifying"] else 0
        self._window = np.zeros(self._taps.shape, np.float32)
        self._memory = np.zeros((heads, size, size + own), np.float32)
        self._anchor = np.zeros((heads, size, own), np.float32)
        self._hidden = np.zeros(config["mid_units"], np.float32)
        self._key = np.zeros(config["slow_key"], np.float32)
        self._slow = np.zeros((config["slow_key"], levels * config["d"]), np.float32)
        self._gradient = np.zeros_like(self._slow)

    def advance(self, x: Array, error: Array, tick: int) -> Array:
        if self._config["online"]:
            self._write_slow(error, tick)
        if self._config["self_modifying"] and tick % self._config["chunk"] == 0:
            self._anchor[...] = self._memory[..., self._config["head_size"] :]
        x = self._fast(x)
        x = self._mid(x)
        return self._read_slow(x)

    def _fast(self, x: Array) -> Array:
        w, size, heads = self._w, self._config["head_size"], self._config["heads"]
        normed = _soft(x, w["fast/norm"])
        self._window[:-1] = self._window[1:]
        self._window[-1] = normed @ w["fast/qkv"]
        qkv = np.sum(self._window * self._taps, 0).reshape(heads, 3 * size)
        length = _unit if self._config.get("unit_keys", False) else _soft_unit
        query, key = length(qkv[:, :size]), length(qkv[:, size : 2 * size])
        value = qkv[:, 2 * size :]
        strength, decay = np.split(normed @ w["fast/gates"] + w["fast/gates_bias"], 2)
        if self._config["self_modifying"]:
            read = (key[:, None] @ self._anchor)[:, 0]
            key = length(key + read[:, :size])
            value = value + read[:, size : 2 * size]
            strength, decay = strength + read[:, -2], decay + read[:, -1]
            own = (value[:, None] @ self._anchor)[:, 0]
            gain = w["fast/self_gain"]
            parts = [
                value,
                gain[0] * _soft_unit(own[:, :size] + value),
                gain[1] * _soft_unit(own[:, size : 2 * size] + value),
                gain[2] * np.tanh(own[:, 2 * size :] + value[:, :2]),
            ]
            value = np.concatenate(parts, -1)
        memory = self._memory
        memory *= np.exp(-_softplus(-decay) - _MIN_DECAY)[:, None, None]
        write = 2.0 * _sigmoid(strength)[:, None]
        update = write * (value - (key[:, None] @ memory)[:, 0])
        memory += key[:, :, None] * update[:, None]
        read = _soft((query[:, None] @ memory[..., :size])[:, 0], w["fast/read_norm"])
        gated = read.reshape(-1) * _silu(normed @ w["fast/read_gate"])
        return np.asarray(x + gated @ w["fast/out"])

    def _mid(self, x: Array) -> Array:
        w = self._w
        inputs, gate = np.split(_soft(x, w["mid/norm"]) @ w["mid/inputs"], 2)
        recur, take = np.split(_sigmoid(inputs @ w["mid/gates"]), 2)
        log_keep = -8.0 * _softplus(w["mid/decay"]) * recur - _MIN_DECAY
        drive = np.sqrt(-np.expm1(2.0 * log_keep)) * take * inputs
        self._hidden = np.exp(log_keep) * self._hidden + drive
        return np.asarray(x + (self._hidden * _gelu(gate)) @ w["mid/out"])

    def _write_slow(self, error: Array, tick: int) -> None:
        w, width, slow = self._w, self._config["d"], self._slow
        residual = _soft(error, 1.0) @ w["slow/feedback"] - self._key @ slow
        self._gradient += self._key[:, None] * residual[None]
        for level, period in enumerate(self._config["periods"]):
            if tick == 0 or tick % period:
                continue
            columns = slice(level * width, (level + 1) * width)
            rate = 2.0 * _sigmoid(w["slow/rate"][level]) / np.float32(period)
            slow[:, columns] += rate * self._gradient[:, columns]
            slow[:, columns] *= 1.0 - _sigmoid(w["slow/leak"][level])
            self._gradient[:, columns] = 0.0

    def _read_slow(self, x: Array) -> Array:
        w, width = self._w, self._config["d"]
        read = None
        if self._config["online"]:
            self._key = _soft_unit(_soft(x, w["slow/levels/0/norm"]) @ w["slow/key"])
            read = self._key @ self._slow
        for level in range(len(self._config["periods"])):
            mlp = f"slow/levels/{level}/"
            hidden = _silu(_soft(x, w[mlp + "norm"]) @ w[mlp + "up"])
            y = hidden @ w[mlp + "down"]
            if read is not None:
                y = y + read[level * width : (level + 1) * width]
            x = x + y
        return x


def _below(tensors: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _seen(convolutions: list[Convolution], x: Array) -> Array:
    for convolution in convolutions:
        x = _silu(convolution(x))
    return x.reshape(-1)


def _nearness(depth_m: Array, limit_m: float) -> Array:
    """Return how near [-0.5, 0.5] and whether known, [h, w, 2]."""
    depth_m = np.asarray(depth_m, np.float32)
    known = np.isfinite(depth_m) & (depth_m > 0)
    near = 0.5 - np.clip(np.where(known, depth_m, 0), 0, limit_m) / limit_m
    return np.stack([np.where(known, near, 0), known], -1).astype(np.float32)


def _soft(x: Array, gain: Array | float) -> Array:
    return np.asarray(x * (gain / np.sqrt(np.mean(x * x, -1, keepdims=True) + 1.0)))


def _soft_unit(x: Array) -> Array:
    return np.asarray(x / np.sqrt(np.sum(x * x, -1, keepdims=True) + 1.0))


def _unit(x: Array) -> Array:
    return np.asarray(x / np.sqrt(np.sum(x * x, -1, keepdims=True) + 1e-6))


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (np.tanh(0.5 * x) + 1.0))


def _silu(x: Array) -> Array:
    return x * _sigmoid(x)


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(x, np.float32(0.0)))


def _gelu(x: Array) -> Array:
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    return np.asarray(0.5 * x * (1.0 + np.tanh(inner)))
