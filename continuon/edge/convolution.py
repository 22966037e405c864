"""A stride-2 convolution with `SAME` padding, as one matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Convolution"]

Array = np.ndarray[Any, Any]
_STRIDE = 2


class Convolution:
    """kernel [k, k, channels, filters], bias [filters]; channels last."""

    def __init__(self, kernel: Array, bias: Array) -> None:
        size, _, channels, filters = kernel.shape
        self._size = size
        # windows come as [channels, row, column], so the kernel is turned to match
        columns = channels * size * size
        self._matrix = np.ascontiguousarray(
            kernel.transpose(2, 0, 1, 3).reshape(columns, filters)
        )
        self._bias = bias

    def __call__(self, image: Array) -> Array:
        """Return [ceil(h / 2), ceil(w / 2), filters] of an image [h, w, channels]."""
        height, width, channels = image.shape
        pads = (self._padding(height), self._padding(width), (0, 0))
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(image, pads), (self._size, self._size), axis=(0, 1)
        )[::_STRIDE, ::_STRIDE]
        rows, columns = windows.shape[:2]
        flat = windows.reshape(rows * columns, channels * self._size**2)
        product = flat @ self._matrix + self._bias
        return np.asarray(product.reshape(rows, columns, -1))

    def _padding(self, pixels: int) -> tuple[int, int]:
        """Return the zeros before and after, the odd one after (XLA, LiteRT)."""
        needed = (-(-pixels // _STRIDE) - 1) * _STRIDE + self._size - pixels
        total = max(needed, 0)
        return total // 2, total - total // 2
