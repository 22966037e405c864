"""Figures with intervals over training seeds and robots, and how soon it was good."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

TAIL, SMOOTH, GOOD = 128, 16, 0.1
_T975 = (0.0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t at 97.5 % by degrees of freedom, 0 to 10."""


def tails(distances: Array) -> Array:
    """Return the mean over the last `TAIL` ticks of each phase [..., phase, tick]."""
    return np.asarray(distances[..., -TAIL:].mean(-1))


def ticks_to_good(distances: Array) -> NDArray[np.int64]:
    """Return the first tick after which `SMOOTH` ticks average below `GOOD`.

    The phase's length where that never happens; shape without the last axis.
    """
    total = np.cumsum(distances, -1)
    before = np.concatenate([np.zeros_like(total[..., :1]), total[..., :-SMOOTH]], -1)
    good = (total[..., SMOOTH - 1 :] - before) / SMOOTH < GOOD
    first = np.where(good.any(-1), good.argmax(-1), distances.shape[-1])
    return np.asarray(first, np.int64)


def mean_interval(values: Array) -> tuple[float, float, float]:
    """Return the mean of a few seeds and its 95 % t interval (Student, 1908).

    Raises:
        ValueError: fewer than two values, or more than the table holds.
    """
    count = len(values)
    if not 2 <= count <= len(_T975):
        raise ValueError(f"{count} seeds, allowed 2 to {len(_T975)}")
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = _T975[count - 1] * spread / math.sqrt(count)
    return mean, mean - half, mean + half


def ratio_interval(
    above: Array, below: Array, *, draws: int = 4000, seed: int = 0
) -> tuple[float, float, float]:
    """Return the ratio of two medians over robots, averaged over seeds, and its 95 %.

    A two-level bootstrap (Efron and Tibshirani, 1993): seeds are drawn anew for each
    side, robots once for both, since both sides drive the same robots.

    Args:
        above: errors [seed, robot] of one side.
        below: of the other.
        draws: of the bootstrap.
        seed: of the bootstrap.
    """
    if above.shape[1] != below.shape[1]:
        raise ValueError(f"robots differ: {above.shape[1]} and {below.shape[1]}")
    rng = np.random.default_rng(seed)
    robots = rng.integers(0, above.shape[1], (draws, above.shape[1]))

    def drawn(side: Array) -> Array:
        seeds = rng.integers(0, len(side), (draws, len(side)))
        medians = np.median(side[seeds[:, :, None], robots[:, None]], -1)
        return np.asarray(medians.mean(-1))

    ratios = drawn(above) / drawn(below)
    low, high = np.quantile(ratios, (0.025, 0.975))
    middle = np.median(above, -1).mean() / np.median(below, -1).mean()
    return float(middle), float(low), float(high)


def phase_figures(distances: Array) -> dict[str, Any]:
    """Return the figures of one phase; `distances` [seed, robot, tick]."""
    tail = np.median(tails(distances), -1)
    soon = ticks_to_good(distances)
    never = soon == distances.shape[-1]
    return {
        "tail": rounded(mean_interval(tail)),
        "tail_seeds": rounded(tail),
        "tail_mean": rounded(mean_interval(tails(distances).mean(-1))),
        "first_64": rounded(mean_interval(distances[..., :64].mean((-1, -2)))),
        "ticks_to_good": rounded(mean_interval(np.median(soon, -1))),
        "never_good": round(float(never.mean()), 3),
    }


def rounded(values: Any) -> list[float]:
    """Return floats with four digits after the point."""
    return [round(float(value), 4) for value in values]
