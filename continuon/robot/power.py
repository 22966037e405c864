"""Whether the battery lets a policy drive: a pure rule over what the guard saw.

A policy does not see that the car slows down. So it drives only on a
battery that is known and not CRITICAL. A person is told, and is not stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs

from continuon.errors import HardwareError
from continuon.health.levels import Level, Limits, regrade
from continuon.health.thresholds import bounds, hold_ns, load_thresholds
from continuon.robot.kernel import Reason
from continuon.robot.supply import GaugeState, Supply

__all__ = ["PowerMemory", "PowerRule", "PowerWatch", "note_supply", "why_barred"]


@attrs.frozen(kw_only=True)
class PowerRule:
    """The limits, from `specs/health/thresholds.toml`.

    Attributes:
        limits: of the voltage of one cell.
        cells: in series, where the gauge does not know.
        hold_ns: for how long a CRITICAL that was seen stays in force.
        start_ns: age of the reading up to which a policy may begin.
        blind_ns: age of the last good reading up to which it may go on.
        without_gauge: the owner said that this robot has none.
    """

    limits: Limits
    cells: int
    hold_ns: int
    start_ns: int
    blind_ns: int
    without_gauge: bool = False

    @classmethod
    def specified(cls, *, without_gauge: bool = False) -> PowerRule:
        """Return the rule as specified."""
        table: dict[str, Any] = load_thresholds()["battery"]
        return cls(
            limits=bounds(table, "cell_v", above=False),
            cells=table["cells"],
            hold_ns=hold_ns("battery"),
            start_ns=round(table["policy_start_s"] * 1e9),
            blind_ns=round(table["policy_blind_s"] * 1e9),
            without_gauge=without_gauge,
        )


@attrs.frozen(kw_only=True)
class PowerMemory:
    """What was seen so far.

    Attributes:
        newest: the guard's last look.
        level: of the last good reading, held by its hysteresis.
        good_ns: when that was.
        critical_ns: when a reading was CRITICAL last.
    """

    newest: Supply | None = None
    level: Level | None = None
    good_ns: int | None = None
    critical_ns: int | None = None


def note_supply(
    rule: PowerRule, memory: PowerMemory, supply: Supply | None
) -> PowerMemory:
    """Return the memory after a look; the same look twice changes nothing.

    A reading that is no number is a failed one.
    """
    if supply is None or supply == memory.newest:
        return memory
    volts = supply.volts
    if volts is None or not math.isfinite(volts):
        state = supply.state
        state = GaugeState.FAILED if state is GaugeState.READ else state
        return attrs.evolve(memory, newest=attrs.evolve(supply, state=state))
    if supply.state is not GaugeState.READ:
        return attrs.evolve(memory, newest=supply)
    cell_v = volts / (supply.cells or rule.cells)
    level = regrade(cell_v, rule.limits, before=memory.level)
    critical_ns = memory.critical_ns
    if level is Level.CRITICAL:
        critical_ns = supply.capture_ns
    return PowerMemory(
        newest=supply,
        level=level,
        good_ns=supply.capture_ns,
        critical_ns=critical_ns,
    )


def why_barred(
    rule: PowerRule, memory: PowerMemory, *, now_ns: int, begins: bool
) -> Reason | None:
    """Return why no policy may drive now, or None where it may.

    Args:
        rule: the limits.
        memory: what was seen.
        now_ns: host monotonic, as the readings' capture times are.
        begins: at a start nothing moves yet, so that the newest look itself must be
            good; one that drives goes on for a while on the last good one.
    """
    newest = memory.newest
    if memory.level is Level.CRITICAL or _held(rule, memory, now_ns):
        return Reason.BATTERY_CRITICAL
    if newest is not None and newest.state is GaugeState.ABSENT and rule.without_gauge:
        return None
    if memory.good_ns is None:
        return Reason.BATTERY_UNKNOWN
    if begins and newest is not None and newest.state is not GaugeState.READ:
        return Reason.BATTERY_UNKNOWN
    limit_ns = rule.start_ns if begins else rule.blind_ns
    is_old = now_ns - memory.good_ns > limit_ns
    return Reason.BATTERY_UNKNOWN if is_old else None


def _held(rule: PowerRule, memory: PowerMemory, now_ns: int) -> bool:
    if memory.critical_ns is None:
        return False
    return now_ns - memory.critical_ns < rule.hold_ns


class PowerWatch:
    """The rule with its memory, over what the guard publishes.

    Args:
        read: returns the guard's last look, None before its first.
        rule: the limits.
    """

    def __init__(self, read: Callable[[], Supply | None], rule: PowerRule) -> None:
        self._read = read
        self._rule = rule
        self._memory = PowerMemory()

    def look(self, now_ns: int) -> Reason | None:
        """Return why no policy may drive on; call it at every tick, idle or not."""
        self._memory = note_supply(self._rule, self._memory, self._read())
        return why_barred(self._rule, self._memory, now_ns=now_ns, begins=False)

    def check_start(self, now_ns: int) -> None:
        """See that a policy may begin to drive.

        Raises:
            HardwareError: E-ROBOT-POWER-001 the battery is too low, -002 its charge is
                not known.
        """
        self.look(now_ns)
        rule, memory = self._rule, self._memory
        reason = why_barred(rule, memory, now_ns=now_ns, begins=True)
        if reason is Reason.BATTERY_CRITICAL:
            leave_v = rule.limits.critical + rule.limits.hysteresis
            raise HardwareError(
                "E-ROBOT-POWER-001",
                "the battery is too low for a policy to drive",
                seen=_words(memory.newest),
                allowed=f"{leave_v:.2f} V a cell, {rule.hold_ns / 1e9:g} s long",
                hint="charge it; a person may still drive the robot home by hand",
            )
        if reason is not None:
            raise HardwareError(
                "E-ROBOT-POWER-002",
                "no policy drives on a battery that is not known",
                seen=_words(memory.newest),
                allowed=f"a reading of the last {rule.start_ns / 1e9:g} s",
                hint="`continuon rig scan` looks for the gauge; where the robot has "
                "none, say so: `continuon robot serve --without-gauge`",
            )


def _words(newest: Supply | None) -> str:
    if newest is None:
        return "the guard has not looked yet"
    if newest.volts is None:
        return newest.reason or f"its gauge: {newest.state}"
    return f"{newest.volts:.2f} V"
