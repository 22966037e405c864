"""How the machine does while it learns: memory, pressure, heat (/proc and /sys).

What cannot be read is UNKNOWN and said to be so; it is never counted as fine.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import attrs

from continuon.errors import BudgetError

__all__ = ["Level", "Reading", "ResourceMonitor", "ResourceSummary"]


class Level(StrEnum):
    """A verdict on one resource."""

    OK = "OK"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"
    UNKNOWN = "UNKNOWN"


@attrs.frozen
class Reading:
    """One measured value, None where it could not be read.

    Attributes:
        name: `memory_available_mib`, `memory_pressure_percent` (share of the last 10 s
            in which every task waited for memory) or `temperature_celsius` (hottest
            zone).
    """

    name: str
    value: float | None
    level: Level


@attrs.frozen
class ResourceSummary:
    """The worst of all samples.

    Attributes:
        samples: how often the machine was looked at.
        worst: the worst reading of each resource.
        critical_alerts: readings that were CRITICAL.
    """

    samples: int
    worst: dict[str, Reading]
    critical_alerts: int

    @property
    def unknown(self) -> tuple[str, ...]:
        """Return the resources that were never readable."""
        return tuple(n for n, r in self.worst.items() if r.level is Level.UNKNOWN)


_ORDER = (Level.UNKNOWN, Level.OK, Level.WARNING, Level.CRITICAL)


@attrs.define
class ResourceMonitor:
    """Looks at the machine when asked.

    Attributes:
        root: the file system's root; tests give another.
        min_available_mib: less available memory than this is CRITICAL, less than twice
            is a WARNING.
        max_pressure_percent: more is CRITICAL, more than a quarter is a WARNING.
        max_celsius: this or more is CRITICAL, from 10 degrees below on a WARNING.
    """

    root: Path = Path("/")
    min_available_mib: float = 128.0
    max_pressure_percent: float = 40.0
    max_celsius: float = 85.0
    _samples: int = attrs.field(default=0, init=False)
    _critical: int = attrs.field(default=0, init=False)
    _worst: dict[str, Reading] = attrs.field(factory=dict, init=False)

    def sample(self) -> tuple[Reading, ...]:
        """Return the readings of now."""
        readings = (self._memory(), self._pressure(), self._temperature())
        self._samples += 1
        for reading in readings:
            self._critical += reading.level is Level.CRITICAL
            known = self._worst.get(reading.name)
            if known is None or _badness(reading) > _badness(known):
                self._worst[reading.name] = reading
        return readings

    def check(self) -> None:
        """Sample, and stop the work where a reading is CRITICAL.

        Raises:
            BudgetError: E-LEARN-RES-001, naming the resource.
        """
        for reading in self.sample():
            if reading.level is Level.CRITICAL:
                raise BudgetError(
                    "E-LEARN-RES-001",
                    "learning stopped: a resource is critical",
                    where=reading.name,
                    seen=reading.value,
                    hint="free memory or let the robot cool down, then run it again",
                )

    def summary(self) -> ResourceSummary:
        """Return the worst so far."""
        return ResourceSummary(self._samples, dict(self._worst), self._critical)

    def _memory(self) -> Reading:
        value = None
        for line in _lines(self.root / "proc/meminfo"):
            if line.startswith("MemAvailable:"):
                value = float(line.split()[1]) / 1024.0
        limit = self.min_available_mib
        if value is None:
            level = Level.UNKNOWN
        elif value < limit:
            level = Level.CRITICAL
        else:
            level = Level.WARNING if value < 2 * limit else Level.OK
        return Reading("memory_available_mib", value, level)

    def _pressure(self) -> Reading:
        value = None
        for line in _lines(self.root / "proc/pressure/memory"):
            if line.startswith("full"):
                fields = dict(part.split("=") for part in line.split()[1:])
                value = float(fields["avg10"])
        limit = self.max_pressure_percent
        return Reading(
            "memory_pressure_percent", value, _above(value, limit, limit / 4.0)
        )

    def _temperature(self) -> Reading:
        zones = sorted((self.root / "sys/class/thermal").glob("thermal_zone*/temp"))
        texts = [line for zone in zones for line in _lines(zone)[:1]]
        degrees = [int(t) / 1000.0 for t in texts if t.strip().lstrip("-").isdigit()]
        value = max(degrees, default=None)
        limit = self.max_celsius
        return Reading("temperature_celsius", value, _above(value, limit, limit - 10.0))


def _above(value: float | None, critical: float, warning: float) -> Level:
    if value is None:
        return Level.UNKNOWN
    if value >= critical:
        return Level.CRITICAL
    return Level.WARNING if value >= warning else Level.OK


def _badness(reading: Reading) -> tuple[int, float]:
    value = 0.0 if reading.value is None else reading.value
    worse = -value if reading.name == "memory_available_mib" else value
    return _ORDER.index(reading.level), worse


def _lines(path: Path) -> list[str]:
    """Return a pseudo-file's lines, none where the kernel offers no such file."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
