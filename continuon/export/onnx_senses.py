"""The encoder and the frozen latent as ONNX operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from continuon.export.lowering import STATE_PREFIX
from continuon.export.onnx_ops import Graph
from continuon.hope.config import HopeConfig
from continuon.hope.encoder import PROPRIO_LIMIT
from continuon.hope.motion import MAX_SHIFT_PX, band_sums

__all__ = ["encode"]

Array = np.ndarray[Any, Any]


def encode(
    g: Graph, config: HopeConfig, w: dict[str, Array], begun: str
) -> tuple[str, str]:
    """Return x [1, d] and the latent [1, latent]; keep the frame, where there is one.

    Every sense stands beside the others in one vector: one product mixes them.

    Args:
        g: to which the operators are added.
        config: of the network.
        w: all its parameters, by name.
        begun: [1, 1], 0 at the first tick, later 1.
    """
    parts, weights, sources = [], [], []
    if config.has_image:
        pixels = g.sub(g.mul(g.floats("image"), g.const(1.0 / 255.0)), g.const(0.5))
        picture = _features(g, config, w, pixels, "convolutions")
        parts.append(picture)
        weights.append(w["encoder/image"])
        grey = str(g.op("ReduceMean", pixels, g.const([-1], np.int64), keepdims=0))
        if config.senses_motion:
            parts.append(g.mul(_motion(g, config, grey), begun))
            weights.append(w["encoder/motion"])
        rows = g.dot(g.const(w["frozen/rows"]), grey)
        cells = g.dot(rows, g.const(w["frozen/columns"]))
        sources.append(g.shape(cells, 1, -1))
    if config.proprio:
        limit = (g.const(-PROPRIO_LIMIT), g.const(PROPRIO_LIMIT))
        parts.append(str(g.op("Clip", "proprio", *limit)))
        weights.append(w["encoder/proprio"])
        sources.append(parts[-1])
    if config.has_depth:
        near = _nearness(g, config)
        parts.append(_features(g, config, w, near, "depth_convolutions"))
        weights.append(w["encoder/depth"])
    for name in ("instruction", "previous_action"):
        if name in config.observation_names:
            bounds = (g.const(-1.0), g.const(1.0))
            parts.append(str(g.op("Clip", name, *bounds)))
            weights.append(w[f"encoder/{name}"])
    x = g.affine(
        g.beside(parts), np.concatenate(weights), g.const(w["encoder/bias"][None])
    )
    x = g.affine(g.silu(x), w["encoder/mix"], x)
    return x, g.dot(g.beside(sources), g.const(w["frozen/projection"]))


def _nearness(g: Graph, config: HopeConfig) -> str:
    """Return how near, and whether known, [1, h, w, 2]; unknown pixels are 0."""
    limit = g.const(config.depth_limit_m)
    known = g.floats(str(g.op("Greater", "depth", g.const(0.0))))
    share = g.op("Div", str(g.op("Clip", "depth", g.const(0.0), limit)), limit)
    near = g.mul(g.sub(g.const(0.5), str(share)), known)
    shape = (1, config.depth_height, config.depth_width, 1)
    return g.beside([g.shape(near, *shape), g.shape(known, *shape)])


def _features(
    g: Graph, config: HopeConfig, w: dict[str, Array], pixels: str, place: str
) -> str:
    features = str(g.op("Transpose", pixels, perm=[0, 3, 1, 2]))
    for index in range(len(config.image_channels)):
        name = f"encoder/{place}/{index}/"
        kernel = w[name + "kernel"]
        convolved = g.op(
            "Conv",
            features,
            g.const(kernel.transpose(3, 2, 0, 1)),
            g.const(w[name + "bias"]),
            auto_pad="SAME_UPPER",
            strides=[2, 2],
            kernel_shape=list(kernel.shape[:2]),
        )
        features = g.silu(str(convolved))
    return g.shape(str(g.op("Transpose", features, perm=[0, 2, 3, 1])), 1, -1)


def _motion(g: Graph, config: HopeConfig, grey: str) -> str:
    """Return the shift [1, bands] since the last frame, and keep this one."""
    last, place = g.const([-1], np.int64), f"{STATE_PREFIX}frame"
    area = g.const([-2, -1], np.int64)
    centred = g.sub(grey, str(g.op("ReduceMean", grey, area)))
    variance = g.op("ReduceMean", g.mul(centred, centred), area)
    spread = g.op("Sqrt", g.add(str(variance), g.const(1e-4)))
    now = str(g.op("Div", centred, spread, to=f"next/{place}"))
    middle = g.mul(g.const(0.5), g.add(now, place))

    def columns(x: str, first: int, end: int) -> str:
        bounds = (g.const([first], np.int64), g.const([end], np.int64), last)
        return str(g.op("Slice", x, *bounds))

    width = config.image_width
    slope = g.sub(columns(middle, 2, width), columns(middle, 0, width - 2))
    slope = g.mul(g.const(0.5), slope)
    change = columns(g.sub(now, place), 1, width - 1)
    bands = g.const(band_sums(config).T)
    shared, size = (
        g.dot(str(g.op("ReduceSum", g.mul(slope, other), last, keepdims=0)), bands)
        for other in (change, slope)
    )
    shift = g.op("Div", g.op("Neg", shared), g.add(size, g.const(1.0)))
    return str(g.op("Clip", shift, g.const(-MAX_SHIFT_PX), g.const(MAX_SHIFT_PX)))
