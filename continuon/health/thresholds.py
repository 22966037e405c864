"""The limits of `specs/health/thresholds.toml`, as data."""

from __future__ import annotations

import functools
import tomllib
from importlib import resources
from typing import Any

from continuon.errors import ContractError

__all__ = ["VERSION", "load_thresholds"]

VERSION = 1
SIGNALS = frozenset(
    {
        "camera",
        "servos",
        "skew",
        "battery",
        "thermal",
        "disk",
        "memory",
        "pressure",
        "freshness",
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
