"""Join recordings of one setup into one: no picture encoded again, no sample twice.

A cut keeps numbers from beyond its ends, so that its steps are those of the whole; two
neighbouring cuts therefore hold the same few samples. A join takes each once, and the
parts of a split give the whole again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import ClockOffset
from continuon.errors import DataError, UsageError
from continuon.rlds.edited import (
    Part,
    derived,
    frame_stamps,
    gaps,
    in_time,
    specs_of,
)
from continuon.rlds.layout import Opening, clock_channel
from continuon.rlds.plan_edit import join_plans
from continuon.rlds.plan_record import holds_plan, plan_in, record_plan
from continuon.rlds.recorder import RecordingSummary
from continuon.rlds.recording import Recording, Stream
from continuon.rlds.rewrite import write_recording
from continuon.rlds.sample_queue import Sample
from continuon.rlds.setup import setup_differences

__all__ = ["join_recordings"]

_MS = 1_000_000
_NEVER = (1 << 63) - 1
_ALSO = ("environment_id", "task", "owner", "share", "safety")
"""What two recordings share, beside their setup, to be one episode."""


def join_recordings(
    recordings: Sequence[Recording], directory: Path, *, episode_id: str
) -> RecordingSummary:
    """Write recordings of one setup, in the order given, as one episode.

    Times stay as they are where the frames of each begin after those of the one before;
    else they are moved by what the wall clock says lies between. A sample that two of
    them hold, as neighbouring cuts do, is taken once. Steps of the plan move by whole
    milliseconds, their last time unit.

    Raises:
        DataError: another setup or origin, times that overlap, or such an episode is
            there.
        UsageError: fewer than two.
        OSError: the disk refused; nothing remains then.
    """
    if len(recordings) < 2:
        raise UsageError(
            "E-RLDS-EDIT-005", "it takes two to join", seen=len(recordings)
        )
    first = recordings[0]
    for other in recordings:
        _check_setup(first, other)
    shifts = _shifts(recordings)
    metadata = derived(first, episode_id, "join", 0)
    sources = {"joined_from": " ".join(r.metadata.episode_id for r in recordings)}
    metadata = attrs.evolve(metadata, provenance={**metadata.provenance, **sources})
    if holds_plan(first):
        whole = join_plans(
            [plan_in(recording) for recording in recordings],
            shifts_ns=[-(-shift // _MS) * _MS for shift in shifts],
            metadata=metadata,
        )
        return record_plan(whole, directory)[0]
    return write_recording(
        directory,
        Opening(metadata, specs_of(first)),
        _samples(recordings, shifts),
        end_reason=recordings[-1].end_reason,
        drops={
            name: sum(r.drops.get(name, 0) for r in recordings)
            for name in first.streams
        },
    )


def _samples(
    recordings: Sequence[Recording], shifts: Sequence[int]
) -> Iterator[Sample]:
    parts: list[Part] = []
    for channel, name in enumerate(recordings[0].streams, start=1):
        base, rows_of = 0, _rows_once(recordings, shifts, name)
        for recording, shift, rows in zip(recordings, shifts, rows_of, strict=True):
            stream = recording.streams[name]
            parts.append((channel, stream, rows, shift, base))
            base += len(rows) + gaps(stream, rows)
    yield from _offsets(recordings, shifts)
    yield from in_time(parts)


def _rows_once(
    recordings: Sequence[Recording], shifts: Sequence[int], name: str
) -> list[NDArray[np.int64]]:
    """Return for each recording the rows of a stream that none before it has.

    Raises:
        DataError: what is left begins before what was taken ends.
    """
    times = [
        r.streams[name].capture_ns + shift
        for r, shift in zip(recordings, shifts, strict=True)
    ]
    starts = [int(t.min(initial=_NEVER)) for t in times]
    taken: Counter[Hashable] = Counter()
    kept, end = [], -_NEVER
    for place, recording in enumerate(recordings):
        stream, at = recording.streams[name], times[place]
        once = np.ones(len(stream), np.bool_)
        seen: Counter[Hashable] = Counter()
        for row in np.flatnonzero(at <= end).tolist():
            key = _key(stream, row, int(at[row]))
            seen[key] += 1
            once[row] = seen[key] > taken[key]
        rows = np.flatnonzero(once).astype(np.int64)
        if len(rows) and int(at[rows].min()) < end:
            raise _overlap(recording, name)
        kept.append(rows)
        later = min(starts[place + 1 :], default=_NEVER)
        for row in rows[at[rows] >= later].tolist():
            taken[_key(stream, row, int(at[row]))] += 1
        end = max(end, int(at.max(initial=end)))
    return kept


def _key(stream: Stream, row: int, at_ns: int) -> Hashable:
    """Return what makes a sample the same in two recordings: its times and content."""
    device_ns = int(stream.device_ns[row] - stream.capture_ns[row])
    if stream.spec.is_vector:
        return at_ns, device_ns, stream.vectors[row].tobytes()
    return at_ns, device_ns, stream.blob(row)


def _offsets(
    recordings: Sequence[Recording], shifts: Sequence[int]
) -> Iterator[Sample]:
    """Yield clock offsets in order, those that several recordings hold once."""
    clock = clock_channel(specs_of(recordings[0]))
    seen: set[ClockOffset] = set()
    for recording, shift in zip(recordings, shifts, strict=True):
        for offset in recording.clock_offsets:
            moved = attrs.evolve(
                offset,
                measured_at_ns=offset.measured_at_ns + shift,
                offset_ns=offset.offset_ns + shift,
            )
            if moved not in seen:
                yield Sample(clock, len(seen), moved.measured_at_ns, None, moved)
                seen.add(moved)


def _check_setup(first: Recording, other: Recording) -> None:
    """Refuse recordings that are not of one setup.

    Raises:
        DataError: names what differs.
    """
    one, two = first.metadata, other.metadata
    differ = setup_differences(first, other)
    differ += [name for name in _ALSO if getattr(one, name) != getattr(two, name)]
    if differ:
        raise DataError(
            "E-RLDS-EDIT-007",
            "these recordings are of different setups",
            where=other.path,
            seen=", ".join(differ),
            allowed=f"those of {one.episode_id}",
        )


def _shifts(recordings: Sequence[Recording]) -> list[int]:
    """Return how far each recording's times move so that their frames follow."""
    stamps = [frame_stamps(recording) for recording in recordings]
    shifts, end = [0], int(stamps[0][-1])
    for recording, frames in zip(recordings[1:], stamps[1:], strict=True):
        start, shift = int(frames[0]), 0
        if start <= end:
            walls = (recordings[0].metadata, recording.metadata)
            apart = walls[1].start_wall_ns - walls[0].start_wall_ns
            shift = apart - (start - int(stamps[0][0]))
            known = all(wall.start_wall_ns for wall in walls)
            if not known or start + shift <= end:
                raise _overlap(recording, "frames")
        shifts.append(shift)
        end = int(frames[-1]) + shift
    return shifts


def _overlap(recording: Recording, what: str) -> DataError:
    return DataError(
        "E-RLDS-EDIT-008",
        "these recordings overlap in time, by their own and the wall clock",
        where=recording.path,
        seen=what,
        hint="give them in the order in which they were recorded",
    )
