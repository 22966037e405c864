"""What a proof of learning is held against: dealt-out labels and intervals. numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.learn.data import EpisodeArrays

__all__ = ["Interval", "deal_labels", "half_width", "paired_interval"]

_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t for 1 to 9 degrees of freedom (standard table)."""
_RESAMPLES = 2000


@attrs.frozen
class Interval:
    """A mean and a 95 % confidence interval, the wider of two methods at each end."""

    mean: float
    low: float
    high: float


def deal_labels(
    episodes: Sequence[EpisodeArrays], rng: np.random.Generator
) -> tuple[EpisodeArrays, ...]:
    """Return the episodes, each with the actions of another one.

    Tick by tick the actions keep their distribution and their course over time; only
    their tie to the images is cut. A longer episode repeats its donor's actions.

    Raises:
        DataError: E-LEARN-FEW-003, fewer than two episodes.
    """
    if len(episodes) < 2:
        raise DataError(
            "E-LEARN-FEW-003",
            "labels cannot be dealt out among fewer than two episodes",
            seen=len(episodes),
            allowed="at least 2",
        )
    order = rng.permutation(len(episodes))
    donors = dict(zip(order, np.roll(order, 1), strict=True))
    dealt = []
    for index, episode in enumerate(episodes):
        donor = episodes[donors[index]]
        ticks = np.arange(len(episode)) % len(donor)
        dealt.append(
            attrs.evolve(
                episode,
                action=donor.action[ticks],
                valid=episode.valid & donor.valid[ticks],
            )
        )
    return tuple(dealt)


def paired_interval(
    differences: NDArray[np.float64], rng: np.random.Generator
) -> Interval:
    """Return the interval of the mean of [seeds, episodes] paired differences.

    Three intervals are made and the outer bounds taken: Student's t over the seeds'
    means, Student's t over the episodes' means, and a bootstrap that draws seeds and
    episodes anew (2,000 times). The first guards against a few seeds that agree by
    chance; the second against a few episodes that do, on which all seeds are scored.
    """
    seeds, episodes = differences.shape
    mean = float(differences.mean())
    if seeds < 2 or episodes < 2 or not np.isfinite(differences).all():
        return Interval(mean, -math.inf, math.inf)
    half = max(half_width(differences.mean(1)), half_width(differences.mean(0)))
    rows = rng.integers(0, seeds, (_RESAMPLES, seeds, 1))
    columns = rng.integers(0, episodes, (_RESAMPLES, 1, episodes))
    drawn = differences[rows, columns].mean((1, 2))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(mean, min(float(low), mean - half), max(float(high), mean + half))


def half_width(means: NDArray[np.float64]) -> float:
    """Return half of Student's 95 % interval of the mean of at least two values."""
    spread = float(means.std(ddof=1)) / math.sqrt(len(means))
    return _T_975[min(len(means) - 1, len(_T_975)) - 1] * spread
