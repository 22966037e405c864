"""What the log of ticks says: lateness, missed periods, verdicts, where swaps were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.robot.ticklog import (
    EXECUTING,
    FRESH,
    NON_FINITE,
    POLICY_FAILED,
    SWAPPED,
    VERDICTS,
)

__all__ = ["HISTOGRAM_EDGES_MS", "TimingReport", "missed_periods", "timing_report"]

HISTOGRAM_EDGES_MS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@attrs.frozen(kw_only=True)
class Quantiles:
    """Of one measured quantity, milliseconds; None where nothing was measured."""

    p50: float | None
    p99: float | None
    max: float | None


@attrs.frozen(kw_only=True)
class TimingReport:
    """A stretch of ticks, as measured.

    Attributes:
        first: number of its first tick.
        rate_hz: measured from the first to the last start.
        lateness_ms: how long after its deadline a tick began.
        tick_ms: how long a tick worked.
        policy_ms: how long a policy step took, where one was taken.
        missed_periods: ticks more than one period late, and deadlines skipped.
        histogram: ticks by lateness; `edges_ms` has one edge more than counts, and the
            last bin also holds what is later.
        swap_ticks: numbers of the ticks that began with a new policy.
        executed: ticks that sent a command.
        judged: ticks on which the kernel judged one, sent or only imagined.
        verdicts: the kernel's, counted.
        veto_fraction: share of judged ticks that were clipped, held or stopped.
    """

    first: int
    ticks: int
    period_ms: float
    rate_hz: float | None
    lateness_ms: Quantiles
    tick_ms: Quantiles
    policy_ms: Quantiles
    missed_periods: int
    missed_fraction: float | None
    histogram_counts: tuple[int, ...]
    histogram_edges_ms: tuple[float, ...]
    swap_ticks: tuple[int, ...]
    fresh_frames: int
    executed: int
    judged: int
    verdicts: Mapping[str, int]
    veto_fraction: float | None
    non_finite: int
    policy_failures: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return attrs.asdict(self)


def missed_periods(rows: NDArray[Any], period_ns: int) -> int:
    """Return ticks that began more than a period late, plus deadlines skipped."""
    late = int((rows["lateness_ns"] > period_ns).sum())
    return late + int(rows["skipped"].astype(np.int64).sum())


def timing_report(
    rows: NDArray[Any], *, period_ns: int, first: int = 0
) -> TimingReport:
    """Return what `rows` (dtype `ticklog.ROW`) say; `first` numbers the first row."""
    late_ms = rows["lateness_ns"] / 1e6
    judged = rows[rows["verdict"] != 0]
    thought = rows["policy_ns"][rows["policy_ns"] > 0]
    counts = np.bincount(judged["verdict"], minlength=len(VERDICTS))
    verdicts = {
        verdict.value: int(number)
        for verdict, number in zip(VERDICTS, counts, strict=True)
        if verdict is not None
    }
    passed = verdicts["pass"]
    edges = np.asarray(HISTOGRAM_EDGES_MS)
    inside = np.clip(late_ms, edges[0], np.nextafter(edges[-1], 0))
    histogram, _ = np.histogram(inside, edges)
    missed = missed_periods(rows, period_ns)
    return TimingReport(
        first=first,
        ticks=len(rows),
        period_ms=period_ns / 1e6,
        rate_hz=_rate_hz(rows["start_ns"]),
        lateness_ms=_quantiles(late_ms),
        tick_ms=_quantiles(rows["work_ns"] / 1e6),
        policy_ms=_quantiles(thought / 1e6),
        missed_periods=missed,
        missed_fraction=missed / len(rows) if len(rows) else None,
        histogram_counts=tuple(int(number) for number in histogram),
        histogram_edges_ms=HISTOGRAM_EDGES_MS,
        swap_ticks=tuple(
            int(at) + first for at in np.flatnonzero(rows["flags"] & SWAPPED)
        ),
        fresh_frames=int((rows["flags"] & FRESH != 0).sum()),
        executed=int((rows["flags"] & EXECUTING != 0).sum()),
        judged=len(judged),
        verdicts=verdicts,
        veto_fraction=1.0 - passed / len(judged) if len(judged) else None,
        non_finite=int((rows["flags"] & NON_FINITE != 0).sum()),
        policy_failures=int((rows["flags"] & POLICY_FAILED != 0).sum()),
    )


def _quantiles(values: NDArray[np.floating[Any]]) -> Quantiles:
    if not len(values):
        return Quantiles(p50=None, p99=None, max=None)
    p50, p99 = np.percentile(values, [50, 99])
    return Quantiles(p50=float(p50), p99=float(p99), max=float(values.max()))


def _rate_hz(start_ns: NDArray[np.int64]) -> float | None:
    if len(start_ns) < 2:
        return None
    return float((len(start_ns) - 1) * 1e9 / (start_ns[-1] - start_ns[0]))
