"""A straight line from what a robot feels and is told to what it does, by ridge.

A servo's target lies nearly on such a line, and on few short episodes nothing learnt
comes nearer. It looks at no picture. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.learn.data import CAR_PROPRIO, EpisodeArrays
from continuon.learn.refusals import no_valid_step
from continuon.learn.senses import INSTRUCTION

__all__ = ["Line", "error_of", "feels_more", "fit_line", "lies_on_line"]

_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4)
_FOLDS = 4
_STILL = 1e-9
Array = NDArray[np.float64]


@attrs.frozen(kw_only=True, eq=False)
class Line:
    """A linear map, cut at -1 and 1.

    Attributes:
        proprio: float64 [P, A]; instruction: [n, A], n = 0 without one; bias: [A].
        penalty: float64 [A], of the squared weights, on senses of half range 1.
        error: mean absolute error on folds of whole training episodes.
        mean_error: the same of the mean action.
    """

    proprio: Array
    instruction: Array
    bias: Array
    penalty: Array
    error: float
    mean_error: float

    def told(self, episode: EpisodeArrays) -> NDArray[np.float32]:
        """Return actions float32 [T, A]."""
        weights = np.concatenate([self.proprio, self.instruction])
        raw = _senses(episode) @ weights + self.bias
        told: NDArray[np.float32] = np.clip(raw, -1.0, 1.0).astype(np.float32)
        return told


def fit_line(training: Sequence[EpisodeArrays]) -> Line:
    """Return the line, each component of the penalty that errs least on folds.

    Folds are of whole episodes; a single one is its own, and one without a valid step
    is in none. Proprioception is scaled by half its range in `training`, so that no
    unit counts for more; what never moves gets no weight.

    Raises:
        DataError: E-LEARN-DATA-006, no step of any episode is valid.
    """
    usable = [episode for episode in training if episode.valid.any()]
    if not usable:
        raise no_valid_step(training)
    training = usable
    scale = _scale(training)
    count = min(_FOLDS, len(training))
    errors = np.zeros((len(_PENALTIES), training[0].action.shape[1]))
    means = np.zeros(errors.shape[1])
    for fold in range(count):
        judges = training[fold::count]
        rest = [e for place, e in enumerate(training) if place % count != fold]
        rest = rest or list(training)
        for place, penalty in enumerate(_PENALTIES):
            errors[place] += _off(judges, *_solve(rest, scale, penalty)) / count
        means += _off(judges, *_solve(rest, 0.0 * scale, 1.0)) / count
    best = errors.argmin(0)
    tried = [_solve(training, scale, penalty) for penalty in _PENALTIES]
    weights = np.stack([tried[at][0][:, a] for a, at in enumerate(best)], 1)
    bias = np.array([tried[at][1][a] for a, at in enumerate(best)])
    size = training[0].proprio.shape[1]
    return Line(
        proprio=weights[:size],
        instruction=weights[size:],
        bias=bias,
        penalty=np.asarray(_PENALTIES)[best],
        error=float(errors.min(0).mean()),
        mean_error=float(means.mean()),
    )


def feels_more(training: Sequence[EpisodeArrays]) -> bool:
    """Return whether more is felt than a car's own speed, in which no steering is."""
    return not set(training[0].proprio_names) <= set(CAR_PROPRIO)


def lies_on_line(training: Sequence[EpisodeArrays]) -> bool:
    """Return whether the teacher is better told by a line than by the mean action."""
    if not feels_more(training):
        return False
    line = fit_line(training)
    return line.error < line.mean_error


def error_of(
    episodes: Sequence[EpisodeArrays], told: Sequence[NDArray[np.floating[Any]]]
) -> float:
    """Return the mean absolute error of actions [T, A] over all valid steps."""
    pairs = zip(told, episodes, strict=True)
    off = np.concatenate([np.abs(t - e.action)[e.valid] for t, e in pairs])
    return float(off.mean()) if off.size else float("inf")


def _senses(episode: EpisodeArrays) -> Array:
    """Return float64 [T, P + n]: proprioception, then the instruction's buckets."""
    nothing = np.zeros((len(episode), 0))
    told = episode.extra.get(INSTRUCTION, nothing)
    return np.concatenate([episode.proprio, told], 1).astype(np.float64)


def _known(training: Sequence[EpisodeArrays]) -> Array:
    return np.concatenate([_senses(e)[e.valid] for e in training])


def _scale(training: Sequence[EpisodeArrays]) -> Array:
    """Return what each sense [P + n] is times; 0 for what never moves."""
    x, size = _known(training), training[0].proprio.shape[1]
    half = np.ones(x.shape[1])
    half[:size] = (x[:, :size].max(0) - x[:, :size].min(0)) / 2
    return np.where(half > _STILL, 1.0 / np.maximum(half, _STILL), 0.0)


def _solve(
    training: Sequence[EpisodeArrays], scale: Array, penalty: float
) -> tuple[Array, Array]:
    """Return weights [P + n, A] and the bias [A], which is not penalised."""
    x = _known(training)
    y = np.concatenate([e.action[e.valid] for e in training]).astype(np.float64)
    mean, target = x.mean(0), y.mean(0)
    z = (x - mean) * scale
    gram = z.T @ z + penalty * np.eye(z.shape[1])
    weights = np.linalg.solve(gram, z.T @ (y - target)) * scale[:, None]
    return weights, target - mean @ weights


def _off(judges: Sequence[EpisodeArrays], weights: Array, bias: Array) -> Array:
    """Return the mean absolute error of each component [A]."""
    known = [
        np.abs(np.clip(_senses(e) @ weights + bias, -1.0, 1.0) - e.action)[e.valid]
        for e in judges
    ]
    error: Array = np.concatenate(known).mean(0)
    return error
