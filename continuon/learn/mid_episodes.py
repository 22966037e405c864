"""The latest episodes that the Mid loop may learn from, and what was left out and why.

A policy's own driving teaches it nothing but itself, so an episode that a policy drove
is left out unless it is asked for. One damaged file must not stop every later run: it
is left where it lies, named and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from continuon.errors import DataError
from continuon.learn.data import EpisodeArrays, load_arrays
from continuon.learn.refusals import check_like
from continuon.learn.senses import Senses

if TYPE_CHECKING:
    from continuon.hope import HopeConfig

__all__ = ["MAX_EPISODES", "MAX_STEPS", "Latest", "latest_episodes", "taught_places"]

MAX_EPISODES = 256
MAX_STEPS = 20_000
"""Of the newest episodes together: about 200 MB of small images."""


@attrs.frozen(kw_only=True, eq=False)
class Latest:
    """What was found.

    Attributes:
        episodes: to learn from, oldest first.
        own: ids of those that a policy drove, left out.
        driven: ids of those among `episodes` that a policy drove.
        damaged: what is wrong with each file that could not be read, by its name.
    """

    episodes: tuple[EpisodeArrays, ...]
    own: tuple[str, ...]
    damaged: dict[str, str]
    driven: frozenset[str] = frozenset()

    @property
    def left_out(self) -> tuple[str, ...]:
        """A sentence for each kind of what was left out."""
        lines = []
        if self.own:
            lines.append(
                f"{len(self.own)} episodes were driven by a policy and are not learnt "
                f"from: {', '.join(self.own)}"
            )
        if self.damaged:
            told = "; ".join(f"{name}: {why}" for name, why in self.damaged.items())
            lines.append(f"{len(self.damaged)} recordings are set aside: {told}")
        return tuple(lines)


def latest_episodes(
    folder: Path,
    config: HopeConfig,
    *,
    check: Callable[[], None],
    with_own: bool = False,
) -> Latest:
    """Return the newest episodes; a robot's whole life is never read.

    Args:
        folder: of recordings.
        config: of the policy, which says what is read.
        check: called before each file; what it raises ends the search.
        with_own: learn from what a policy drove, too.

    Raises:
        DataError: nothing here is a recording; E-LEARN-DATA-005, the sound ones are
            not of one kind; E-LEARN-MID-008, all that is here is set aside.
    """
    from continuon.rlds.recording import read_metadata
    from continuon.rlds.steps import recordings_in
    from continuon.rlds.vocabulary import ActionSource

    found: list[EpisodeArrays] = []
    own: list[str] = []
    driven: set[str] = set()
    damaged: dict[str, str] = {}
    for path in reversed(recordings_in(folder)[-MAX_EPISODES:]):
        check()
        try:
            metadata = read_metadata(path)
            if metadata.action_source is ActionSource.VLA_POLICY:
                if not with_own:
                    own.append(metadata.episode_id)
                    continue
                driven.add(metadata.episode_id)
            found += load_arrays(
                path,
                image_height=config.image_height,
                image_width=config.image_width,
                proprio=config.proprio,
                senses=Senses.of(config),
            )
        except DataError as error:
            damaged[path.name] = f"{error.code} {error.what}"
        if sum(map(len, found)) >= MAX_STEPS:
            break
    if damaged and not (found or own):
        name, why = next(reversed(damaged.items()))
        raise DataError(
            "E-LEARN-MID-008",
            "no recording here is sound and holds what the policy needs",
            where=folder,
            seen=f"{len(damaged)} set aside; {name}: {why}",
            hint="name the policy of these recordings by --checkpoint, or the folder "
            "of this policy's recordings by --rlds-dir",
        )
    found.reverse()
    check_like(found)
    return Latest(
        episodes=tuple(found),
        own=tuple(reversed(own)),
        damaged=damaged,
        driven=frozenset(driven),
    )


def taught_places(path: Path) -> list[int]:
    """Return the places, counted from 0, of the episodes that no policy drove.

    Args:
        path: a folder of recordings, one recording, or a TFDS directory.

    Raises:
        DataError: nothing is there; E-LEARN-MID-009, a policy drove all of them.
    """
    from continuon.rlds.steps import read_steps
    from continuon.rlds.vocabulary import ActionSource

    sources = [steps.metadata.action_source for steps in read_steps(path)]
    places = [i for i, s in enumerate(sources) if s is not ActionSource.VLA_POLICY]
    if sources and not places:
        raise DataError(
            "E-LEARN-MID-009",
            "a policy drove every episode here, and would judge itself",
            where=path,
            seen=f"{len(sources)} episodes",
            allowed="episodes that a person or an expert drove",
            hint="record some: `continuon record`",
        )
    return places
