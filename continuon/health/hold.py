"""Hysteresis in time: for a while after a bad level no better one is shown."""

from __future__ import annotations

from collections.abc import Mapping

from continuon.health.levels import Level, worst

__all__ = ["held"]


def held(
    seen: Mapping[Level, int], level: Level, *, now_ns: int, hold_ns: int
) -> tuple[dict[Level, int], Level]:
    """Return when each level was last seen, and the level to show.

    That is the worst one that was seen within `hold_ns`: a worse level is shown at
    once, a better one when the worse has stayed away for so long.

    Args:
        seen: what this returned before; empty at first.
        level: as measured now.
        now_ns: monotonic.
        hold_ns: how long a level is held.
    """
    kept = {was: at for was, at in seen.items() if now_ns - at < hold_ns}
    kept[level] = now_ns
    return kept, worst(kept)
