"""Room for a bundle: checked before the first byte, at the cost of old slots only."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from continuon.errors import BudgetError
from continuon.ota.store import Space

__all__ = ["Evictable", "plan_room", "reserve_bytes"]

_RESERVE_FRACTION = 0.03
_RESERVE_CAP_BYTES = 256 << 20


@attrs.frozen
class Evictable:
    """A slot that may go, the least missed first. Never the active or good one."""

    path: str
    bytes: int


def reserve_bytes(space: Space, *, min_free_bytes: int = 0) -> int:
    """Return what must stay free: 3 % but at most 256 MiB, or more if asked for."""
    share = int(space.total_bytes * _RESERVE_FRACTION)
    return max(min(share, _RESERVE_CAP_BYTES), min_free_bytes)


def plan_room(
    need_bytes: int,
    space: Space,
    evictable: Sequence[Evictable],
    *,
    min_free_bytes: int = 0,
) -> tuple[str, ...]:
    """Return the paths to remove, as few as possible, so that `need_bytes` fit.

    Raises:
        BudgetError: E-OTA-SPACE-001, even removing all of them is not enough.
    """
    reserve = reserve_bytes(space, min_free_bytes=min_free_bytes)
    missing = need_bytes + reserve - space.free_bytes
    chosen = []
    for item in evictable:
        if missing <= 0:
            break
        chosen.append(item.path)
        missing -= item.bytes
    if missing > 0:
        raise BudgetError(
            "E-OTA-SPACE-001",
            "there is no room for the bundle",
            seen=f"{space.free_bytes} bytes free, {missing} bytes short",
            allowed=f"{need_bytes} bytes and a reserve of {reserve}",
            hint="free some space; the active and the good bundle are never removed",
            exit_code=4,
        )
    return tuple(chosen)
