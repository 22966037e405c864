"""How far apart in time two streams' samples are, from their own capture times."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PairSkew",
    "SkewStats",
    "StreamStamps",
    "nearest_differences_ns",
    "pair_skews",
    "skew_stats",
]


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


@attrs.frozen(eq=False, kw_only=True)
class StreamStamps:
    """Capture times of one stream in the host's timebase.

    Attributes:
        name: of the stream.
        clock: whose clock stamped it; streams of one clock share its offset's error.
        stamps_ns: int64 [N], ascending.
        uncertainty_ns: of the offset by which they were converted.
    """

    name: str
    clock: str
    stamps_ns: NDArray[np.int64]
    uncertainty_ns: int


@attrs.frozen(kw_only=True)
class PairSkew:
    """How far apart two streams' nearest samples are.

    Attributes:
        first, second: names of the streams; the first one is the slower.
        stats: of the measured pairs.
        uncertainty_ms: by which each figure may be wrong, because of the two offsets;
            0 where both streams have one clock.
    """

    first: str
    second: str
    stats: SkewStats
    uncertainty_ms: float

    def figures(self) -> dict[str, float | int | None]:
        """Return the figures by name."""
        return {"uncertainty_ms": self.uncertainty_ms, **self.stats.as_dict()}


def pair_skews(streams: Sequence[StreamStamps]) -> tuple[PairSkew, ...]:
    """Return the skew of every pair of streams.

    Each sample of the slower stream is paired with the nearest of the faster one, as a
    step of an episode does it; samples more than half a period before the other stream
    began or after it ended have no partner and are left out.
    """
    skews = []
    for one, other in itertools.combinations(streams, 2):
        few, many = sorted((one, other), key=lambda s: len(s.stamps_ns))
        stamps = few.stamps_ns
        if len(many.stamps_ns):
            gaps = np.diff(many.stamps_ns)
            reach = int(np.median(gaps)) // 2 if len(gaps) else 0
            begin, end = many.stamps_ns[0] - reach, many.stamps_ns[-1] + reach
            stamps = stamps[(stamps >= begin) & (stamps <= end)]
        apart = few.uncertainty_ns + many.uncertainty_ns
        skews.append(
            PairSkew(
                first=few.name,
                second=many.name,
                stats=skew_stats(nearest_differences_ns(stamps, many.stamps_ns)),
                uncertainty_ms=0.0 if few.clock == many.clock else apart / 1e6,
            )
        )
    return tuple(skews)


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
