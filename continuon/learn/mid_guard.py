"""May the robot learn now? Heat, supply, memory, pressure and time; all fail closed.

What cannot be read stops learning. Only a person may say that a machine has no such
sensor, and the report then names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs

from continuon.clock import Clock
from continuon.errors import BudgetError, UsageError
from continuon.learn.recipe import positive
from continuon.learn.resources import Level, ResourceMonitor

__all__ = ["SENSORS", "MidGuard", "MidLimits", "own_memory_mib"]

SENSORS = (
    "temperature_celsius",
    "battery_fraction",
    "memory_available_mib",
    "memory_pressure_percent",
)
"""What the guard reads; each can be waived by name."""


@attrs.frozen(kw_only=True)
class MidLimits:
    """What one run of the Mid loop may use.

    Attributes:
        max_seconds: of the whole run, its gate included.
        max_steps: updates.
        batch_size: windows an update.
        rank: of the adapter.
        max_memory_mib: resident memory of the learning process.
        min_available_mib: of the machine's memory.
        max_pressure_percent: share of time in which all tasks waited for memory.
        max_celsius: of the hottest zone.
        min_battery_fraction: charge, 0 to 1.
        gate_share: of `max_seconds`, kept for the gate: training stops before.

    Raises:
        ContractError: E-LEARN-RECIPE-001, a limit that is not above 0.
    """

    max_seconds: float = attrs.field(default=300.0, validator=positive)
    max_steps: int = attrs.field(default=300, validator=positive)
    batch_size: int = attrs.field(default=8, validator=positive)
    rank: int = attrs.field(default=8, validator=positive)
    max_memory_mib: float = attrs.field(default=1536.0, validator=positive)
    min_available_mib: float = attrs.field(default=256.0, validator=positive)
    max_pressure_percent: float = attrs.field(default=20.0, validator=positive)
    max_celsius: float = attrs.field(default=75.0, validator=positive)
    min_battery_fraction: float = attrs.field(default=0.4, validator=positive)
    gate_share: float = attrs.field(default=0.2, validator=positive)


def own_memory_mib(root: Path = Path("/")) -> float | None:
    """Return the resident memory of this process, None where it cannot be read."""
    try:
        lines = (root / "proc/self/status").read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return float(sizes[0]) / 1024.0 if sizes else None


@attrs.define(kw_only=True)
class MidGuard:
    """Looks at the machine before, during and after learning.

    Attributes:
        limits: what is granted.
        clock: of the deadline, which starts when the guard is made.
        monitor: of memory, pressure and heat.
        battery: the charge as a fraction, None where it cannot be read.
        memory: this process's resident memory in MiB.
        waived: sensors that a person said this machine does not have.
        gate_s: what the gate was seen to need; training leaves at least so much.
        step_s: what the slowest update so far took, told by `may_train` as it is asked
            before each; the first one compiles and does not count.
    """

    limits: MidLimits
    clock: Clock
    monitor: ResourceMonitor
    battery: Callable[[], float | None]
    memory: Callable[[], float | None] = own_memory_mib
    waived: frozenset[str] = frozenset()
    gate_s: float = 0.0
    step_s: float = 0.0
    _begun_ns: int = attrs.field(init=False)
    _asked: list[float] = attrs.field(factory=list, init=False)
    _seen: dict[str, float | None] = attrs.field(factory=dict, init=False)

    @classmethod
    def of(
        cls,
        limits: MidLimits,
        *,
        clock: Clock,
        battery: Callable[[], float | None],
        waived: Iterable[str] = (),
        root: Path = Path("/"),
    ) -> MidGuard:
        """Return a guard over this machine.

        Raises:
            UsageError: E-LEARN-MID-002, a waived name is no sensor.
        """
        names = frozenset(waived)
        if names - set(SENSORS):
            raise UsageError(
                "E-LEARN-MID-002",
                "this is no sensor that the Mid loop watches",
                seen=", ".join(sorted(names - set(SENSORS))),
                allowed=", ".join(SENSORS),
            )
        monitor = ResourceMonitor(
            root=root,
            min_available_mib=limits.min_available_mib,
            max_pressure_percent=limits.max_pressure_percent,
            max_celsius=limits.max_celsius,
        )
        return cls(
            limits=limits, clock=clock, monitor=monitor, battery=battery, waived=names
        )

    def __attrs_post_init__(self) -> None:
        self._begun_ns = self.clock.monotonic_ns()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the guard was made."""
        return (self.clock.monotonic_ns() - self._begun_ns) / 1e9

    def may_train(self) -> bool:
        """Return whether time for another update is left, the gate's share kept.

        Ask before each update: the time since it was last asked is what one takes, so
        a slow machine makes fewer of them instead of running into the deadline.
        """
        now_s = self.elapsed_s
        if len(self._asked) > 1:
            self.step_s = max(self.step_s, now_s - self._asked[-1])
        self._asked.append(now_s)
        kept_s = max(self.limits.max_seconds * self.limits.gate_share, self.gate_s)
        return now_s + self.step_s < self.limits.max_seconds - kept_s

    def check(self) -> None:
        """Look at everything.

        Raises:
            BudgetError: E-LEARN-MID-003 past the deadline, -004 for a sensor that
                cannot be read, -005 for one beyond its limit.
        """
        if self.elapsed_s > self.limits.max_seconds:
            raise BudgetError(
                "E-LEARN-MID-003",
                "the Mid loop ran past its deadline; nothing was promoted",
                where="deadline",
                seen=f"{self.elapsed_s:.0f} s",
                allowed=f"{self.limits.max_seconds:g} s",
            )
        for reading in self.monitor.sample():
            bad = reading.level is Level.CRITICAL
            self._judge(reading.name, reading.value, bad=bad)
        charge = self.battery()
        low = charge is not None and not charge >= self.limits.min_battery_fraction
        self._judge("battery_fraction", charge, bad=low)
        own = self.memory()
        over = own is not None and own > self.limits.max_memory_mib
        self._judge("own_memory_mib", own, bad=over)

    def facts(self) -> dict[str, Any]:
        """Return the last reading of each sensor, and what was waived."""
        return {**self._seen, "waived": sorted(self.waived)}

    def _judge(self, name: str, value: float | None, *, bad: bool) -> None:
        self._seen[name] = value
        if value is None and name in self.waived:
            return
        if value is None:
            raise BudgetError(
                "E-LEARN-MID-004",
                "a sensor cannot be read, and unknown is not fine",
                where=name,
                hint=f"connect it, or say that there is none: --without {name}",
            )
        if bad:
            raise BudgetError(
                "E-LEARN-MID-005",
                "the machine is in no state to learn",
                where=name,
                seen=f"{value:.2f}",
                hint="let it cool, charge or free memory, then run it again",
            )
