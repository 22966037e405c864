"""What an option may be, where one rule holds for every command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from continuon.errors import UsageError

__all__ = ["check_seed"]

MAX_SEED = 2**32 - 1
"""A JAX key holds no more: a larger seed would draw what its last 32 bits draw."""


def check_seed(values: Mapping[str, Any]) -> None:
    """Refuse a seed, where a command has one, that its generators cannot take.

    Raises:
        UsageError: E-CLI-SEED-001.
    """
    seed = values.get("seed")
    if isinstance(seed, int) and not 0 <= seed <= MAX_SEED:
        raise UsageError(
            "E-CLI-SEED-001",
            "seed is out of range",
            seen=seed,
            allowed=f"0 to {MAX_SEED}",
        )
