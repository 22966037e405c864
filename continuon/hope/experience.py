"""What a robot has lived through: figures of use, and an episodic buffer of even odds.

The buffer holds the episodes whose ids have the smallest hashes. That is a sample
without replacement of all that were ever met, each as likely as any other, whatever
their order, and the sample of two robots together is that of their buffers together
(bottom-k sketch: Cohen and Kaplan, "Summarizing data using bottom-k sketches", PODC
2007).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import attrs

__all__ = [
    "BUFFER_SIZE",
    "NOTHING",
    "Experience",
    "Lived",
    "as_document",
    "from_document",
    "joined",
    "lived",
    "rank_of",
]

BUFFER_SIZE = 64


@attrs.frozen(kw_only=True)
class Lived:
    """One episode that went into a plane.

    Attributes:
        episode_id: as recorded.
        ticks: that went in.
        surprise: mean over them, half the mean squared error of the world model.
    """

    episode_id: str
    ticks: int
    surprise: float


@attrs.frozen(kw_only=True)
class Experience:
    """Figures of use.

    Attributes:
        buffer: at most `BUFFER_SIZE` episodes, a fair sample of all.
        taken: `rank_of` of every episode that went in, rising: none goes in twice.
        writes: how often each Slow level was written.
        surprise: mean over all ticks; 0 of none.
        ticks: of all episodes.
    """

    buffer: tuple[Lived, ...] = ()
    taken: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    surprise: float = 0.0
    ticks: int = 0

    def has(self, episode_id: str) -> bool:
        """Whether this episode went in."""
        return rank_of(episode_id) in self.taken


NOTHING = Experience()


def rank_of(episode_id: str) -> int:
    """Return 63 bits of the SHA-256 of an id."""
    told = hashlib.sha256(episode_id.encode()).digest()
    return int.from_bytes(told[:8], "big") >> 1


def lived(
    before: Experience,
    episode: Lived,
    *,
    periods: Sequence[int],
    size: int = BUFFER_SIZE,
) -> Experience:
    """Return the experience after one more episode.

    A level of period P is written before the ticks P, 2 P and so on of an episode.
    """
    writes = tuple(max(episode.ticks - 1, 0) // period for period in periods)
    one = Experience(
        buffer=(episode,),
        taken=(rank_of(episode.episode_id),),
        writes=writes,
        surprise=episode.surprise,
        ticks=episode.ticks,
    )
    return joined([before, one], size=size)


def joined(parts: Sequence[Experience], *, size: int = BUFFER_SIZE) -> Experience:
    """Return what several lived through together, in whatever order.

    An episode that two of them know is in the buffer once; its ticks count for each.
    """
    ticks = sum(part.ticks for part in parts)
    known = {entry.episode_id: entry for part in parts for entry in part.buffer}
    ordered = sorted(known.values(), key=lambda entry: rank_of(entry.episode_id))
    total = sum(part.ticks * part.surprise for part in parts)
    having = [part.writes for part in parts if part.writes]
    return Experience(
        buffer=tuple(ordered[:size]),
        taken=tuple(sorted({rank for part in parts for rank in part.taken})),
        writes=tuple(sum(column) for column in zip(*having, strict=True)),
        surprise=total / ticks if ticks else 0.0,
        ticks=ticks,
    )


def as_document(experience: Experience) -> dict[str, Any]:
    """Return plain JSON values."""
    return attrs.asdict(experience)


def from_document(values: dict[str, Any]) -> Experience:
    """Return what `as_document` gave."""
    return Experience(
        buffer=tuple(Lived(**entry) for entry in values["buffer"]),
        taken=tuple(values["taken"]),
        writes=tuple(values["writes"]),
        surprise=float(values["surprise"]),
        ticks=int(values["ticks"]),
    )
