"""Cut and join recordings: new files beside the old ones, no picture encoded again.

A cut keeps the command that was in force when it begins and the state on either side of
it, so that its steps are those of the whole. What was made from what stands in the
provenance of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError, UsageError
from continuon.rlds.episode import RGB, EndReason, EpisodeMetadata, StreamSpec
from continuon.rlds.layout import Opening, clock_channel
from continuon.rlds.plan_edit import cut_plan, join_plans
from continuon.rlds.plan_record import holds_plan, plan_in, record_plan
from continuon.rlds.recorder import RecordingSummary
from continuon.rlds.recording import Recording, Stream
from continuon.rlds.rewrite import write_recording
from continuon.rlds.sample_queue import Sample
from continuon.rlds.setup import setup_differences
from continuon.rlds.steps import nearest
from continuon.rlds.stream_spec import STEPS

__all__ = ["Span", "cut_points", "cut_recording", "first_frame_ns", "join_recordings"]


_MS = 1_000_000
_ALSO = ("environment_id", "task", "owner", "share", "safety")
"""What two recordings share, beside their setup, to be one episode."""


@attrs.frozen
class Span:
    """A part of a recording in host time: `start_ns` is in it, `stop_ns` is not."""

    start_ns: int
    stop_ns: int


def cut_points(
    recording: Recording,
    *,
    every_s: float | None = None,
    at_s: Sequence[float] = (),
) -> tuple[Span, ...]:
    """Return the parts of a recording, cut at times since its first frame.

    Raises:
        DataError: it has no frames.
        UsageError: neither or both given, a time outside, or times out of order.
    """
    stamps = _frames(recording)
    first, end = int(stamps[0]), int(stamps[-1]) + 1
    span_s = (end - first) / 1e9
    if (every_s is None) == (not at_s):
        raise UsageError(
            "E-RLDS-EDIT-001", "a split is either every so many seconds or at times"
        )
    if every_s is not None:
        if not every_s > 0:
            raise UsageError(
                "E-RLDS-EDIT-002",
                "parts have a length above 0 s",
                seen=every_s,
                allowed=f"0 to {span_s:.3f} s",
            )
        if span_s / every_s > len(stamps):
            raise UsageError(
                "E-RLDS-EDIT-011",
                "there are fewer frames than parts of this length",
                seen=f"{every_s} s",
                allowed=f"{len(stamps)} frames in {span_s:.3f} s",
            )
        at_s = np.arange(every_s, span_s, every_s).tolist()
    times = [0.0, *at_s, span_s]
    if any(not a < b for a, b in pairwise(times)):
        raise UsageError(
            "E-RLDS-EDIT-003",
            "cuts lie within the episode, one after the other",
            seen=list(at_s),
            allowed=f"above 0 and below {span_s:.3f} s",
        )
    edges = [first, *(first + round(at * 1e9) for at in at_s), end]
    return tuple(Span(a, b) for a, b in pairwise(edges))


def first_frame_ns(recording: Recording) -> int:
    """Return the time of the first frame, from which cuts are counted.

    Raises:
        DataError: it has no frames.
    """
    return int(_frames(recording)[0])


def cut_recording(
    recording: Recording, span: Span, directory: Path, *, episode_id: str
) -> RecordingSummary:
    """Write the part of a recording within a span, as an episode of its own.

    It ends as `slice`, unless the span holds the end of the whole. Of a recording that
    holds the plan's steps these are cut, each with all that belongs to it.

    Raises:
        DataError: no frame lies in it, or such an episode is there.
        OSError: the disk refused; nothing remains then.
    """
    stamps = _frames(recording)
    inside = (stamps >= span.start_ns) & (stamps < span.stop_ns)
    if not inside.any():
        raise DataError(
            "E-RLDS-EDIT-004",
            "no frame lies in this part",
            where=recording.path,
            seen=f"{(span.start_ns - int(stamps[0])) / 1e9:.3f} s to "
            f"{(span.stop_ns - int(stamps[0])) / 1e9:.3f} s",
        )
    metadata = _derived(recording, episode_id, "cut", span.start_ns - int(stamps[0]))
    if holds_plan(recording):
        part = cut_plan(
            plan_in(recording),
            start_ns=span.start_ns,
            stop_ns=span.stop_ns,
            metadata=metadata,
        )
        return record_plan(part, directory)[0]
    rows = {
        name: _with_frames(s, stamps, inside)
        if s.spec.is_image and name != RGB
        else _rows(s, span)
        for name, s in recording.streams.items()
    }
    reaches_end = span.stop_ns > int(stamps[-1])
    return write_recording(
        directory,
        Opening(metadata, _specs(recording)),
        _samples(recording, rows, 0),
        end_reason=recording.end_reason if reaches_end else EndReason.SLICE,
        drops={name: _gaps(recording.streams[name], rows[name]) for name in rows},
    )


def join_recordings(
    recordings: Sequence[Recording], directory: Path, *, episode_id: str
) -> RecordingSummary:
    """Write recordings of one setup, in the order given, as one episode.

    Times stay as they are where each starts after the one before; else they are moved
    by what the wall clock says lies between.

    Steps of the plan move by whole milliseconds, their last time unit.

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
    metadata = _derived(first, episode_id, "join", 0)
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
        Opening(metadata, _specs(first)),
        _all_samples(recordings, shifts),
        end_reason=recordings[-1].end_reason,
        drops={
            name: sum(r.drops.get(name, 0) for r in recordings)
            for name in first.streams
        },
    )


def _frames(recording: Recording) -> NDArray[np.int64]:
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


def _specs(recording: Recording) -> tuple[StreamSpec, ...]:
    return tuple(stream.spec for stream in recording.streams.values())


def _rows(stream: Stream, span: Span) -> NDArray[np.int64]:
    """Return the rows in a span; of numbers also the one before and the one behind."""
    order = np.argsort(stream.capture_ns, kind="stable")
    times = stream.capture_ns[order]
    low = int(np.searchsorted(times, span.start_ns, side="left"))
    high = int(np.searchsorted(times, span.stop_ns, side="left"))
    if stream.spec.is_vector:
        low, high = max(low - 1, 0), min(high + 1, len(times))
    return np.sort(order[low:high])


def _with_frames(
    stream: Stream, stamps: NDArray[np.int64], inside: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the pictures that go with the frames inside: nearest to one, or its."""
    if not len(stream):
        return np.empty(0, np.int64)
    frame, _ = nearest(stream.capture_ns, stamps)
    used, _ = nearest(stamps[inside], stream.capture_ns)
    return np.union1d(np.flatnonzero(inside[frame]), used).astype(np.int64)


def _gaps(stream: Stream, rows: NDArray[np.int64]) -> int:
    """Return how many samples the numbering of these rows lacks."""
    if not len(rows):
        return 0
    numbers = stream.sequence[rows]
    return int(numbers.max() - numbers.min()) + 1 - len(rows)


def _derived(
    recording: Recording, episode_id: str, how: str, later_ns: int
) -> EpisodeMetadata:
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


def _samples(
    recording: Recording, rows: Mapping[str, NDArray[np.int64]], shift_ns: int
) -> Iterator[Sample]:
    """Yield samples by time, numbers from 0 with their gaps; clock offsets first."""
    clock = clock_channel(_specs(recording))
    for number, offset in enumerate(recording.clock_offsets):
        moved = attrs.evolve(offset, measured_at_ns=offset.measured_at_ns + shift_ns)
        yield Sample(clock, number, moved.measured_at_ns, None, moved)
    streams = [(i, recording.streams[n], rows[n]) for i, n in enumerate(rows, start=1)]
    yield from _in_time([(*one, shift_ns, 0) for one in streams])


_Part = tuple[int, Stream, NDArray[np.int64], int, int]
"""Channel, stream, its rows, how far its times move, and its first number."""


def _in_time(parts: Sequence[_Part]) -> Iterator[Sample]:
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


def _all_samples(
    recordings: Sequence[Recording], shifts: Sequence[int]
) -> Iterator[Sample]:
    base = dict.fromkeys(recordings[0].streams, 0)
    clock, offsets = clock_channel(_specs(recordings[0])), 0
    for recording, shift in zip(recordings, shifts, strict=True):
        for offset in recording.clock_offsets:
            at = offset.measured_at_ns + shift
            moved = attrs.evolve(
                offset, measured_at_ns=at, offset_ns=offset.offset_ns + shift
            )
            yield Sample(clock, offsets, at, None, moved)
            offsets += 1
        parts = []
        for channel, (name, stream) in enumerate(recording.streams.items(), start=1):
            rows = np.arange(len(stream), dtype=np.int64)
            parts.append((channel, stream, rows, shift, base[name]))
            base[name] += len(stream) + _gaps(stream, rows)
        yield from _in_time(parts)


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
    """Return how far each recording's times move so that they follow each other."""
    spans = [_span(recording) for recording in recordings]
    shifts, end = [0], spans[0][1]
    for recording, (start, stop) in zip(recordings[1:], spans[1:], strict=True):
        shift = 0
        if start <= end:
            walls = (recordings[0].metadata, recording.metadata)
            apart = walls[1].start_wall_ns - walls[0].start_wall_ns
            shift = apart - (start - spans[0][0])
            known = all(wall.start_wall_ns for wall in walls)
            if not known or start + shift <= end:
                raise DataError(
                    "E-RLDS-EDIT-008",
                    "these recordings overlap in time, by their own and the wall clock",
                    where=recording.path,
                    hint="give them in the order in which they were recorded",
                )
        shifts.append(shift)
        end = stop + shift
    return shifts


def _span(recording: Recording) -> tuple[int, int]:
    if holds_plan(recording):  # a command that holds is older than its step
        stamps = _frames(recording)
        return int(stamps[0]), int(stamps[-1])
    times = [s.capture_ns for s in recording.streams.values() if len(s)]
    if not times:
        raise DataError(
            "E-RLDS-EDIT-009", "this recording holds no samples", where=recording.path
        )
    every = np.concatenate(times)
    return int(every.min()), int(every.max())
