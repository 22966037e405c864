"""When a camera exposes, and which exposures arrive: the model behind fake cameras."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Shutter", "moving_gradient"]


@attrs.define(kw_only=True)
class Shutter:
    """Exposures at a steady rate, seen at a host time.

    Attributes:
        start_ns: first exposure, host time.
        rate_hz: of exposures.
        latency_ns: from exposure to arrival.
        dropped: exposures that never arrive, by number.
        hangs_from: exposures from this one on never arrive; None is never.
    """

    start_ns: int
    rate_hz: float = 30.0
    latency_ns: int = 12_000_000
    dropped: frozenset[int] = frozenset()
    hangs_from: int | None = None
    _next: int = 0

    def due(self, now_ns: int) -> list[tuple[int, int]]:
        """Return (number, host time) of each new arrival, in order."""
        out = []
        while (at := self.exposed_ns(self._next)) + self.latency_ns <= now_ns:
            hung = self.hangs_from is not None and self._next >= self.hangs_from
            if self._next not in self.dropped and not hung:
                out.append((self._next, at))
            self._next += 1
        return out

    def exposed_ns(self, number: int) -> int:
        """Return the start of an exposure, host time."""
        return self.start_ns + round(number * 1e9 / self.rate_hz)


def moving_gradient(width: int, height: int, number: int) -> NDArray[np.uint8]:
    """Return uint8 [height, width, 3]: a gradient that moves with the number."""
    row = np.arange(height, dtype=np.int64)[:, None] + 3 * number
    column = np.arange(width, dtype=np.int64)[None, :] + 5 * number
    planes = np.broadcast_arrays(row, column, np.int64(11 * number))
    return (np.stack(planes, axis=-1) % 224 + 16).astype(np.uint8)
