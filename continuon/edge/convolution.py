"""A stride-2 convolution with `SAME` padding, as one matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Convolution"]

Array = np.ndarray[Any, Any]
_STRIDE = 2


class Convolution:
    """kernel [k, k, channels, filters], bias [filters]; channels last.

    Its buffers are for pictures of one size: give each size its own.
    """

    def __init__(self, kernel: Array, bias: Array) -> None:
        size, _, channels, filters = kernel.shape
        self._size = size
        self._matrix = np.ascontiguousarray(
            kernel.reshape(size * size * channels, filters)
        )
        self._bias = bias
        self._shape: tuple[int, ...] = ()

    def __call__(self, image: Array) -> Array:
        """Return [ceil(h / 2), ceil(w / 2), filters] of an image [h, w, channels].

        What is returned is overwritten by the next call.
        """
        if image.shape != self._shape:
            self._prepare(image.shape)
        self._inner[...] = image
        self._flat[...] = self._windows
        np.dot(self._columns, self._matrix, out=self._product)
        self._product += self._bias
        return self._result

    def _prepare(self, shape: tuple[int, ...]) -> None:
        """Lay out the padded picture and its windows [rows, columns, k, k, c]."""
        (height, width, channels), size = shape, self._size
        (above, below), (left, right) = self._padding(height), self._padding(width)
        padded = np.zeros(
            (height + above + below, width + left + right, channels), np.float32
        )
        self._inner = padded[above : above + height, left : left + width]
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, (size, size), axis=(0, 1)
        )[::_STRIDE, ::_STRIDE]
        # a row of a window lies in memory as it will in the product
        self._windows = windows.transpose(0, 1, 3, 4, 2)
        rows, columns = windows.shape[:2]
        self._flat = np.empty(self._windows.shape, np.float32)
        self._columns = self._flat.reshape(rows * columns, -1)
        self._product = np.empty((rows * columns, len(self._bias)), np.float32)
        self._result = self._product.reshape(rows, columns, -1)
        self._shape = shape

    def _padding(self, pixels: int) -> tuple[int, int]:
        """Return the zeros before and after, the odd one after (XLA, LiteRT)."""
        needed = (-(-pixels // _STRIDE) - 1) * _STRIDE + self._size - pixels
        total = max(needed, 0)
        return total // 2, total - total // 2
