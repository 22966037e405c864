"""What any policy must beat: the mean action, and ridge regression on grey images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.learn.data import EpisodeArrays
from continuon.learn.refusals import no_valid_step

__all__ = [
    "RIDGE_HEIGHT",
    "RIDGE_WIDTH",
    "MeanBaseline",
    "RidgeBaseline",
    "fit_mean",
    "fit_ridge",
    "grey_features",
]

RIDGE_HEIGHT, RIDGE_WIDTH = 20, 40
_LAMBDAS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_LUMA = np.array([0.299, 0.587, 0.114])


@attrs.frozen(eq=False)
class MeanBaseline:
    """Always the training set's mean action, float64 [A]."""

    mean: NDArray[np.float64]

    def predict(self, episode: EpisodeArrays) -> NDArray[np.float32]:
        """Return float32 [T, A]."""
        return np.tile(self.mean.astype(np.float32), (len(episode), 1))


@attrs.frozen(eq=False)
class RidgeBaseline:
    """A linear map of one grey image, clipped to [-1, 1]; it has no memory.

    Attributes:
        weights: float64 [features, A]; centre [features]; bias [A].
        penalty: the lambda that a slice of the training set chose.
    """

    weights: NDArray[np.float64]
    centre: NDArray[np.float64]
    bias: NDArray[np.float64]
    penalty: float

    def predict(self, episode: EpisodeArrays) -> NDArray[np.float32]:
        """Return float32 [T, A]."""
        features = grey_features(episode.images) - self.centre
        raw = features @ self.weights + self.bias
        return np.clip(raw, -1.0, 1.0).astype(np.float32)


def grey_features(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return [T, 800] from uint8 [T, h, w, 3]: luma in 0..1, box mean to 20 x 40.

    An image that is smaller than that is sampled to its nearest pixels.
    """
    from continuon.hope.target import box_mean_matrix

    height, width = images.shape[1:3]
    rows = box_mean_matrix(RIDGE_HEIGHT, height).astype(np.float64)
    columns = box_mean_matrix(RIDGE_WIDTH, width).astype(np.float64)
    grey = images @ (_LUMA / 255.0)
    small = np.einsum("rh,thw,cw->trc", rows, grey, columns, optimize=True)
    flat: NDArray[np.float64] = small.reshape(len(images), -1)
    return flat


def fit_mean(training: Sequence[EpisodeArrays]) -> MeanBaseline:
    """Return the mean over all valid steps."""
    return MeanBaseline(_actions(training).mean(0))


def fit_ridge(training: Sequence[EpisodeArrays]) -> RidgeBaseline:
    """Solve the normal equations; the bias is not penalised.

    Lambda is the one of seven with the least absolute error on the last fifth of the
    training steps, after which all training steps are used. One episode's features
    are in memory at a time.
    """
    pairs = [(e, e.action[e.valid].astype(np.float64)) for e in training]
    total = len(_actions(training))
    first = max(1, int(total * 0.8))
    early, late = _Sums(), _Sums()
    seen = 0
    for episode, actions in pairs:
        features = grey_features(episode.images)[episode.valid]
        split = min(max(first - seen, 0), len(features))
        early.add(features[:split], actions[:split])
        late.add(features[split:], actions[split:])
        seen += len(features)
    penalty = _LAMBDAS[-1]
    if late.count:
        trials = [early.solve(penalty) for penalty in _LAMBDAS]
        penalty = _LAMBDAS[int(np.argmin(_errors(trials, pairs, first)))]
    early.merge(late)
    return early.solve(penalty)


def _errors(
    trials: Sequence[RidgeBaseline],
    pairs: Sequence[tuple[EpisodeArrays, NDArray[np.float64]]],
    first: int,
) -> NDArray[np.float64]:
    """Return the absolute error of each trial, summed over valid steps from `first`."""
    errors, seen = np.zeros(len(trials)), 0
    for episode, actions in pairs:
        split = min(max(first - seen, 0), len(actions))
        seen += len(actions)
        if split == len(actions):
            continue
        features = grey_features(episode.images)[episode.valid][split:]
        for index, trial in enumerate(trials):
            guess = (features - trial.centre) @ trial.weights + trial.bias
            errors[index] += np.abs(np.clip(guess, -1.0, 1.0) - actions[split:]).sum()
    return errors


@attrs.define(eq=False)
class _Sums:
    """What the normal equations need of all steps, whose features need not be kept.

    Centred by the mean so far (Chan, Golub and LeVeque 1979), so no digit is lost.
    """

    count: int = 0
    centre: Any = 0.0
    bias: Any = 0.0
    gram: Any = 0.0
    cross: Any = 0.0

    def add(self, features: NDArray[np.float64], actions: NDArray[np.float64]) -> None:
        if len(features):
            centre, bias = features.mean(0), actions.mean(0)
            X, y = features - centre, actions - bias
            self.merge(_Sums(len(X), centre, bias, X.T @ X, X.T @ y))

    def merge(self, other: _Sums) -> None:
        if not other.count:
            return
        count = self.count + other.count
        apart, moved = other.centre - self.centre, other.bias - self.bias
        weight = self.count * other.count / count
        self.gram = self.gram + other.gram + weight * np.outer(apart, apart)
        self.cross = self.cross + other.cross + weight * np.outer(apart, moved)
        self.centre = self.centre + apart * (other.count / count)
        self.bias = self.bias + moved * (other.count / count)
        self.count = count

    def solve(self, penalty: float) -> RidgeBaseline:
        gram = self.gram + penalty * np.eye(len(self.centre))
        return RidgeBaseline(
            np.linalg.solve(gram, self.cross), self.centre, self.bias, penalty
        )


def _actions(training: Sequence[EpisodeArrays]) -> NDArray[np.float64]:
    parts = [episode.action[episode.valid] for episode in training]
    if not any(len(part) for part in parts):
        raise no_valid_step(training)
    return np.concatenate(parts).astype(np.float64)
