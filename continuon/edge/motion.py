"""How far the picture moved sideways since the last frame, in numpy.

The formula is that of `continuon.hope.motion`, written a second time on purpose.
"""

from __future__ import annotations

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

    def reset(self) -> None:
        """Forget the last frame."""
        self._last = None

    def __call__(self, grey: Array) -> Array:
        """Return [bands] in pixels for a grey frame [h, w]."""
        centred = grey - np.mean(grey)
        now = centred / np.sqrt(np.mean(centred * centred) + np.float32(1e-4))
        before, self._last = self._last, now
        if before is None:
            return np.zeros(self._bands, np.float32)
        middle = np.float32(0.5) * (now + before)
        slope = np.float32(0.5) * (middle[:, 2:] - middle[:, :-2])
        change = (now - before)[:, 1:-1]
        shared = self._sums(np.sum(slope * change, -1))
        size = self._sums(np.sum(slope * slope, -1))
        shift = -shared / (size + np.float32(1.0))
        return np.clip(shift, -_MAX_SHIFT_PX, _MAX_SHIFT_PX)

    def _sums(self, rows: Array) -> Array:
        """Return the sum of each band; a row on a border counts by its overlap."""
        edges = np.linspace(0.0, len(rows), self._bands + 1)
        place = np.arange(len(rows))
        lower = np.maximum(place, edges[:-1, None])
        upper = np.minimum(place + 1, edges[1:, None])
        overlap = np.maximum(upper - lower, 0.0).astype(np.float32)
        return np.asarray(overlap @ rows)
