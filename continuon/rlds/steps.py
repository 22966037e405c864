"""Steps: one camera frame each, every other stream brought to the frame's time.

A state is interpolated between its two neighbours where these are less than 50 ms
apart, else taken from the nearest; an action is the one in force at the frame's time
(zero-order hold); depth is the nearest exposure. How far each sample was from its frame
is kept with the step, and a step whose samples are missing, stale or not finite is
masked by `valid`, never silently mended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import ClockOffset
from continuon.errors import DataError
from continuon.rlds.depth_picture import MAX_DEPTH_APART_NS
from continuon.rlds.episode import (
    ACTION,
    DEPTH,
    HOST_CLOCKS,
    RGB,
    STATE,
    EndReason,
    EpisodeMetadata,
    StreamSpec,
)
from continuon.rlds.layout import PART_SUFFIX, SUFFIX
from continuon.rlds.recording import (
    Recording,
    Stream,
    open_recording,
    read_metadata,
)

__all__ = [
    "MAX_BRACKET_NS",
    "MAX_STALE_NS",
    "UNKNOWN_NS",
    "EpisodeSteps",
    "align",
    "clock_uncertainty_ns",
    "nearest",
    "read_steps",
    "recordings_in",
    "steps_of",
]

MAX_BRACKET_NS = 50_000_000
"""State samples further apart than this are not interpolated between."""
MAX_STALE_NS = 200_000_000
"""A depth, state or action sample further from its frame than this is stale."""
UNKNOWN_NS = -(1 << 63)
"""Marks a skew that was not measured, because there was no sample."""


@attrs.frozen(eq=False, kw_only=True)
class EpisodeSteps:
    """An episode as aligned columns of T steps, images still encoded.

    Attributes:
        stamp_ns: int64 [T], capture time of the colour frame.
        image: T JPEGs.
        depth: T 16-bit PNGs, None where the episode has no depth.
        state: float32 [T, len(state_names)]; [T, 0] where there is no state.
        action: float32 [T, len(action_names)].
        skew_ns: int64 [T] by name: `depth`, `state` and `action` are sample time minus
            frame time of the nearest sample; `state_residual` is what is left after
            interpolation (the clocks' uncertainty); `action_age` is the time since the
            command in force was given, and `action_residual` the uncertainty with which
            it is known to be in force. `UNKNOWN_NS` where there is no sample.
        valid: bool [T]; False masks a step whose samples cannot be trusted.
        streams: what the recording's streams were: their clocks, rates and units; none
            where a data set of an older version does not say.
    """

    metadata: EpisodeMetadata
    stamp_ns: NDArray[np.int64]
    image: Sequence[bytes]
    depth: Sequence[bytes] | None
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    skew_ns: Mapping[str, NDArray[np.int64]]
    valid: NDArray[np.bool_]
    is_first: NDArray[np.bool_]
    is_last: NDArray[np.bool_]
    is_terminal: NDArray[np.bool_]
    source_path: Path
    end_reason: EndReason = EndReason.COMPLETE
    streams: tuple[StreamSpec, ...] = ()

    def __len__(self) -> int:
        return len(self.stamp_ns)

    @property
    def depth_unit_m(self) -> float | None:
        """Return the metres of one count of depth; None where it is not known."""
        if self.depth is None:
            return None
        units = (spec.depth_unit_m for spec in self.streams if spec.name == DEPTH)
        return next((unit for unit in units if unit > 0), None)


def align(recording: Recording) -> EpisodeSteps:
    """Return a recording's steps, one a colour frame.

    Raises:
        DataError: the recording has no colour frames or no actions at all.
    """
    frames = recording.streams.get(RGB)
    if frames is None or not len(frames):
        raise DataError(
            "E-RLDS-STEPS-001",
            "the recording has no colour frames",
            where=recording.path,
            seen=", ".join(sorted(recording.streams)) or "no stream",
            allowed="an rgb stream with frames: each is a step",
            hint="move it to another folder, or import it again with its film",
        )
    order = np.argsort(frames.capture_ns, kind="stable")
    stamp = frames.capture_ns[order]
    skew: dict[str, NDArray[np.int64]] = {}
    valid = frames.blobs.ranges[order, 1] > frames.blobs.ranges[order, 0]

    depths = recording.streams.get(DEPTH)
    depth = None
    if depths is not None and len(depths):
        rows, skew["depth"] = nearest(stamp, depths.capture_ns)
        depth = depths.blobs.take(rows)
        valid &= np.abs(skew["depth"]) <= MAX_DEPTH_APART_NS

    states = recording.streams.get(STATE)
    state = np.zeros((len(stamp), 0), np.float32)
    if states is not None:
        state, near, interpolated = _state_at(stamp, states)
        uncertainty = clock_uncertainty_ns(
            stamp, (frames.spec.clock, states.spec.clock), recording.clock_offsets
        )
        known = interpolated & (uncertainty != UNKNOWN_NS)
        skew["state"] = near
        skew["state_residual"] = np.where(known, uncertainty, near)
        valid &= np.isfinite(state).all(axis=1)
        valid &= (near != UNKNOWN_NS) & (np.abs(near) <= MAX_STALE_NS)

    actions = recording.streams.get(ACTION)
    action_names = () if actions is None else actions.spec.names
    action = np.full((len(stamp), len(action_names)), np.nan, np.float32)
    if actions is not None and len(actions):
        by_time = np.argsort(actions.capture_ns, kind="stable")
        times = actions.capture_ns[by_time]
        _, skew["action"] = nearest(stamp, times)
        held = np.searchsorted(times, stamp, side="right") - 1
        given = held >= 0
        action = actions.vectors[by_time[np.maximum(held, 0)]].copy()
        age = stamp - times[np.maximum(held, 0)]
        skew["action_age"] = np.where(given, age, UNKNOWN_NS)
        uncertainty = clock_uncertainty_ns(
            stamp, (frames.spec.clock, actions.spec.clock), recording.clock_offsets
        )
        known = given & (uncertainty != UNKNOWN_NS)
        skew["action_residual"] = np.where(known, uncertainty, skew["action"])
        valid &= given & (age <= MAX_STALE_NS)
    valid &= np.isfinite(action).all(axis=1) & bool(action_names)

    first = np.zeros(len(stamp), bool)
    last = first.copy()
    first[0] = last[-1] = True
    return EpisodeSteps(
        metadata=recording.metadata,
        stamp_ns=stamp,
        image=frames.blobs.take(order),
        depth=depth,
        state=state,
        action=action,
        state_names=() if states is None else states.spec.names,
        action_names=action_names,
        skew_ns=skew,
        valid=valid,
        is_first=first,
        is_last=last,
        is_terminal=last & recording.end_reason.is_terminal,
        source_path=recording.path,
        end_reason=recording.end_reason,
        streams=tuple(stream.spec for stream in recording.streams.values()),
    )


def nearest(
    stamp: NDArray[np.int64], times: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (row of the nearest of `times`, its time minus `stamp`), ties to the past.

    `times` need not be sorted but is not empty; both are int64 ns, the result [T].
    """
    by_time = np.argsort(times, kind="stable")
    ordered = times[by_time]
    after = np.searchsorted(ordered, stamp, side="left")
    right = np.minimum(after, len(ordered) - 1)
    left = np.maximum(after - 1, 0)
    take_left = np.abs(stamp - ordered[left]) <= np.abs(ordered[right] - stamp)
    rows = np.where(take_left, left, right)
    return by_time[rows].astype(np.int64), ordered[rows] - stamp


def clock_uncertainty_ns(
    stamp: NDArray[np.int64], clocks: Sequence[str], offsets: Sequence[ClockOffset]
) -> NDArray[np.int64]:
    """Return int64 [T]: how well stamps of these clocks can be compared, summed.

    A host clock adds nothing; a device clock adds the uncertainty of the offset that
    was measured nearest in time. `UNKNOWN_NS` where a device's was never measured.
    """
    total = np.zeros(len(stamp), np.int64)
    for clock in sorted(set(clocks) - HOST_CLOCKS):
        measured = [offset for offset in offsets if offset.device == clock]
        if not measured:
            return np.full(len(stamp), UNKNOWN_NS, np.int64)
        at = np.array([offset.measured_at_ns for offset in measured], np.int64)
        sizes = np.array([offset.uncertainty_ns for offset in measured], np.int64)
        rows, _ = nearest(stamp, at)
        total += sizes[rows]
    return total


def _state_at(
    stamp: NDArray[np.int64], states: Stream
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Return (values [T, n], nearest skew [T], interpolated [T])."""
    count = len(stamp)
    if not len(states):
        values = np.full((count, len(states.spec.names)), np.nan, np.float32)
        return values, np.full(count, UNKNOWN_NS, np.int64), np.zeros(count, bool)
    rows, near = nearest(stamp, states.capture_ns)
    values = states.vectors[rows].copy()
    by_time = np.argsort(states.capture_ns, kind="stable")
    times = states.capture_ns[by_time]
    right = np.searchsorted(times, stamp, side="left")
    inside = (right > 0) & (right < len(times))
    right = np.clip(right, 1, max(len(times) - 1, 1)) if len(times) > 1 else right * 0
    left = np.maximum(right - 1, 0)
    gap = times[right] - times[left]
    between = inside & (gap > 0) & (gap < MAX_BRACKET_NS)
    weight = (stamp - times[left])[between] / gap[between]
    before = states.vectors[by_time[left[between]]].astype(np.float64)
    after = states.vectors[by_time[right[between]]].astype(np.float64)
    mixed = before + (after - before) * weight[:, None]
    values[between] = mixed.astype(np.float32)
    exact = near == 0
    values[exact] = states.vectors[rows[exact]]
    return values, near, between | exact


def read_steps(path: Path, *, verify: bool = True) -> Iterator[EpisodeSteps]:
    """Yield the episodes below `path`, ordered by start time, then by id.

    `path` is a directory of recordings, one recording, or a TFDS directory (or the
    root above it). One episode is read at a time; `verify` checks every CRC.

    Raises:
        DataError: nothing here is a recording, or one of them is damaged.
    """
    from continuon.rlds.tfds_read import find_tfds, read_tfds_steps

    path = Path(path)
    dataset = find_tfds(path) if path.is_dir() else None
    if dataset is not None and not any(path.glob(f"*{SUFFIX}")):
        yield from _ordered(read_tfds_steps(dataset, verify=verify))
        return
    for file in recordings_in(path):
        yield steps_of(file, verify=verify)


def steps_of(path: Path, *, verify: bool = True) -> EpisodeSteps:
    """Return the steps of one recording; see `open_recording` and `align`."""
    return align(open_recording(path, verify=verify))


def recordings_in(path: Path) -> list[Path]:
    """Return the recording, or those in a directory by start time, then by id.

    Raises:
        DataError: there is none.
    """
    if path.is_file():
        return [path]
    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else []
    if not files:
        raise DataError(
            "E-RLDS-STEPS-002",
            "nothing here is a recording",
            where=path,
            seen=_contents_of(path),
            allowed="*.mcap files, or a TFDS directory with features.json",
            hint="`continuon import` turns other formats into recordings, and "
            "`continuon convert` turns those into a TFDS directory",
        )
    return sorted(files, key=_start_of)


def _start_of(path: Path) -> tuple[int, str]:
    """Return the sort key of a recording; one without a start comes first."""
    try:
        metadata = read_metadata(path)
    except DataError:
        return (-1, path.name)
    return (metadata.start_wall_ns, metadata.episode_id)


def _ordered(episodes: Iterator[EpisodeSteps]) -> Iterator[EpisodeSteps]:
    """Yield episodes by start time, then by id; their pictures stay on the disk."""

    def key(steps: EpisodeSteps) -> tuple[int, str, int]:
        metadata = steps.metadata
        return (metadata.start_wall_ns, metadata.episode_id, int(steps.stamp_ns[0]))

    yield from sorted(episodes, key=key)


def _contents_of(path: Path) -> str:
    if not path.is_dir():
        return "no such file or directory"
    unfinished = len(list(path.glob(f"*{PART_SUFFIX}")))
    if unfinished:
        return f"{unfinished} unfinished recordings (continuon episodes recover)"
    names = sorted(entry.name for entry in path.iterdir())[:5]
    return ", ".join(names) or "an empty directory"
