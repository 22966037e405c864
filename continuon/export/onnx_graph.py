"""The lean step as an ONNX graph, built operator by operator.

Needs the `onnx` package alone. The maths is written once more, on purpose: an artifact
that is made another way is a check of the others. A file holds one graph, and ONNX
Runtime computes all of it whatever is asked for; so the fold is a model of its own that
rides in the first one's metadata, where one digest covers both.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from continuon.export.lean import fold_state
from continuon.export.lean_weights import LeanWeights, rearrange
from continuon.export.lowering import STATE_PREFIX, senses
from continuon.export.onnx_fold import FOLD, fold_model, onnx_state
from continuon.export.onnx_layer import Layer
from continuon.export.onnx_ops import Graph, onnx_package
from continuon.export.onnx_senses import encode
from continuon.hope.checkpoint import Checkpoint, flatten
from continuon.hope.config import HopeConfig

__all__ = ["to_onnx"]

Array = np.ndarray[Any, Any]
Shapes = dict[str, tuple[int, ...]]


def to_onnx(checkpoint: Checkpoint) -> bytes:
    """Return the bytes of an ONNX model with the senses' names of the LiteRT signature.

    Raises:
        MissingPackageError: onnx is not installed.
    """
    onnx = onnx_package()
    config, weights = checkpoint.config, rearrange(checkpoint.params, checkpoint.config)
    held, graph = onnx_state(config), Graph()
    told = _step(graph, config, weights, flatten(checkpoint.params))
    sensed = {name: (v.shape, v.dtype) for name, v in senses(config).items()}
    model = graph.model(sensed | {n: (s, np.float32) for n, s in held.items()}, told)
    folded = fold_model(config, weights)
    if folded is not None:
        entry = model.metadata_props.add()
        entry.key, entry.value = FOLD, base64.b64encode(folded).decode()
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _step(
    g: Graph, config: HopeConfig, weights: LeanWeights, w: dict[str, Array]
) -> Shapes:
    """Add the step; return its outputs and their shapes."""
    begun = f"{STATE_PREFIX}begun"
    g.op("Max", begun, g.const(np.ones((1, 1))), to=f"next/{begun}")
    x, latent = encode(g, config, w, begun)
    error = g.mul(g.sub(latent, f"{STATE_PREFIX}prediction"), begun)
    size = g.const([-1], np.int64)
    square = g.op("ReduceMean", g.mul(error, error), size, keepdims=0)
    g.op("Mul", str(square), g.const(0.5), to="surprise")
    pending: list[Any] = [None] * config.layers
    if config.online:
        pending = _account(g, config, weights, error)
    keys, reads = [], []
    for index, block in enumerate(weights.blocks):
        x, key, read = Layer(g, config, block, index).advance(x, pending[index])
        keys.append(key)
        reads.append(read)
    if config.online:
        for name, parts in (("key", keys), ("read", reads)):
            g.op("Concat", *parts, axis=-1, to=f"next/{STATE_PREFIX}{name}")
    heads = g.affine(x, weights.heads, g.const(weights.bias[None]))
    raw, prediction = g.split(heads, len(config.action), config.latent)
    g.op("Identity", prediction, to=f"next/{STATE_PREFIX}prediction")
    told = _drawn(g, config, _bent(g, config, raw))
    g.op("Clip", told, g.const(-1.0), g.const(1.0), to="action")
    changed = {
        f"next/{name}": shape
        for name, shape in onnx_state(config).items()
        if not name.removeprefix(STATE_PREFIX).startswith(("anchor", "slow", "due"))
    }
    logged: Shapes = {}
    if config.online:
        widths = {n: s[1] for n, s in fold_state(config).items() if "log/" in n}
        logged = {name: (1, width) for name, width in widths.items()}
    return {"action": (1, len(config.action)), "surprise": (1,)} | logged | changed


def _bent(g: Graph, config: HopeConfig, raw: str) -> str:
    """Return the action in [-1, 1] of the head's sums."""
    if config.straight_action:
        return str(g.op("Clip", raw, g.const(-1.0), g.const(1.0)))
    return str(g.op("Tanh", raw))


def _drawn(g: Graph, config: HopeConfig, action: str) -> str:
    """Return what `continuon.hope.levels.drawn` does, before it is clipped."""
    if not config.action_levels:
        return action
    square = g.mul(action, action)
    bent = g.mul(g.const(-15.0), str(g.op("Abs", action)))
    factor = g.add(g.add(g.const(10.0), bent), g.mul(g.const(6.0), square))
    curve = g.mul(g.mul(action, square), factor)
    moves = g.const([[name in config.action_levels for name in config.action]])
    told = g.add(action, g.mul(g.sub(curve, action), moves))
    return str(g.op("Clip", told, g.const(-1.0), g.const(1.0)))


def _account(
    g: Graph, config: HopeConfig, weights: LeanWeights, error: str
) -> list[tuple[str, str]]:
    """Log the newest error; return each layer's pending write, [1, m] and [1, K d]."""

    def held(name: str) -> str:
        return STATE_PREFIX + name

    due = g.mul(held("due"), held("folded"))
    wished = g.dot(g.soft(error, config.latent), g.const(weights.feedback))
    residual = g.sub(wished, held("read"))
    g.op("Identity", held("key"), to="log/key")
    g.op("Mul", residual, g.sub(g.const(1.0), due), to="log/residual")
    share = g.mul(due, g.const(((1.0 - weights.leak) * weights.rate)[None]))
    value = g.op(
        "Add",
        held("pending"),
        g.mul(share, residual),
        to=f"next/{held('pending')}",
    )
    # where no level was due the value is zero, and its key does not matter
    key = g.op(
        "Add",
        held("pending_key"),
        g.mul(held("folded"), held("key")),
        to=f"next/{held('pending_key')}",
    )
    g.op("Mul", held("folded"), g.const(0.0), to=f"next/{held('folded')}")
    count, columns = config.layers, len(config.periods) * config.d
    keys = g.parts(str(key), config.slow_key, count)
    return list(zip(keys, g.parts(str(value), columns, count), strict=True))
