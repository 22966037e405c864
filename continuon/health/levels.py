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
    """

    warn: float
    critical: float
    above: bool


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


def regrade(
    value: float | None, limits: Limits, *, before: Level, hysteresis: float
) -> Level:
    """Return the level with hysteresis: a level is left for a better one only when the
    figure is better than the limit by `hysteresis`.
    """  # noqa: D205
    level = grade(value, limits)
    if _ORDER.index(level) >= _ORDER.index(before) or level is Level.UNKNOWN:
        return level
    sign = 1.0 if limits.above else -1.0
    assert value is not None  # else UNKNOWN above
    held = grade(value + sign * hysteresis, limits)
    return held if _ORDER.index(held) <= _ORDER.index(before) else before


def worst(levels: Iterable[Level]) -> Level:
    """Return the worst of several levels; of none it is UNKNOWN."""
    return max(levels, key=_ORDER.index, default=Level.UNKNOWN)
