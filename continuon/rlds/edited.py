"""What cuts and joins share: which samples, in which order, under whose name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.rlds.episode import RGB, EpisodeMetadata, StreamSpec
from continuon.rlds.plan_record import holds_plan
from continuon.rlds.recording import Recording, Stream
from continuon.rlds.sample_queue import Sample
from continuon.rlds.stream_spec import STEPS

__all__ = ["Part", "derived", "frame_stamps", "gaps", "in_time", "specs_of"]


def frame_stamps(recording: Recording) -> NDArray[np.int64]:
    """Return int64 [n], the times of its frames or of its plan steps, in order.

    Raises:
        DataError: it has no frames.
    """
    if holds_plan(recording):  # the first document is their head
        return np.sort(recording.streams[STEPS].capture_ns[1:])
    frames = recording.streams.get(RGB)
    if frames is None or not len(frames):
        raise DataError(
            "E-RLDS-STEPS-001",
            "the recording has no colour frames",
            where=recording.path,
            seen=sorted(recording.streams),
        )
    return np.sort(frames.capture_ns)


def specs_of(recording: Recording) -> tuple[StreamSpec, ...]:
    """Return what its streams are, in the order of their channels."""
    return tuple(stream.spec for stream in recording.streams.values())


def gaps(stream: Stream, rows: NDArray[np.int64]) -> int:
    """Return how many samples the numbering of these rows lacks."""
    if not len(rows):
        return 0
    numbers = stream.sequence[rows]
    return int(numbers.max() - numbers.min()) + 1 - len(rows)


def derived(
    recording: Recording, episode_id: str, how: str, later_ns: int
) -> EpisodeMetadata:
    """Return the metadata of what was made of a recording, `later_ns` into it."""
    metadata = recording.metadata
    start_ns = metadata.start_wall_ns
    facts = {"edit": how, "edited_from": metadata.episode_id}
    return attrs.evolve(
        metadata,
        episode_id=episode_id,
        start_wall_ns=start_ns + later_ns if start_ns else 0,
        duration_ns=None,
        provenance={**metadata.provenance, **facts},
    )


Part = tuple[int, Stream, NDArray[np.int64], int, int]
"""Channel, stream, its rows, how far its times move, and its first number."""


def in_time(parts: Sequence[Part]) -> Iterator[Sample]:
    """Yield the samples of all parts by time; of equal times in the order of parts."""
    keys = sorted(
        (int(stream.capture_ns[row]) + shift, place, row)
        for place, (_, stream, rows, shift, _) in enumerate(parts)
        for row in rows.tolist()
    )
    lowest = [
        int(s.sequence[rows].min()) if len(rows) else 0 for _, s, rows, _, _ in parts
    ]
    for at, place, row in keys:
        channel, stream, _, _, base = parts[place]
        payload = stream.vectors[row] if stream.spec.is_vector else stream.blob(row)
        own = int(stream.device_ns[row])
        device = None if own == int(stream.capture_ns[row]) else own
        number = int(stream.sequence[row]) - lowest[place] + base
        yield Sample(channel, number, at, device, payload)
