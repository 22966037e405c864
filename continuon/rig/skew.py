"""How far apart in time two streams' samples are, from their own capture times."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["SkewStats", "nearest_differences_ns", "skew_stats"]


@attrs.frozen(kw_only=True)
class SkewStats:
    """Absolute skew of measured pairs; the figures are None without a pair.

    Attributes:
        pairs: how many were measured.
        p50_ms, p99_ms, max_ms: of the absolute differences.
    """

    pairs: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the figures by name."""
        return attrs.asdict(self)


def skew_stats(differences_ns: NDArray[np.int64]) -> SkewStats:
    """Return p50, p99 and maximum of absolute differences, int64 [pairs]."""
    if len(differences_ns) == 0:
        return SkewStats(pairs=0, p50_ms=None, p99_ms=None, max_ms=None)
    apart_ms = np.abs(differences_ns) / 1e6
    return SkewStats(
        pairs=len(apart_ms),
        p50_ms=float(np.percentile(apart_ms, 50)),
        # The upper neighbour: a percentile is never below a measured value.
        p99_ms=float(np.percentile(apart_ms, 99, method="higher")),
        max_ms=float(apart_ms.max()),
    )


def nearest_differences_ns(
    reference_ns: NDArray[np.int64], other_ns: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return, for each reference stamp, the nearest other stamp minus it.

    Args:
        reference_ns: int64 [N].
        other_ns: int64 [M], ascending; with M = 0 nothing is paired.
    """
    if len(other_ns) == 0:
        return np.empty(0, np.int64)
    right = np.searchsorted(other_ns, reference_ns).clip(0, len(other_ns) - 1)
    left = (right - 1).clip(0)
    to_right = other_ns[right] - reference_ns
    to_left = other_ns[left] - reference_ns
    nearer = np.abs(to_left) <= np.abs(to_right)
    return np.asarray(np.where(nearer, to_left, to_right), np.int64)
