"""Levels of health, and how a figure gets one. Nothing unknown is fine."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum

import attrs

__all__ = ["EXIT_CODES", "Level", "Limits", "grade", "regrade", "worst"]


class Level(StrEnum):
    """How well something is. Words, so that no number means both fine and halted."""

    OK = "OK"
    WARN = "WARN"
    UNKNOWN = "UNKNOWN"
    STALE = "STALE"
    CRITICAL = "CRITICAL"


_ORDER = (Level.OK, Level.WARN, Level.UNKNOWN, Level.STALE, Level.CRITICAL)

# 0 done; 3 a figure is missing; 4 a person must act.
EXIT_CODES = {
    Level.OK: 0,
    Level.WARN: 0,
    Level.UNKNOWN: 3,
    Level.STALE: 3,
    Level.CRITICAL: 4,
}


@attrs.frozen(kw_only=True)
class Limits:
    """Where a figure's warning and danger begin.

    Attributes:
        warn, critical: the figures at which the level changes.
        above: whether larger figures are worse.
        hysteresis: by how much a figure must be better than a limit before a level that
            was reached is left again.
    """

    warn: float
    critical: float
    above: bool
    hysteresis: float = 0.0


def grade(value: float | None, limits: Limits) -> Level:
    """Return the level of a figure; None and NaN are UNKNOWN.

    A figure exactly at a limit is still on the better side of it.
    """
    if value is None or math.isnan(value):
        return Level.UNKNOWN
    sign = 1.0 if limits.above else -1.0
    if sign * value > sign * limits.critical:
        return Level.CRITICAL
    return Level.WARN if sign * value > sign * limits.warn else Level.OK


def regrade(value: float | None, limits: Limits, *, before: Level | None) -> Level:
    """Return the level with hysteresis: worse at once, better only well inside.

    Without a level before, it is the figure's own.
    """
    level = grade(value, limits)
    if before is None or before not in (Level.WARN, Level.CRITICAL):
        return level
    if _ORDER.index(level) >= _ORDER.index(before) or value is None:
        return level
    sign = 1.0 if limits.above else -1.0
    return min(
        grade(value + sign * limits.hysteresis, limits), before, key=_ORDER.index
    )


def worst(levels: Iterable[Level]) -> Level:
    """Return the worst of several levels; of none it is UNKNOWN."""
    return max(levels, key=_ORDER.index, default=Level.UNKNOWN)
