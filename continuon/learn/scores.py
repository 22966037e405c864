"""Figures of a prediction against a teacher: pure numpy."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.learn.data import EpisodeArrays

__all__ = ["SIGN_THRESHOLD", "Scores", "score"]

SIGN_THRESHOLD = 0.1
_ROUNDING = 1e-6


@attrs.frozen
class Scores:
    """Errors by action component.

    Attributes:
        mae: mean absolute error over all valid steps.
        sign_accuracy: share of the steps with |teacher| > 0.1 on whose side of zero
            the prediction lies; None where there is no such step.
    """

    mae: dict[str, float]
    sign_accuracy: dict[str, float | None]


def score(
    episodes: Sequence[EpisodeArrays], predicted: Sequence[NDArray[np.float32]]
) -> Scores:
    """Return the scores of float32 [T, A] predictions, one an episode."""
    truth = np.concatenate([e.action[e.valid] for e in episodes]).astype(np.float64)
    pairs = zip(predicted, episodes, strict=True)
    guess = np.concatenate([p[e.valid] for p, e in pairs]).astype(np.float64)
    mae, sign = {}, {}
    for column, name in enumerate(episodes[0].action_names):
        known, told = truth[:, column], guess[:, column]
        clear = np.abs(known) > SIGN_THRESHOLD + _ROUNDING
        mae[name] = float(np.abs(told - known).mean()) if len(known) else float("nan")
        same = np.sign(told[clear]) == np.sign(known[clear])
        sign[name] = float(same.mean()) if clear.any() else None
    return Scores(mae, sign)
