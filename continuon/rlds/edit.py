"""Cut recordings: new files beside the old ones, no picture encoded again.

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
from continuon.rlds.edited import derived, frame_stamps, gaps, in_time, specs_of
from continuon.rlds.episode import RGB, EndReason
from continuon.rlds.layout import Opening, clock_channel
from continuon.rlds.plan_edit import cut_plan
from continuon.rlds.plan_record import holds_plan, plan_in, record_plan
from continuon.rlds.recorder import RecordingSummary
from continuon.rlds.recording import Recording, Stream
from continuon.rlds.rewrite import write_recording
from continuon.rlds.sample_queue import Sample
from continuon.rlds.steps import nearest

__all__ = ["Span", "cut_points", "cut_recording", "first_frame_ns"]


_EVER = 1 << 62


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
    stamps = frame_stamps(recording)
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
    return int(frame_stamps(recording)[0])


def cut_recording(
    recording: Recording, span: Span, directory: Path, *, episode_id: str
) -> RecordingSummary:
    """Write the part of a recording within a span, as an episode of its own.

    It ends as `slice`, unless the span holds the end of the whole: what was recorded
    after the last frame then belongs to it, and what was before the first frame to the
    part with that one. Of a recording that holds the plan's steps these are cut, each
    with all that belongs to it.

    Raises:
        DataError: no frame lies in it, or such an episode is there.
        OSError: the disk refused; nothing remains then.
    """
    stamps = frame_stamps(recording)
    inside = (stamps >= span.start_ns) & (stamps < span.stop_ns)
    if not inside.any():
        raise DataError(
            "E-RLDS-EDIT-004",
            "no frame lies in this part",
            where=recording.path,
            seen=f"{(span.start_ns - int(stamps[0])) / 1e9:.3f} s to "
            f"{(span.stop_ns - int(stamps[0])) / 1e9:.3f} s",
        )
    metadata = derived(recording, episode_id, "cut", span.start_ns - int(stamps[0]))
    if holds_plan(recording):
        part = cut_plan(
            plan_in(recording),
            start_ns=span.start_ns,
            stop_ns=span.stop_ns,
            metadata=metadata,
        )
        return record_plan(part, directory)[0]
    reaches_end = span.stop_ns > int(stamps[-1])
    whole_ends = Span(
        -_EVER if span.start_ns <= int(stamps[0]) else span.start_ns,
        _EVER if reaches_end else span.stop_ns,
    )
    rows = {
        name: _with_frames(s, stamps, inside)
        if s.spec.is_image and name != RGB
        else _rows(s, whole_ends)
        for name, s in recording.streams.items()
    }
    return write_recording(
        directory,
        Opening(metadata, specs_of(recording)),
        _samples(recording, rows, 0),
        end_reason=recording.end_reason if reaches_end else EndReason.SLICE,
        drops={name: gaps(recording.streams[name], rows[name]) for name in rows},
    )


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


def _samples(
    recording: Recording, rows: Mapping[str, NDArray[np.int64]], shift_ns: int
) -> Iterator[Sample]:
    """Yield samples by time, numbers from 0 with their gaps; clock offsets first."""
    clock = clock_channel(specs_of(recording))
    for number, offset in enumerate(recording.clock_offsets):
        moved = attrs.evolve(offset, measured_at_ns=offset.measured_at_ns + shift_ns)
        yield Sample(clock, number, moved.measured_at_ns, None, moved)
    streams = [(i, recording.streams[n], rows[n]) for i, n in enumerate(rows, start=1)]
    yield from in_time([(*one, shift_ns, 0) for one in streams])
