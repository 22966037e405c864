"""The recurrent step as an ONNX graph, built node by node with the weights inside.

Needs the `onnx` package alone. The maths is written once more, on purpose: an artifact
that is made another way is a check of the others. Constants of the config (decays,
rates, periods) are folded before they reach the graph.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from continuon.errors import MissingPackageError
from continuon.export.lowering import STATE_PREFIX, Lowered
from continuon.hope.checkpoint import Checkpoint, flatten
from continuon.hope.config import HopeConfig
from continuon.hope.encoder import PROPRIO_LIMIT
from continuon.hope.fast import MIN_DECAY
from continuon.hope.motion import MAX_SHIFT_PX, band_sums

__all__ = ["to_onnx"]

OPSET = 20
IR_VERSION = 9
Array = np.ndarray[Any, Any]


def to_onnx(checkpoint: Checkpoint, lowered: Lowered) -> bytes:
    """Return the bytes of an ONNX model with the names of the LiteRT signature.

    Raises:
        MissingPackageError: onnx is not installed.
    """
    onnx = _onnx()
    graph = _Graph()
    _step(graph, checkpoint.config, flatten(checkpoint.params))
    helper = onnx.helper

    def value(name: str, array: Array) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        return helper.make_tensor_value_info(name, kind, array.shape)

    action = np.zeros((1, len(checkpoint.config.action)), np.float32)
    known = {"action": action, "surprise": np.zeros(1, np.float32)}
    state = {n: v for n, v in lowered.inputs.items() if n.startswith(STATE_PREFIX)}
    outputs = known | {f"next/{name}": held for name, held in state.items()}
    made = helper.make_graph(
        graph.nodes,
        "step",
        [value(name, held) for name, held in lowered.inputs.items()],
        [value(name, outputs[name]) for name in outputs],
        graph.initialisers,
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _onnx() -> Any:
    try:
        onnx = import_module("onnx")
        import_module("onnx.helper")
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "onnx", "onnx", purpose="compiling to ONNX"
        ) from error
    return onnx


class _Graph:
    """Nodes and constants; every method returns the name of its result."""

    def __init__(self) -> None:
        self._onnx = _onnx()
        self.nodes: list[Any] = []
        self.initialisers: list[Any] = []

    def op(
        self, kind: str, *inputs: str, outputs: int = 1, to: str = "", **attributes: Any
    ) -> Any:
        """Add a node; return its output's name, or a tuple of several."""
        count = len(self.nodes)
        names = [to] if to else [f"v{count}_{index}" for index in range(outputs)]
        node = self._onnx.helper.make_node(kind, inputs, names, **attributes)
        self.nodes.append(node)
        return names[0] if outputs == 1 else tuple(names)

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant."""
        name = f"c{len(self.initialisers)}"
        array = np.array(value, dtype, order="C")
        self.initialisers.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, left: str, right: str) -> str:
        return str(self.op("Add", left, right))

    def sub(self, left: str, right: str) -> str:
        return str(self.op("Sub", left, right))

    def mul(self, left: str, right: str) -> str:
        return str(self.op("Mul", left, right))

    def dot(self, left: str, right: str) -> str:
        return str(self.op("MatMul", left, right))

    def shape(self, x: str, *sizes: int) -> str:
        return str(self.op("Reshape", x, self.const(sizes, np.int64)))

    def split(self, x: str, *sizes: int) -> Any:
        lengths = self.const(sizes, np.int64)
        return self.op("Split", x, lengths, outputs=len(sizes), axis=-1)

    def floats(self, x: str) -> str:
        name = f"v{len(self.nodes)}_0"
        kind = self._onnx.TensorProto.FLOAT
        node = self._onnx.helper.make_node("Cast", [x], [name], to=kind)
        self.nodes.append(node)
        return name

    def silu(self, x: str) -> str:
        return self.mul(x, str(self.op("Sigmoid", x)))

    def scaled(self, x: str, gain: Any, *, mean: bool, least: float = 1.0) -> str:
        """Return gain * x / sqrt(least + the mean or sum of squares), the last axis."""
        kind, axes = ("ReduceMean" if mean else "ReduceSum"), self.const([-1], np.int64)
        size = self.op(kind, self.mul(x, x), axes, keepdims=1)
        length = self.op("Sqrt", self.add(size, self.const(least)))
        unit = str(self.op("Div", x, length))
        return unit if gain is None else self.mul(unit, self.const(gain))

    def soft(self, x: str, gain: Any) -> str:
        return self.scaled(x, gain, mean=True)

    def unit(self, x: str) -> str:
        return self.scaled(x, None, mean=False)

    def whole(self, x: str) -> str:
        return self.scaled(x, None, mean=False, least=1e-6)


def _step(g: _Graph, config: HopeConfig, w: dict[str, Array]) -> None:
    tick = f"{STATE_PREFIX}tick"
    begun = g.op("Greater", tick, g.const(0, np.int32))
    x, latent = _encode(g, config, w, str(begun))
    error = g.mul(g.sub(latent, f"{STATE_PREFIX}prediction"), _float(g, begun))
    for index in range(config.layers):
        prefix = f"blocks/{index}/"
        below = {
            n.removeprefix(prefix): v for n, v in w.items() if n.startswith(prefix)
        }
        x = _Block(g, config, below, f"{STATE_PREFIX}{prefix}").advance(x, error, tick)
    first = len(config.action)
    head, bias = w["heads/action"][:, :first], w["heads/action_bias"][:first]
    raw = g.add(g.dot(x, g.const(head)), g.const(bias))
    g.op("Clip", g.op("Tanh", raw), g.const(-1.0), g.const(1.0), to="action")
    square = g.op(
        "ReduceMean", g.mul(error, error), g.const([-1], np.int64), keepdims=0
    )
    g.op("Mul", square, g.const(0.5), to="surprise")
    g.op(
        "MatMul", x, g.const(w["heads/prediction"]), to=f"next/{STATE_PREFIX}prediction"
    )
    g.op("Add", tick, g.const(1, np.int32), to=f"next/{tick}")


def _float(g: _Graph, x: str) -> str:
    """Return a boolean as 0.0 or 1.0."""
    return str(g.op("Where", x, g.const(1.0), g.const(0.0)))


def _encode(
    g: _Graph, config: HopeConfig, w: dict[str, Array], begun: str
) -> tuple[str, str]:
    x, sources = g.const(w["encoder/bias"][None]), []
    if config.has_image:
        pixels = g.sub(g.mul(g.floats("image"), g.const(1.0 / 255.0)), g.const(0.5))
        features = str(g.op("Transpose", pixels, perm=[0, 3, 1, 2]))
        for index in range(len(config.image_channels)):
            name = f"encoder/convolutions/{index}/"
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
        flat = g.shape(str(g.op("Transpose", features, perm=[0, 2, 3, 1])), 1, -1)
        x = g.add(x, g.dot(flat, g.const(w["encoder/image"])))
        grey = g.op("ReduceMean", pixels, g.const([-1], np.int64), keepdims=0)
        if config.senses_motion:
            shift = g.mul(_motion(g, config, str(grey)), _float(g, begun))
            x = g.add(x, g.dot(shift, g.const(w["encoder/motion"])))
        rows = g.dot(g.const(w["frozen/rows"]), str(grey))
        cells = g.dot(rows, g.const(w["frozen/columns"]))
        sources.append(g.shape(cells, 1, -1))
    if config.proprio:
        limit = (g.const(-PROPRIO_LIMIT), g.const(PROPRIO_LIMIT))
        sensed = str(g.op("Clip", "proprio", *limit))
        x = g.add(x, g.dot(sensed, g.const(w["encoder/proprio"])))
        sources.append(sensed)
    if config.use_previous_action:
        last = str(g.op("Clip", "previous_action", g.const(-1.0), g.const(1.0)))
        x = g.add(x, g.dot(last, g.const(w["encoder/previous_action"])))
    x = g.add(x, g.dot(g.silu(x), g.const(w["encoder/mix"])))
    both = str(g.op("Concat", *sources, axis=-1)) if len(sources) > 1 else sources[0]
    return x, g.dot(both, g.const(w["frozen/projection"]))


def _motion(g: _Graph, config: HopeConfig, grey: str) -> str:
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


class _Block:
    """Fast, Mid and Slow of one layer; state names below `place`."""

    def __init__(
        self, g: _Graph, config: HopeConfig, w: dict[str, Array], place: str
    ) -> None:
        self._g, self._config, self._w, self._place = g, config, w, place

    def advance(self, x: str, error: str, tick: str) -> str:
        slow = self._write_slow(error, tick) if self._config.online else ""
        anchor = self._anchor(tick) if self._config.self_modifying else ""
        return self._read_slow(self._mid(self._fast(x, anchor)), slow)

    def _keep(self, name: str, value: str) -> None:
        self._g.op("Identity", value, to=f"next/{self._place}{name}")

    def _multiple(self, tick: str, of: Any) -> str:
        """Return whether the tick is a multiple of each period."""
        g = self._g
        rest = g.op("Mod", tick, g.const(of, np.int32))
        return str(g.op("Equal", rest, g.const(0, np.int32)))

    def _anchor(self, tick: str) -> str:
        g, size = self._g, self._config.head_size
        _, own = g.split(f"{self._place}memory", size, self._config.self_size)
        due = self._multiple(tick, self._config.chunk)
        anchor = str(g.op("Where", due, own, f"{self._place}anchor"))
        self._keep("anchor", anchor)
        return anchor

    def _fast(self, x: str, anchor: str) -> str:
        g, w, config = self._g, self._w, self._config
        heads, size = config.heads, config.head_size
        normed = g.soft(x, w["fast/norm"])
        newest = g.shape(g.dot(normed, g.const(w["fast/qkv"])), 1, 1, 3 * heads * size)
        window = str(g.op("Concat", f"{self._place}window", newest, axis=1))
        taps = len(w["fast/taps"])
        bounds = ([1], [taps], [1])
        later = g.op("Slice", window, *(g.const(b, np.int64) for b in bounds))
        self._keep("window", str(later))
        tapped = g.mul(window, g.const(w["fast/taps"]))
        qkv = str(g.op("ReduceSum", tapped, g.const([1], np.int64), keepdims=0))
        query, key, value = g.split(
            g.shape(qkv, 1, heads, 1, 3 * size), size, size, size
        )
        length = g.whole if config.unit_keys else g.unit
        query, key = length(query), length(key)
        gates = g.add(
            g.dot(normed, g.const(w["fast/gates"])), g.const(w["fast/gates_bias"])
        )
        strength, decay = g.split(gates, heads, heads)
        strength, decay = (g.shape(v, 1, heads, 1, 1) for v in (strength, decay))
        if config.self_modifying:
            parts = (size, size, 1, 1)
            more_key, more_value, more_strength, more_decay = g.split(
                g.dot(key, anchor), *parts
            )
            key, value = length(g.add(key, more_key)), g.add(value, more_value)
            strength, decay = g.add(strength, more_strength), g.add(decay, more_decay)
            own_key, own_value, own_gates = g.split(g.dot(value, anchor), size, size, 2)
            gain = [g.const(part) for part in w["fast/self_gain"]]
            first, _ = g.split(value, 2, size - 2)
            value = str(
                g.op(
                    "Concat",
                    value,
                    g.mul(gain[0], g.unit(g.add(own_key, value))),
                    g.mul(gain[1], g.unit(g.add(own_value, value))),
                    g.mul(gain[2], str(g.op("Tanh", g.add(own_gates, first)))),
                    axis=-1,
                )
            )
        rest = str(g.op("Softplus", str(g.op("Neg", decay))))
        keep = g.op("Exp", g.sub(g.const(-MIN_DECAY), rest))
        kept = g.mul(f"{self._place}memory", str(keep))
        write = g.mul(g.const(2.0), str(g.op("Sigmoid", strength)))
        update = g.mul(write, g.sub(value, g.dot(key, kept)))
        memory = g.add(kept, g.dot(g.shape(key, 1, heads, size, 1), update))
        self._keep("memory", memory)
        read = g.dot(query, memory)
        if config.self_modifying:
            read, _ = g.split(read, size, config.self_size)
        flat = g.shape(g.soft(read, w["fast/read_norm"]), 1, heads * size)
        gate = g.silu(g.dot(normed, g.const(w["fast/read_gate"])))
        return g.add(x, g.dot(g.mul(flat, gate), g.const(w["fast/out"])))

    def _mid(self, x: str) -> str:
        g, w, units = self._g, self._w, self._config.mid_units
        both = g.dot(g.soft(x, w["mid/norm"]), g.const(w["mid/inputs"]))
        inputs, gate = g.split(both, units, units)
        gates = str(g.op("Sigmoid", g.dot(inputs, g.const(w["mid/gates"]))))
        recur, take = g.split(gates, units, units)
        rest = -8.0 * np.logaddexp(w["mid/decay"].astype(np.float64), 0.0)
        log_keep = g.sub(g.mul(recur, g.const(rest)), g.const(MIN_DECAY))
        keep = str(g.op("Exp", log_keep))
        # 1 - e^2a as -tanh(a) (e^2a + 1): exact where a is small, unlike a difference
        grown = g.add(g.mul(keep, keep), g.const(1.0))
        fall = g.mul(str(g.op("Neg", str(g.op("Tanh", log_keep)))), grown)
        drive = g.mul(g.mul(str(g.op("Sqrt", fall)), take), inputs)
        hidden = g.add(g.mul(keep, f"{self._place}mid"), drive)
        self._keep("mid", hidden)
        read = g.mul(hidden, str(g.op("Gelu", gate, approximate="tanh")))
        return g.add(x, g.dot(read, g.const(w["mid/out"])))

    def _write_slow(self, error: str, tick: str) -> str:
        g, w, config = self._g, self._w, self._config
        place, width, levels = self._place, config.d, len(config.periods)
        columns = levels * width
        wished = g.dot(g.soft(error, None), g.const(w["slow/feedback"]))
        residual = g.sub(
            g.shape(wished, 1, 1, columns),
            g.dot(g.shape(f"{place}key", 1, 1, config.slow_key), f"{place}slow"),
        )
        outer = g.dot(g.shape(f"{place}key", 1, config.slow_key, 1), residual)
        gradient = g.add(f"{place}gradient", outer)
        begun = g.op("Greater", tick, g.const(0, np.int32))
        due = g.op("And", self._multiple(tick, config.periods), str(begun))
        level = g.mul(
            g.shape(_float(g, str(due)), levels, 1), g.const(np.ones((1, width)))
        )
        mask = g.shape(level, 1, 1, columns)

        def spread(values: Array) -> str:
            return g.const(np.repeat(values, width).reshape(1, 1, -1))

        rate = 2.0 / (1.0 + np.exp(-w["slow/rate"].astype(np.float64)))
        leak = 1.0 / (1.0 + np.exp(-w["slow/leak"].astype(np.float64)))
        step = g.mul(mask, spread(rate / np.asarray(config.periods)))
        kept = g.sub(g.const(1.0), g.mul(mask, spread(leak)))
        slow = g.mul(kept, g.add(f"{place}slow", g.mul(step, gradient)))
        self._keep("slow", slow)
        self._keep("gradient", g.mul(g.sub(g.const(1.0), mask), gradient))
        return slow

    def _read_slow(self, x: str, slow: str) -> str:
        g, w, config = self._g, self._w, self._config
        levels, reads = len(config.periods), []
        if config.online:
            key = g.unit(
                g.dot(g.soft(x, w["slow/levels/0/norm"]), g.const(w["slow/key"]))
            )
            self._keep("key", key)
            read = g.dot(g.shape(key, 1, 1, config.slow_key), slow)
            read = g.shape(read, 1, levels * config.d)
            reads = [read] if levels == 1 else list(g.split(read, *[config.d] * levels))
        for level in range(levels):
            name = f"slow/levels/{level}/"
            hidden = g.dot(g.soft(x, w[name + "norm"]), g.const(w[name + "up"]))
            y = g.dot(g.silu(hidden), g.const(w[name + "down"]))
            if reads:
                y = g.add(y, reads[level])
            x = g.add(x, y)
        return x
