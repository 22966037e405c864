"""What an option may be, where one rule holds for every command."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from continuon.errors import UsageError

__all__ = ["check_ranges"]

MAX_SEED = 2**32 - 1
"""A JAX key holds no more: a larger seed would draw what its last 32 bits draw."""
_RULES: dict[str, tuple[str, str, Callable[[Any], bool]]] = {
    "seed": ("E-CLI-SEED-001", f"0 to {MAX_SEED}", lambda v: 0 <= v <= MAX_SEED),
    "holdout": ("E-CLI-RANGE-001", "above 0, below 1", lambda v: 0.0 < v < 1.0),
    "learning_rate": (
        "E-CLI-RANGE-001",
        "above 0, finite",
        lambda v: 0.0 < v < math.inf,
    ),
    "sparsity_lambda": (
        "E-CLI-RANGE-001",
        "0 or more, finite",
        lambda v: 0.0 <= v < math.inf,
    ),
    "rank": ("E-CLI-RANGE-001", "1 or more", lambda v: v >= 1),
    "state": (
        "E-CLI-RANGE-002",
        "each name once",
        lambda v: isinstance(v, str) or len(set(v)) == len(v),
    ),
}
"""By option: its error's code, what is allowed, and whether a value is."""


def check_ranges(values: Mapping[str, Any]) -> None:
    """Refuse a value, where a command has the option, that nothing could work with.

    Raises:
        UsageError: E-CLI-SEED-001, E-CLI-RANGE-001 or -002, which name the option.
    """
    for name, (code, allowed, fits) in _RULES.items():
        value = values.get(name)
        if value is not None and not fits(value):
            raise UsageError(
                code,
                f"{name} is out of range",
                seen=", ".join(value) if isinstance(value, tuple) else value,
                allowed=allowed,
            )
