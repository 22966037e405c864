"""CLOCK_BOOTTIME, which stamps camera frames, against the host's monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from continuon.clock import ClockOffset

__all__ = ["measure_boottime_offset", "read_boottime_ns"]


def read_boottime_ns() -> int:
    """Return CLOCK_BOOTTIME in nanoseconds; it counts suspend, unlike monotonic."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def measure_boottime_offset(
    *,
    read_device_ns: Callable[[], int] = read_boottime_ns,
    read_host_ns: Callable[[], int] = time.monotonic_ns,
    device: str = "boottime",
    tries: int = 8,
) -> ClockOffset:
    """Measure host minus device, keeping the try with the shortest round trip.

    Cristian's algorithm (1989): the device was read within the round trip, so half of
    it bounds the error.
    """
    best: ClockOffset | None = None
    for _ in range(tries):
        sent = read_host_ns()
        answer = read_device_ns()
        received = read_host_ns()
        half = (received - sent + 1) // 2
        if best is None or half < best.uncertainty_ns:
            best = ClockOffset(
                device=device,
                offset_ns=(sent + received) // 2 - answer,
                uncertainty_ns=half,
                measured_at_ns=received,
            )
    assert best is not None
    return best
