"""The limits of `specs/health/thresholds.toml`, as data."""

from __future__ import annotations

import functools
import tomllib
from importlib import resources
from typing import Any

from continuon.errors import ContractError
from continuon.health.levels import Limits

__all__ = ["VERSION", "bounds", "hold_ns", "load_thresholds"]

VERSION = 4
SIGNALS = frozenset(
    {
        "camera",
        "servos",
        "bus",
        "skew",
        "battery",
        "thermal",
        "supply",
        "disk",
        "memory",
        "pressure",
        "freshness",
        "hold",
    }
)


@functools.cache
def load_thresholds() -> dict[str, dict[str, Any]]:
    """Return each signal's limits by name.

    Raises:
        ContractError: the file is of another version or lacks a signal.
    """
    source = resources.files("continuon") / "_specs" / "health" / "thresholds.toml"
    table = tomllib.loads(source.read_text("utf-8"))
    version = table.pop("version", None)
    if version != VERSION or set(table) != SIGNALS:
        raise ContractError(
            "E-HEALTH-SPEC-001",
            "the health thresholds do not fit this version",
            where=source,
            seen=f"version {version}, signals {sorted(table)}",
            allowed=f"version {VERSION}, signals {sorted(SIGNALS)}",
        )
    return table


def hold_ns(signal: str) -> int:
    """Return for how long a level of this signal is held.

    Raises:
        KeyError: there is no such signal.
    """
    return round(float(load_thresholds()["hold"][signal]) * 1e9)


def bounds(table: dict[str, Any], figure: str, *, above: bool) -> Limits:
    """Return where one figure's levels begin, from its signal's table."""
    side = "above" if above else "below"
    return Limits(
        warn=table[f"warn_{side}_{figure}"],
        critical=table[f"critical_{side}_{figure}"],
        above=above,
        hysteresis=table[f"hysteresis_{figure}"],
    )
