"""A clock offset from many pairs of stamps of the same events in two timebases."""

from __future__ import annotations

import statistics
from collections import deque

from continuon.clock import ClockOffset
from continuon.errors import HardwareError

__all__ = ["OffsetEstimate", "not_measured"]


def not_measured(device: str) -> HardwareError:
    """Return the error of a clock that nobody has seen beside the host's yet."""
    return HardwareError(
        "E-RIG-CLOCK-001",
        "the offset of a device's clock was not measured yet",
        where=device,
        hint="open the device and wait for its first sample",
    )


class OffsetEstimate:
    """The median of the last pairs; half their spread joins the uncertainty.

    Args:
        device: whose clock it is.
        bound_ns: error that all pairs may have in common, which no spread can show.
        kept: how many pairs count; 64 are two seconds of a camera.
    """

    def __init__(self, device: str, *, bound_ns: int, kept: int = 64) -> None:
        self._device = device
        self._bound_ns = bound_ns
        self._pairs: deque[int] = deque(maxlen=kept)
        self._at_ns = 0

    def add(self, host_minus_device_ns: int, *, at_ns: int) -> ClockOffset:
        """Take one pair in and return the estimate with it."""
        self._pairs.append(host_minus_device_ns)
        self._at_ns = at_ns
        return self.value()

    def value(self) -> ClockOffset:
        """Return the estimate.

        Raises:
            HardwareError: no pair came yet.
        """
        if not self._pairs:
            raise not_measured(self._device)
        spread = max(self._pairs) - min(self._pairs)
        return ClockOffset(
            device=self._device,
            offset_ns=round(statistics.median(self._pairs)),
            uncertainty_ns=self._bound_ns + (spread + 1) // 2,
            measured_at_ns=self._at_ns,
        )
