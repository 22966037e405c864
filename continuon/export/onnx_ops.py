"""Nodes and constants of an ONNX graph, each method a few operators."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from continuon.errors import MissingPackageError

__all__ = ["Graph", "onnx_package"]

OPSET = 23
"""The first with RMSNormalization, which is one operator instead of six."""
IR_VERSION = 10
Array = np.ndarray[Any, Any]


def onnx_package() -> Any:
    """Return the package.

    Raises:
        MissingPackageError: onnx is not installed.
    """
    try:
        onnx = import_module("onnx")
        import_module("onnx.helper")
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "onnx", "onnx", purpose="compiling to ONNX"
        ) from error
    return onnx


class Graph:
    """Nodes and constants; every method returns the name of its result."""

    def __init__(self) -> None:
        self._onnx = onnx_package()
        self.nodes: list[Any] = []
        self.initialisers: list[Any] = []

    def model(self, inputs: dict[str, Any], outputs: dict[str, tuple[int, ...]]) -> Any:
        """Return the model of these nodes.

        Args:
            inputs: shape and numpy dtype by name.
            outputs: shape by name, float32.
        """
        helper = self._onnx.helper

        def value(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            return helper.make_tensor_value_info(name, kind, shape)

        made = helper.make_graph(
            self.nodes,
            "step",
            [value(name, *held) for name, held in inputs.items()],
            [value(name, shape, np.float32) for name, shape in outputs.items()],
            self.initialisers,
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION)

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
        """Return the sum."""
        return str(self.op("Add", left, right))

    def sub(self, left: str, right: str) -> str:
        """Return the difference."""
        return str(self.op("Sub", left, right))

    def mul(self, left: str, right: str) -> str:
        """Return the product, entry by entry."""
        return str(self.op("Mul", left, right))

    def dot(self, left: str, right: str) -> str:
        """Return the product of matrices."""
        return str(self.op("MatMul", left, right))

    def shape(self, x: str, *sizes: int) -> str:
        """Return x in another shape."""
        return str(self.op("Reshape", x, self.const(sizes, np.int64)))

    def split(self, x: str, *sizes: int) -> Any:
        """Return parts of the last axis, of these sizes."""
        lengths = self.const(sizes, np.int64)
        return self.op("Split", x, lengths, outputs=len(sizes), axis=-1)

    def parts(self, x: str, width: int, count: int) -> list[str]:
        """Return equal parts of the last axis."""
        return [x] if count == 1 else list(self.split(x, *[width] * count))

    def floats(self, x: str) -> str:
        """Return x as float32."""
        name = f"v{len(self.nodes)}_0"
        kind = self._onnx.TensorProto.FLOAT
        node = self._onnx.helper.make_node("Cast", [x], [name], to=kind)
        self.nodes.append(node)
        return name

    def silu(self, x: str) -> str:
        """Return x times its sigmoid."""
        return self.mul(x, str(self.op("Sigmoid", x)))

    def beside(self, parts: list[str], *, axis: int = -1) -> str:
        """Return the parts one after the other along an axis."""
        return str(self.op("Concat", *parts, axis=axis)) if parts[1:] else parts[0]

    def affine(self, x: str, weights: Array, to_add: str, *, to: str = "") -> str:
        """Return x [1, n] times weights [n, m], plus what is given [1, m]."""
        return str(self.op("Gemm", x, self.const(weights), to_add, to=to))

    def scaled(self, x: str, size: int, *, least: float, gain: float = 1.0) -> str:
        """Return gain * x / sqrt(least + the mean of squares) of a last axis of `size`.

        One operator; written out it is six, and there are sixty of them.
        """
        scale = self.const(np.full(size, gain))
        return str(self.op("RMSNormalization", x, scale, axis=-1, epsilon=least))

    def soft(self, x: str, size: int) -> str:
        """Return x / sqrt(1 + the mean of its squares)."""
        return self.scaled(x, size, least=1.0)

    def unit(self, x: str, size: int, least: float = 1.0) -> str:
        """Return x / sqrt(least + the sum of its squares)."""
        return self.scaled(x, size, least=least / size, gain=size**-0.5)
