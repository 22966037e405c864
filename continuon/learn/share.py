"""Which episodes a host of many reads: it decodes its own share, and what is held out.

Every host walks the recordings' headers in one order, so all agree on the split, the
components and the number of episodes without a word between them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.learn.data import (
    EpisodeArrays,
    digest_of,
    felt_names,
    load_arrays,
    require_count,
    shared_names,
    split_by_time,
)
from continuon.learn.levels import count_levels, told_by_levels
from continuon.learn.senses import NO_SENSES, Senses

__all__ = ["Share", "load_share", "whole_share"]


@attrs.frozen(kw_only=True, eq=False)
class Share:
    """The episodes of one host.

    Attributes:
        training: this host's own episodes, every `hosts`-th of all.
        held_out: the same on every host.
        episode_ids: of all hosts' training episodes, in order.
        host, hosts: which of how many.
    """

    training: tuple[EpisodeArrays, ...]
    held_out: tuple[EpisodeArrays, ...]
    episode_ids: tuple[str, ...]
    host: int = 0
    hosts: int = 1

    def action_levels(self) -> tuple[str, ...]:
        """Return the components that all hosts' teachers set by keys; all must ask.

        See `count_levels`.
        """
        counts = count_levels(self.training)
        if self.hosts > 1:
            counts = _gathered(counts).sum(0)
        return told_by_levels(self.training[0].action_names, counts)

    def training_digest(self) -> str:
        """Return the digest of what all hosts learn from; all hosts must ask."""
        return self._of_all(digest_of(self.training))

    def data_digest(self) -> str:
        """Return the digest of that and of what is held out; all hosts must ask."""
        return self._of_all(digest_of((*self.training, *self.held_out)))

    def _of_all(self, own: str) -> str:
        if self.hosts == 1:
            return own
        every = _gathered(np.frombuffer(bytes.fromhex(own), np.uint8))
        return hashlib.sha256(np.asarray(every, np.uint8).tobytes()).hexdigest()


def _gathered(own: NDArray[Any]) -> NDArray[Any]:
    """Return the arrays of all hosts, stacked in their order."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(own))


def whole_share(arrays: Sequence[EpisodeArrays], holdout: float) -> Share:
    """Return all episodes, split by time, for a single host."""
    training, held_out = split_by_time(arrays, holdout)
    names = tuple(episode.episode_id for episode in training)
    return Share(training=training, held_out=held_out, episode_ids=names)


def load_share(
    path: Path,
    *,
    host: int,
    hosts: int,
    holdout: float,
    minimum_episodes: int,
    image_height: int,
    image_width: int,
    proprio: Sequence[str] | None = None,
    senses: Senses = NO_SENSES,
    scratch: Path | None = None,
) -> Share:
    """Decode this host's episodes and the held-out ones; see `load_arrays`.

    Raises:
        DataError: E-LEARN-FEW-001; E-LEARN-SHARE-001, a host would have nothing to
            learn from; and what `load_arrays` raises.
    """
    from continuon.learn.leak import check_leak
    from continuon.rlds.steps import read_steps

    named = proprio is not None
    heads = [(s.metadata.episode_id, felt_names(s)) for s in read_steps(path)]
    require_count(len(heads), minimum_episodes)
    if proprio is None:
        proprio = shared_names([felt for _, felt in heads])
    training, held_out = split_by_time(range(len(heads)), holdout)
    if len(training) < hosts:
        raise DataError(
            "E-LEARN-SHARE-001",
            "there are fewer training episodes than hosts",
            where=path,
            seen=f"{len(training)} for {hosts}",
            allowed="one a host or more",
            hint="use fewer hosts, or record more",
        )
    own = set(training[host::hosts])
    arrays = load_arrays(
        path,
        image_height=image_height,
        image_width=image_width,
        proprio=proprio,
        only=own | set(held_out),
        senses=senses,
        scratch=scratch,
    )
    if not named:
        # all hosts hold the held-out episodes, so that all refuse or none
        check_leak(arrays if hosts == 1 else arrays[len(own) :])
    return Share(
        training=arrays[: len(own)],
        held_out=arrays[len(own) :],
        episode_ids=tuple(heads[index][0] for index in training),
        host=host,
        hosts=hosts,
    )
