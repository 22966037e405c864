"""One layer of the lean step as ONNX operators: Fast, Mid, Slow.

The order is that of `continuon.export.lean`, written once more; its weights are
`lean_weights`. A product and what is added to it is one operator (Gemm), and so is a
norm. The memory of Fast is one tensor here, values first.
"""

from __future__ import annotations

import numpy as np

from continuon.export.lean_weights import BlockWeights
from continuon.export.lowering import STATE_PREFIX
from continuon.export.onnx_ops import Graph
from continuon.hope.config import HopeConfig
from continuon.hope.fast import MIN_DECAY

__all__ = ["Layer"]


class Layer:
    """The layer of one index; state is read as `state/NAME/index`, kept as `next/`."""

    def __init__(
        self, g: Graph, config: HopeConfig, w: BlockWeights, index: int
    ) -> None:
        self._g, self._config, self._w, self._index = g, config, w, index

    def advance(self, x: str, pending: tuple[str, str] | None) -> tuple[str, str, str]:
        """Return x [1, d], the slow key [1, m] and what it read [1, K d].

        Args:
            x: [1, d].
            pending: key and value that wait to be written; None without writes, and
                then key and read are empty names.
        """
        return self._slow(self._mid(self._fast(x)), pending)

    def _held(self, name: str) -> str:
        return f"{STATE_PREFIX}{name}/{self._index}"

    def _kept(self, name: str) -> str:
        return f"next/{self._held(name)}"

    def _fast(self, x: str) -> str:
        g, w, config = self._g, self._w, self._config
        heads, size = config.heads, config.head_size
        wide, least = heads * size, 1e-6 if config.unit_keys else 1.0
        made = g.affine(g.soft(x, config.d), w.fast, g.const(w.fast_bias[None]))
        newest, gate, gates = g.split(made, 3 * wide, wide, 2 * heads)
        window = str(g.op("Concat", self._held("window"), newest, axis=0))
        taps = len(w.taps)
        bounds = [g.const(bound, np.int64) for bound in ([1], [taps], [0])]
        g.op("Slice", window, *bounds, to=self._kept("window"))
        # a sum over the window is a product with ones
        ones = g.const(np.ones((1, taps)))
        qkv = g.dot(ones, g.mul(window, g.const(w.taps)))
        both, value = g.split(qkv, 2 * wide, wide)
        both = g.unit(g.shape(both, 2 * heads, 1, size), size, least)
        halves = g.const([heads, heads], np.int64)
        query, key = g.op("Split", both, halves, outputs=2, axis=0)
        value = g.shape(value, heads, 1, size)
        gates = g.shape(gates, heads, 1, 2)
        wished = value
        if config.self_modifying:
            anchor = self._held("anchor")
            more_key, more_value, more_gates = g.split(
                g.dot(key, anchor), size, size, 2
            )
            key = g.unit(g.add(key, more_key), size, least)
            value, gates = g.add(value, more_value), g.add(gates, more_gates)
            own, last = g.split(g.dot(value, anchor), 2 * size, 2)
            pair = g.unit(g.add(g.shape(own, heads, 2, size), value), size)
            gain = np.repeat(w.self_gain[:2], size).reshape(1, 1, 2 * size)
            pair = g.mul(g.shape(pair, heads, 1, 2 * size), g.const(gain))
            first, _ = g.split(value, 2, size - 2)
            last = str(g.op("Tanh", g.add(last, first)))
            last = g.mul(last, g.const(w.self_gain[2]))
            wished = g.beside([value, pair, last])
        opened = g.mul(str(g.op("Sigmoid", gates)), g.const(w.gate_scale))
        strength, keep = g.split(opened, 1, 1)
        kept = g.mul(self._held("memory"), keep)
        update = g.mul(strength, g.sub(wished, g.dot(key, kept)))
        outer = g.mul(g.shape(key, heads, size, 1), update)
        memory = str(g.op("Add", kept, outer, to=self._kept("memory")))
        read = g.dot(query, memory)
        if config.self_modifying:
            read, _ = g.split(read, size, config.self_size)
        flat = g.shape(g.soft(read, size), 1, wide)
        return g.affine(g.mul(flat, g.silu(gate)), w.fast_out, x)

    def _mid(self, x: str) -> str:
        g, w, units = self._g, self._w, self._config.mid_units
        made = g.dot(g.soft(x, self._config.d), g.const(w.mid))
        sizes = [units, units, 2 * units]
        turn, held = "", self._held("mid")
        if self._config.mid_turns:
            inputs, gate, gates, turn = g.split(made, *sizes, units // 2)
            held = self._turned(held, turn)
        else:
            inputs, gate, gates = g.split(made, *sizes)
        recur, take = g.split(str(g.op("Sigmoid", gates)), units, units)
        log_keep = g.sub(g.mul(recur, g.const(w.log_keep)), g.const(MIN_DECAY))
        keep = str(g.op("Exp", log_keep))
        # 1 - e^2a as -tanh(a) (e^2a + 1): exact where a is small, unlike a difference
        grown = g.add(g.mul(keep, keep), g.const(1.0))
        fall = g.mul(str(g.op("Tanh", str(g.op("Neg", log_keep)))), grown)
        drive = g.mul(g.mul(str(g.op("Sqrt", fall)), take), inputs)
        faded = g.mul(keep, held)
        hidden = str(g.op("Add", faded, drive, to=self._kept("mid")))
        read = g.mul(hidden, str(g.op("Gelu", gate, approximate="tanh")))
        return g.affine(read, w.mid_out, x)

    def _turned(self, held: str, turn: str) -> str:
        g, one, half = self._g, self._g.const(1.0), self._config.mid_units // 2
        first, second = g.split(held, half, half)
        first, along, across = g.add(first, one), g.op("Cos", turn), g.op("Sin", turn)
        kept = g.sub(g.mul(along, first), g.mul(across, second))
        new = g.add(g.mul(across, first), g.mul(along, second))
        return g.beside([g.sub(kept, one), new])

    def _slow(self, x: str, pending: tuple[str, str] | None) -> tuple[str, str, str]:
        g, w, config = self._g, self._w, self._config
        key = read = ""
        reads: list[str] = []
        for level, (up, down) in enumerate(zip(w.up, w.down, strict=True)):
            hidden = g.dot(g.soft(x, config.d), g.const(up))
            if pending is not None and level == 0:
                hidden, key = g.split(hidden, config.slow_hidden, config.slow_key)
                key = g.unit(key, config.slow_key)
                near = str(g.op("Gemm", key, pending[0], transB=1))
                stored = g.dot(key, self._held("slow"))
                read = g.add(stored, g.mul(near, pending[1]))
                reads = g.parts(read, config.d, len(w.up))
            if reads:
                x = g.add(x, reads[level])
            x = g.affine(g.silu(hidden), down, x)
        return x, key, read
