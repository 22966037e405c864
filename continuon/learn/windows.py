"""Batches of training windows: a pure function of the seed and the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.learn.augment import Window, augment
from continuon.learn.data import EpisodeArrays
from continuon.learn.recipe import Recipe
from continuon.learn.refusals import check_like, no_valid_step

__all__ = [
    "Batch",
    "OneBatch",
    "Sampler",
    "WindowSampler",
    "cut",
    "scrambled",
    "stack",
]


@attrs.frozen(eq=False)
class Batch:
    """Windows stacked on a leading batch axis: [B, T, ...], see `Window`."""

    images: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    action: NDArray[np.float32]
    valid: NDArray[np.bool_]
    follows: NDArray[np.bool_]
    extra: dict[str, NDArray[np.float32]] = attrs.field(factory=dict)


def cut(episode: EpisodeArrays, start: int, ticks: int) -> Window:
    """Return `ticks` steps of one episode; past its end the last is held, invalid."""
    index = np.arange(start, start + ticks)
    window = _take(episode, np.minimum(index, len(episode) - 1))
    follows = np.arange(ticks) > 0
    valid = window.valid & (index < len(episode))
    return attrs.evolve(window, valid=valid, follows=follows)


def scrambled(episode: EpisodeArrays, ticks: int, rng: np.random.Generator) -> Window:
    """Return steps of one episode drawn at random: the past tells nothing of them."""
    return _take(episode, rng.integers(0, len(episode), ticks))


def _take(episode: EpisodeArrays, index: NDArray[np.int64]) -> Window:
    return Window(
        episode.images[index],
        episode.proprio[index],
        episode.action[index],
        episode.valid[index],
        np.zeros(len(index), bool),
        {name: value[index] for name, value in episode.extra.items()},
    )


def stack(windows: Sequence[Window]) -> Batch:
    """Return the windows as one batch."""
    return Batch(
        np.stack([w.images for w in windows]),
        np.stack([w.proprio for w in windows]),
        np.stack([w.action for w in windows]),
        np.stack([w.valid for w in windows]),
        np.stack([w.follows for w in windows]),
        {name: np.stack([w.extra[name] for w in windows]) for name in windows[0].extra},
    )


class Sampler(Protocol):
    """Gives batch k for step k, the same one whenever it is asked."""

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        ...


@attrs.frozen
class OneBatch:
    """The same batch at every step: a network that cannot fit it cannot learn."""

    only: Batch

    def batch(self, step: int) -> Batch:  # noqa: ARG002
        """Return the one batch."""
        return self.only


@attrs.frozen
class WindowSampler:
    """Draws windows that lie inside one episode, episodes weighted by their steps.

    Batch k depends on the seed and on k alone, so a resumed run sees what an
    uninterrupted one would have seen.

    Raises:
        DataError: E-LEARN-DATA-006, no step of any episode is valid.
    """

    episodes: tuple[EpisodeArrays, ...]
    recipe: Recipe
    seed: int

    def __attrs_post_init__(self) -> None:
        check_like(self.episodes)
        if not any(episode.valid.any() for episode in self.episodes):
            raise no_valid_step(self.episodes)

    def places(self, step: int) -> list[tuple[int, int]]:
        """Return (episode index, first tick) of each window of a step."""
        return self._places(self._rng(step))

    def batch(self, step: int) -> Batch:
        """Return the augmented windows of a step."""
        rng = self._rng(step)
        return stack([self._window(place, rng) for place in self._places(rng)])

    def _rng(self, step: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, step])

    def _places(self, rng: np.random.Generator) -> list[tuple[int, int]]:
        ticks = np.array([len(episode) for episode in self.episodes], np.float64)
        size = self.recipe.batch_size
        chosen = rng.choice(len(self.episodes), size, p=ticks / ticks.sum())
        room = [max(len(self.episodes[i]) - self.recipe.window, 0) for i in chosen]
        return [
            (int(i), int(rng.integers(0, last + 1)))
            for i, last in zip(chosen, room, strict=True)
        ]

    def _window(self, place: tuple[int, int], rng: np.random.Generator) -> Window:
        episode, ticks = self.episodes[place[0]], self.recipe.window
        scramble = bool(rng.random() < self.recipe.scramble)
        return augment(
            scrambled(episode, ticks, rng)
            if scramble
            else cut(episode, place[1], ticks),
            self.recipe,
            rng,
            proprio_names=episode.proprio_names,
            action_names=episode.action_names,
            each=scramble,
        )
