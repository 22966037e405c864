"""Device clocks that run apart from the host's, and how the difference is measured."""

from __future__ import annotations

import attrs
import numpy as np

from continuon.clock import ClockOffset

__all__ = ["DeviceClock", "measure_offset"]


@attrs.frozen(kw_only=True)
class DeviceClock:
    """A free-running clock: device = host + offset + drift, stamps with jitter.

    Attributes:
        name: of the clock.
        offset_ns: device minus host at host time 0.
        drift_ppm: how much faster it runs.
        jitter_ns: standard deviation of a stamp's error.
    """

    name: str
    offset_ns: int
    drift_ppm: float
    jitter_ns: float = 0.0

    @classmethod
    def draw(cls, name: str, rng: np.random.Generator) -> DeviceClock:
        """Draw a plausible clock: hours of offset, up to 40 ppm of drift."""
        return cls(
            name=name,
            offset_ns=int(rng.integers(-(10**13), 10**13)),
            drift_ppm=float(rng.uniform(-40.0, 40.0)),
            jitter_ns=float(rng.uniform(10e3, 60e3)),
        )

    def read_ns(self, host_ns: int) -> int:
        """Return the device's time at a host time, without a stamp's jitter."""
        return host_ns + self.offset_ns + round(host_ns * self.drift_ppm * 1e-6)

    def stamp_ns(self, host_ns: int, rng: np.random.Generator) -> int:
        """Return the device's stamp of what happened at a host time."""
        return self.read_ns(host_ns) + round(rng.normal(0.0, self.jitter_ns))


def measure_offset(
    device: DeviceClock, host_ns: int, rng: np.random.Generator, *, tries: int = 8
) -> ClockOffset:
    """Measure a clock by asking it, and keep the answer with the shortest round trip.

    Cristian's algorithm (1989): the device read somewhere within the round trip, so
    the middle is its best guess and half the round trip bounds the error.
    """
    best: ClockOffset | None = None
    for _ in range(tries):
        there, back = (int(leg) for leg in 30e3 + rng.exponential(60e3, 2))
        answer = device.read_ns(host_ns + there)
        sent, received = host_ns, host_ns + there + back
        half = (received - sent + 1) // 2
        if best is None or half < best.uncertainty_ns:
            best = ClockOffset(
                device=device.name,
                offset_ns=(sent + received) // 2 - answer,
                uncertainty_ns=half,
                measured_at_ns=received,
            )
    assert best is not None
    return best
