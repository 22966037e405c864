"""The few calls of numpy of which the step consists, in their cheapest form.

At these sizes a call costs as much as what it computes. So a sum is a product with
ones, which is a third of a reduction; what is broadcast along rows is made as wide as
they are by the same product; a constant is an array without axes, since a Python number
is converted at each call; and results go where they are wanted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["ONE", "Array", "Length", "Soft", "add", "dot", "mul", "silu", "tanh"]

Array = np.ndarray[Any, Any]
ONE = np.array(1.0, np.float32)
add, mul, dot, tanh = np.add, np.multiply, np.dot, np.tanh


class Length:
    """Divides each row of x [n, S], a view that is kept, by its length and more.

    By sqrt(least + share * the sum of its squares).
    """

    __slots__ = ("_least", "_ones", "_square", "_sums", "_x")

    def __init__(self, x: Array, least: float, *, share: float = 1.0) -> None:
        rows, size = x.shape
        self._x = x
        self._least = np.array(least, np.float32)
        self._ones = np.full((size, size), share, np.float32)
        self._square, self._sums = (np.empty((rows, size), np.float32) for _ in "12")

    def divide(self) -> None:
        """Change x in place."""
        x, sums = self._x, self._sums
        mul(x, x, self._square)
        dot(self._square, self._ones, sums)
        add(sums, self._least, sums)
        np.sqrt(sums, sums)
        np.divide(x, sums, x)


class Soft:
    """Writes x / sqrt(1 + the mean of its squares) into `out` [d], which is kept."""

    __slots__ = ("_out", "_scale")

    def __init__(self, out: Array) -> None:
        self._out, self._scale = out, np.array(0.0, np.float32)

    def of(self, x: Array) -> None:
        """Take x [d]; it is not changed."""
        # a product of two vectors and a root of the standard library: no sum is quicker
        self._scale[()] = 1.0 / math.sqrt(float(x.dot(x)) / len(x) + 1.0)
        mul(x, self._scale, self._out)


def silu(half: Array, out: Array) -> Array:
    """Return x sigmoid(x) in `out`, given x / 2."""
    tanh(half, out)
    add(out, ONE, out)
    mul(out, half, out)
    return out
