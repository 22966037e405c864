"""Whether a teacher steers by keys: an action that is -1, 0 or 1 and little else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from continuon.learn.data import EpisodeArrays

__all__ = ["count_levels", "told_by_levels"]

_NEAR = 0.05
_MIN_SHARE = 0.9
_MIN_FULL = 0.05


def count_levels(episodes: Sequence[EpisodeArrays]) -> NDArray[np.int64]:
    """Return int64 [3, A]: valid steps, those within 0.05 of a level, of -1 or 1."""
    actions = np.concatenate([e.action[e.valid] for e in episodes])
    size = np.abs(actions)
    full = size >= 1.0 - _NEAR
    near = full | (size <= _NEAR)
    every = np.ones_like(near)
    return np.stack([part.sum(0, dtype=np.int64) for part in (every, near, full)])


def told_by_levels(names: Sequence[str], counts: NDArray[np.int64]) -> tuple[str, ...]:
    """Return the components of which nine steps in ten are at a level.

    A twentieth must be at -1 or 1: what never moves is no key. Counts of several
    recordings add up.
    """
    steps, near, full = counts
    keyed = (near >= _MIN_SHARE * steps) & (full >= _MIN_FULL * steps) & (steps > 0)
    return tuple(name for name, is_keyed in zip(names, keyed, strict=True) if is_keyed)
