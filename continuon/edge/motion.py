"""How far the picture moved sideways since the last frame, in numpy.

The formula is that of `continuon.hope.motion`, written a second time on purpose.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["Motion"]

Array = np.ndarray[Any, Any]
_MAX_SHIFT_PX = 2.0


class Motion:
    """Keeps the last frame; the first one of an episode shows no motion."""

    def __init__(self, bands: int) -> None:
        self._bands = bands
        self._last: Array | None = None
        self._overlap = np.zeros((bands, 0), np.float32)

    def reset(self) -> None:
        """Forget the last frame."""
        self._last = None

    def __call__(self, grey: Array) -> Array:
        """Return [bands] in pixels for a grey frame [h, w]; it may be overwritten."""
        height, width = grey.shape
        if self._overlap.shape[1] != height:
            self._overlap = _overlaps(self._bands, height)
            self._ones = np.ones(max(grey.size, width), np.float32)
        flat = grey.reshape(-1)
        now = flat - flat.dot(self._ones[: grey.size]) / grey.size
        now /= math.sqrt(now.dot(now) / grey.size + 1e-4)
        now = now.reshape(height, width)
        before, self._last = self._last, now
        if before is None:
            return np.zeros(self._bands, np.float32)
        middle = now + before
        slope = middle[:, 2:] - middle[:, :-2]
        slope *= 0.25
        change = (now - before)[:, 1:-1]
        ones = self._ones[: width - 2]
        shared = self._overlap @ ((change * slope) @ ones)
        size = self._overlap @ (np.square(slope, out=slope) @ ones)
        size += 1.0
        shared /= size
        return np.asarray(np.clip(-shared, -_MAX_SHIFT_PX, _MAX_SHIFT_PX))


def _overlaps(bands: int, rows: int) -> Array:
    """Return float32 [bands, rows]: a row on a border counts by its overlap."""
    edges = np.linspace(0.0, rows, bands + 1)
    place = np.arange(rows)
    lower = np.maximum(place, edges[:-1, None])
    upper = np.minimum(place + 1, edges[1:, None])
    return np.asarray(np.maximum(upper - lower, 0.0), np.float32)
