"""The lean step's fold as an ONNX model: what changes only at chunk boundaries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from continuon.export.lean import fold_state, step_state
from continuon.export.lean_weights import LeanWeights
from continuon.export.lowering import STATE_PREFIX
from continuon.export.onnx_ops import Graph
from continuon.hope.config import HopeConfig

__all__ = ["FOLD", "fold_model", "onnx_state"]

FOLD = "fold"
"""Key of the metadata in which the model rides, as base64."""
Shapes = dict[str, tuple[int, ...]]


def onnx_state(config: HopeConfig) -> Shapes:
    """Return what the step reads: the lean state, each of Fast's memories as one."""
    shapes = {STATE_PREFIX + n: shape for n, shape in step_state(config).items()}
    for index in range(config.layers):
        heads, size, _ = shapes.pop(f"{STATE_PREFIX}values/{index}")
        more = shapes.pop(f"{STATE_PREFIX}self/{index}", (heads, size, 0))
        shapes[f"{STATE_PREFIX}memory/{index}"] = (heads, size, size + more[2])
        for name in ("window", "slow"):
            place = f"{STATE_PREFIX}{name}/{index}"
            if place in shapes:
                shapes[place] = shapes[place][1:]
    return shapes


def fold_model(config: HopeConfig, weights: LeanWeights) -> bytes | None:
    """Return the model that is run before each `chunk`-th step; None where none is.

    It takes `state/NAME` and `log/NAME`, a row a tick, and gives `next/state/NAME`.
    """
    fold = _Fold(config)
    if config.self_modifying:
        fold.anchors()
    if config.online:
        fold.memories(weights)
    if not fold.told:
        return None
    given = {name: (fold.shapes[name], np.float32) for name in fold.taken()}
    return bytes(fold.graph.model(given, fold.told).SerializeToString())


class _Fold:
    """The graph; `told` are its outputs' shapes."""

    def __init__(self, config: HopeConfig) -> None:
        self.graph, self._config = Graph(), config
        self.shapes, self.told = onnx_state(config) | _fold_state(config), Shapes()

    def taken(self) -> list[str]:
        """Return the names of the inputs that some operator takes."""
        used = {name for node in self.graph.nodes for name in node.input}
        return [name for name in self.shapes if name in used]

    def _keep(self, name: str, kind: str, *inputs: str, **attributes: Any) -> None:
        place = f"next/{STATE_PREFIX}{name}"
        self.told[place] = self.shapes[STATE_PREFIX + name]
        self.graph.op(kind, *inputs, to=place, **attributes)

    def anchors(self) -> None:
        """Copy what Fast knows of itself."""
        g, config = self.graph, self._config
        for index in range(config.layers):
            memory = f"{STATE_PREFIX}memory/{index}"
            _, own = g.split(memory, config.head_size, config.self_size)
            self._keep(f"anchor/{index}", "Identity", own)

    def memories(self, weights: LeanWeights) -> None:
        """Add the log to the gradients, and write the levels that are due."""
        g, config = self.graph, self._config
        count, columns = config.layers, len(config.periods) * config.d
        turns = np.array([period // config.chunk for period in config.periods])
        folds = g.add(f"{STATE_PREFIX}folds", g.const(1.0))
        rest = str(g.op("Mod", folds, g.const(turns[None]), fmod=1))
        whole = g.const([[math.lcm(*turns.tolist())]])
        self._keep("folds", "Mod", folds, whole, fmod=1)
        due = g.op("Equal", rest, g.const(0.0))
        level = str(g.op("Where", due, g.const(1.0), g.const(0.0)))
        # one number for each column of a level: [1, K] to [1, K d]
        spread = np.kron(np.eye(len(turns)), np.ones((1, config.d)))
        level = g.dot(level, g.const(spread))
        rate, leak = (v.reshape(count, columns) for v in (weights.rate, weights.leak))
        held = ("log/key", f"{STATE_PREFIX}pending_key")
        keys = [g.parts(name, config.slow_key, count) for name in held]
        held = ("log/residual", f"{STATE_PREFIX}pending")
        values = [g.parts(name, columns, count) for name in held]
        for index in range(count):
            (key, waiting), (residual, value) = (
                [part[index] for part in both] for both in (keys, values)
            )
            before = f"{STATE_PREFIX}gradient/{index}"
            gathered = str(g.op("Gemm", key, residual, before, transA=1))
            late = g.mul(g.shape(waiting, config.slow_key, 1), value)
            slow = g.add(f"{STATE_PREFIX}slow/{index}", late)
            written = g.mul(g.mul(level, g.const(rate[index][None])), gathered)
            kept = g.sub(g.const(1.0), g.mul(level, g.const(leak[index][None])))
            self._keep(f"slow/{index}", "Mul", kept, g.add(slow, written))
            self._keep(f"gradient/{index}", "Mul", gathered, g.sub(g.const(1.0), level))
        self._keep("due", "Concat", *[level] * count, axis=-1)
        nothing = g.mul(f"{STATE_PREFIX}folded", g.const(0.0))
        self._keep("folded", "Add", nothing, g.const(1.0))
        for name in ("pending_key", "pending"):
            self._keep(name, "Mul", STATE_PREFIX + name, g.const(0.0))


def _fold_state(config: HopeConfig) -> Shapes:
    """Return what only the fold reads."""
    only = ("gradient", "folds", "log/")
    return {
        name: shape[1:] if "gradient" in name else shape
        for name, shape in fold_state(config).items()
        if name.removeprefix(STATE_PREFIX).startswith(only)
    }
