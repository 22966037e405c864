"""What is wrong with episodes, told so that a person finds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from continuon.errors import DataError

if TYPE_CHECKING:
    from continuon.learn.data import EpisodeArrays

__all__ = ["check_like", "check_values", "no_valid_step"]


def check_values(episode: EpisodeArrays) -> None:
    """Check that state is finite, and each action of a valid step within [-1, 1].

    Raises:
        DataError: E-LEARN-DATA-002, naming the first value that is not.
    """
    action = np.where(episode.valid[:, None], episode.action, 0.0)
    for kind, values, names, off in (
        (
            "state",
            episode.proprio,
            episode.proprio_names,
            ~np.isfinite(episode.proprio),
        ),
        ("action", action, episode.action_names, ~(np.abs(action) <= 1.0)),
    ):
        if not off.any():
            continue
        step, column = np.argwhere(off)[0]
        raise DataError(
            "E-LEARN-DATA-002",
            f"a value of the {kind} is out of range or not finite",
            where=episode.episode_id,
            seen=f"{kind} {names[column]} is {values[step, column]:g} at step {step}",
            allowed="actions in [-1, 1]" if kind == "action" else "finite state",
            hint="scale what is commanded to [-1, 1] where it is recorded, and record "
            "or import it again"
            if kind == "action"
            else "name the state to feed by `--state`",
        )


def check_like(episodes: Sequence[EpisodeArrays]) -> None:
    """Check that all episodes have one image size and one meaning of each column.

    Raises:
        DataError: E-LEARN-DATA-005, two episodes differ.
    """
    for episode in episodes[1:]:
        told = _differ(episode, episodes[0])
        if told:
            raise DataError(
                "E-LEARN-DATA-005",
                "the episodes are not of one kind",
                where=episode.episode_id,
                seen="; ".join(here for here, _ in told),
                allowed="; ".join(there for _, there in told),
                hint="learn from one kind at a time: move the others to another folder",
            )


def no_valid_step(episodes: Sequence[EpisodeArrays]) -> DataError:
    """Return the error of episodes that hold nothing to learn from."""
    steps = sum(map(len, episodes))
    return DataError(
        "E-LEARN-DATA-006",
        "no step of these episodes can be learned from",
        where=episodes[0].episode_id if episodes else None,
        seen=f"0 of {steps} steps in {len(episodes)} episodes",
        allowed="steps whose image, state and action are all there and finite",
        hint="`continuon episodes validate` says why they are masked",
    )


def _differ(one: EpisodeArrays, other: EpisodeArrays) -> list[tuple[str, str]]:
    """Return (of one, of the other) for each thing in which the two differ."""
    told = []
    for kind, here, there in (
        ("action", one.action_names, other.action_names),
        ("state", one.proprio_names, other.proprio_names),
    ):
        if here != there:
            told.append((_names(kind, here, there), _names(kind, there, here)))
    shapes = (
        {"image": e.images.shape[1:]} | {n: v.shape[1:] for n, v in e.extra.items()}
        for e in (one, other)
    )
    here_shapes, there_shapes = shapes
    if here_shapes != there_shapes:
        told.append((str(here_shapes), str(there_shapes)))
    return told


def _names(kind: str, own: Sequence[str], others: Sequence[str]) -> str:
    """Return what is this side's alone, so that long lists are not cut before it."""
    if set(own) == set(others):
        return f"{kind}s {', '.join(own)}"
    alone = [name for name in own if name not in others]
    count = f"{len(own)} {kind}s"
    return f"{count}, of them here alone {', '.join(alone)}" if alone else count
