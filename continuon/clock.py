"""Clocks as values: time enters through a protocol, so tests never wait.

Every stamp in this library is an integer count of nanoseconds in a named timebase.
`monotonic` never jumps (Linux CLOCK_MONOTONIC), `boottime` also counts suspend
(CLOCK_BOOTTIME, what libcamera stamps frames with), `wall` is Unix time and may jump.
"""

from __future__ import annotations

import time
from typing import Protocol

import attrs

__all__ = ["Clock", "ClockOffset", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """A source of time and of waiting."""

    def monotonic_ns(self) -> int:
        """Return nanoseconds that never go back."""
        ...

    def wall_ns(self) -> int:
        """Return Unix time in nanoseconds; it may jump."""
        ...

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Return once `monotonic_ns()` has reached `deadline_ns`."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC in nanoseconds."""
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """Return CLOCK_REALTIME in nanoseconds."""
        return time.time_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Sleep to an absolute deadline; returns at once when it is past."""
        while (left := deadline_ns - time.monotonic_ns()) > 0:
            time.sleep(left / 1e9)


@attrs.define
class ManualClock:
    """A clock that a test or a simulator moves by hand."""

    now_ns: int = 0
    wall_offset_ns: int = 0

    def monotonic_ns(self) -> int:
        """Return the hand-set time."""
        return self.now_ns

    def wall_ns(self) -> int:
        """Return the hand-set time plus `wall_offset_ns`."""
        return self.now_ns + self.wall_offset_ns

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Jump to the deadline; a past deadline leaves the time as it is."""
        self.now_ns = max(self.now_ns, deadline_ns)

    def advance_ns(self, step_ns: int) -> None:
        """Move time forward.

        Raises:
            ValueError: `step_ns` is negative.
        """
        if step_ns < 0:
            msg = f"time does not go back: {step_ns} ns"
            raise ValueError(msg)
        self.now_ns += step_ns


@attrs.frozen
class ClockOffset:
    """A measured map from a device's clock to the host's monotonic clock.

    `host_ns = device_ns + offset_ns`, true to within `uncertainty_ns` (half the round
    trip of the measurement, Cristian's algorithm) at `measured_at_ns` on the host.
    """

    device: str
    offset_ns: int
    uncertainty_ns: int
    measured_at_ns: int

    def to_host_ns(self, device_ns: int) -> int:
        """Return a device stamp in the host's timebase."""
        return device_ns + self.offset_ns
