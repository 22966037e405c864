"""Senses in, one vector out, and the frozen latent that is to be predicted."""

from __future__ import annotations

from typing import Any

import numpy as np

from continuon.edge.calls import Array, silu
from continuon.edge.convolution import Convolution
from continuon.edge.motion import Motion
from continuon.errors import ContractError

__all__ = ["Encoder"]

_PROPRIO_LIMIT = 1000.0
_SIZES = ("proprio", "previous_action", "instruction")


class Encoder:
    """One network's encoder; it keeps the last frame where the network sees motion.

    Every sense stands beside the others in one vector, a one last for the bias, so a
    single product mixes them.

    Raises:
        ContractError: E-EDGE-SENSE-001, the network is told tokens.
    """

    def __init__(self, config: dict[str, Any], tensors: dict[str, Array]) -> None:
        if config.get("token_places", 0):
            raise ContractError(
                "E-EDGE-SENSE-001",
                "this network is told tokens, and the robot makes none for it yet",
                where="token_places",
                seen=config["token_places"],
                allowed=0,
                hint="run a network that was trained without tokens",
            )
        self._config = config
        self._sees = config["image_height"] > 0
        self._deep = config.get("depth_height", 0) > 0
        bands = config.get("motion_bands", 0)
        self._motion = Motion(bands) if bands and self._sees else None
        names = ["image"] * self._sees + ["motion"] * (self._motion is not None)
        names += ["depth"] * self._deep
        names += [name for name in _SIZES if f"encoder/{name}" in tensors]
        parts = [tensors[f"encoder/{name}"] for name in names]
        self._matrix = np.concatenate([*parts, tensors["encoder/bias"][None]])
        self._all = np.ones(len(self._matrix), np.float32)
        ends = np.cumsum([len(part) for part in parts])
        self._parts = dict(zip(names, np.split(self._all[:-1], ends[:-1]), strict=True))
        self._mix = tensors["encoder/mix"]
        self._active = np.empty(config["d"], np.float32)
        self._image = _Stack(config, tensors, "convolutions")
        self._depth = _Stack(config, tensors, "depth_convolutions")
        if self._sees:
            shape = (config["image_height"], config["image_width"])
            self._pixels = np.empty((*shape, 3), np.float32)
            self._triples = self._pixels.reshape(-1, 3)
            self._grey = np.empty(shape, np.float32)
            self._greys = self._grey.reshape(-1)
            self._rows, self._columns = (
                tensors["frozen/rows"],
                tensors["frozen/columns"],
            )
        self._projection = tensors["frozen/projection"]
        self._thirds = np.full(3, 1 / 3, np.float32)

    def reset(self) -> None:
        """Forget the last frame."""
        if self._motion is not None:
            self._motion.reset()

    def __call__(self, inputs: dict[str, Array]) -> tuple[Array, Array]:
        """Return float32 [d] and the latent [latent], both the caller's own."""
        parts, sources = self._parts, []
        if self._sees:
            pixels = np.multiply(inputs["image"], np.float32(1 / 255), out=self._pixels)
            pixels -= 0.5
            self._image(pixels, out=parts["image"])
            np.dot(self._triples, self._thirds, out=self._greys)
            grey = self._grey
            if self._motion is not None:
                parts["motion"][...] = self._motion(grey)
            sources.append((self._rows @ grey @ self._columns).reshape(-1))
        if self._deep:
            near = _nearness(inputs["depth"], self._config["depth_limit_m"])
            self._depth(near, out=parts["depth"])
        for name, limit in (
            ("instruction", 1.0),
            ("proprio", _PROPRIO_LIMIT),
            ("previous_action", 1.0),
        ):
            if name in parts:
                np.clip(inputs[name], -limit, limit, out=parts[name])
        if "proprio" in parts:
            sources.append(parts["proprio"])
        x = self._all @ self._matrix
        half = 0.5 * x
        x += silu(half, self._active) @ self._mix
        both = sources[0] if len(sources) == 1 else np.concatenate(sources)
        return x, both @ self._projection


class _Stack:
    """Convolutions, each with a SiLU after it; their weights are halved for it."""

    def __init__(
        self, config: dict[str, Any], tensors: dict[str, Array], name: str
    ) -> None:
        place, half = f"encoder/{name}/", np.float32(0.5)
        count = len(config["image_channels"]) if f"{place}0/kernel" in tensors else 0
        self._layers = [
            Convolution(
                half * tensors[f"{place}{index}/kernel"],
                half * tensors[f"{place}{index}/bias"],
            )
            for index in range(count)
        ]
        self._spare: list[Array] = []

    def __call__(self, x: Array, *, out: Array) -> None:
        """Write the flat features of a picture [h, w, channels]."""
        if not self._spare:
            self._spare = self._buffers(x, out)
        for layer, spare in zip(self._layers, self._spare, strict=True):
            x = silu(layer(x), spare)

    def _buffers(self, x: Array, out: Array) -> list[Array]:
        shapes = []
        for layer in self._layers:
            x = layer(x)
            shapes.append(x.shape)
        inner = [np.empty(shape, np.float32) for shape in shapes[:-1]]
        return [*inner, out.reshape(shapes[-1])]


def _nearness(depth_m: Array, limit_m: float) -> Array:
    """Return how near [-0.5, 0.5] and whether known, [h, w, 2]."""
    depth_m = np.asarray(depth_m, np.float32)
    known = np.isfinite(depth_m) & (depth_m > 0)
    near = 0.5 - np.clip(np.where(known, depth_m, 0), 0, limit_m) / limit_m
    return np.stack([np.where(known, near, 0), known], -1).astype(np.float32)
