"""What an episode's numbers look like: per component, over the steps that count.

Columns only: no picture is decoded. Statistics of episodes are merged exactly (counts,
means and squared deviations by Chan, Golub and LeVeque, 1979), so a data set's need not
be measured again when an episode is added.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError
from continuon.rlds.steps import EpisodeSteps

__all__ = ["ColumnStatistics", "column_statistics", "episode_statistics", "merge"]


@attrs.frozen(kw_only=True, eq=False)
class ColumnStatistics:
    """One vector column; arrays are float64 [components], NaN where count is 0.

    Attributes:
        names: the components, units in the names.
        count: steps measured; masked ones and those with a NaN are not among them.
        spread: sum of squared deviations from the mean.
    """

    names: tuple[str, ...]
    count: int
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def std(self) -> NDArray[np.float64]:
        """Return the population's standard deviation, float64 [components]."""
        count = self.count or np.nan
        deviation: NDArray[np.float64] = np.sqrt(self.spread / count)
        return deviation

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, by component; none where nothing counts."""
        if not self.count:
            return {"count": 0, "components": dict.fromkeys(self.names)}
        rows = zip(self.mean, self.std, self.low, self.high, strict=True)
        keys = ("mean", "std", "min", "max")
        return {
            "count": self.count,
            "components": {
                name: dict(zip(keys, map(float, row), strict=True))
                for name, row in zip(self.names, rows, strict=True)
            },
        }


def column_statistics(
    values: NDArray[np.floating], names: tuple[str, ...]
) -> ColumnStatistics:
    """Return the statistics of values [steps, components], rows with a NaN left out.

    Raises:
        ContractError: the names do not fit the columns.
    """
    if values.ndim != 2 or values.shape[1] != len(names):
        raise ContractError(
            "E-RLDS-STATISTICS-001",
            "one name a column",
            seen=values.shape,
            allowed=f"[steps, {len(names)}]",
        )
    kept = values[np.isfinite(values).all(axis=1)].astype(np.float64)
    if not len(kept):
        unknown = np.full(len(names), np.nan)
        return ColumnStatistics(
            names=names,
            count=0,
            mean=unknown,
            spread=unknown,
            low=unknown,
            high=unknown,
        )
    mean = kept.mean(axis=0)
    return ColumnStatistics(
        names=names,
        count=len(kept),
        mean=mean,
        spread=((kept - mean) ** 2).sum(axis=0),
        low=kept.min(axis=0),
        high=kept.max(axis=0),
    )


def episode_statistics(steps: EpisodeSteps) -> dict[str, ColumnStatistics]:
    """Return the statistics of `state` and `action` over the valid steps."""
    keep = steps.valid
    return {
        "state": column_statistics(steps.state[keep], steps.state_names),
        "action": column_statistics(steps.action[keep], steps.action_names),
    }


def merge(parts: Iterable[ColumnStatistics]) -> ColumnStatistics:
    """Return the statistics of all parts together, as if measured at once.

    Raises:
        ContractError: no part, or parts with different components.
    """
    every = list(parts)
    if len({part.names for part in every}) != 1:
        raise ContractError(
            "E-RLDS-STATISTICS-002",
            "statistics are merged over equal components",
            seen=sorted({part.names for part in every}),
        )
    total = every[0]
    for part in every[1:]:
        total = _merged(total, part)
    return total


def _merged(one: ColumnStatistics, other: ColumnStatistics) -> ColumnStatistics:
    if not one.count or not other.count:
        return one if one.count else other
    count = one.count + other.count
    gap = other.mean - one.mean
    return ColumnStatistics(
        names=one.names,
        count=count,
        mean=one.mean + gap * (other.count / count),
        spread=one.spread + other.spread + gap**2 * (one.count * other.count / count),
        low=np.minimum(one.low, other.low),
        high=np.maximum(one.high, other.high),
    )
