"""A recording in the plan's terms: a step a colour frame, and what that leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np

from continuon.rlds.action import Action
from continuon.rlds.depth_codecs import depth_pngs
from continuon.rlds.episode import (
    ACTION,
    DEPTH,
    RGB,
    STATE,
    EpisodeMetadata,
    StreamSpec,
)
from continuon.rlds.observation import EgocentricFrame, Observation, RobotState
from continuon.rlds.plan_episode import PlanEpisode
from continuon.rlds.plan_record import holds_plan, plan_in
from continuon.rlds.recording import Recording
from continuon.rlds.step import Step
from continuon.rlds.steps import UNKNOWN_NS, EpisodeSteps, align

__all__ = ["plan_of"]

_SAME_FRAME_NS = 5_000_000
_CAPABILITIES = {RGB: "video", DEPTH: "depth", STATE: "robot"}


class _Pictures(Mapping[str, bytes]):
    """The pictures of a recording under the uris that its steps give them."""

    def __init__(self, columns: Mapping[str, Sequence[bytes]]) -> None:
        self._at = {
            uri: (blobs, row)
            for name, blobs in columns.items()
            for row, uri in enumerate(_uri(name, row) for row in range(len(blobs)))
        }

    def __len__(self) -> int:
        return len(self._at)

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __getitem__(self, uri: str) -> bytes:
        blobs, row = self._at[uri]
        return blobs[row]

    def __contains__(self, uri: object) -> bool:
        return uri in self._at


def plan_of(recording: Recording) -> tuple[PlanEpisode, tuple[str, ...]]:
    """Return a recording in the plan's terms, and what that leaves out.

    One that was made from the plan's steps comes back as it was, and nothing is lost.
    Else a step is a colour frame, and a state is the value at the frame's time, as
    `align` brings it there: `timestamp_nanos` is the frame's time plus the skew that is
    left, `step_metadata` says how far the nearest reading was. A depth frame has the
    colour frame's id where both were exposed within 5 ms, else one of its own.

    Raises:
        DataError: it has no colour frames.
    """
    if holds_plan(recording):
        return plan_in(recording), ()
    aligned = align(recording)
    specs = tuple(
        stream.spec for name, stream in recording.streams.items() if name in _KEPT
    )
    clock = recording.streams[RGB].spec.clock
    steps = tuple(_steps(recording, aligned, clock))
    pictures = {RGB: aligned.image}
    if aligned.depth is not None:
        pictures[DEPTH] = depth_pngs(aligned.depth)
    episode = PlanEpisode(
        metadata=_metadata(recording.metadata, specs, aligned),
        streams=specs,
        steps=steps,
        blobs=_Pictures(pictures),
        end_reason=recording.end_reason,
        drops=dict(recording.drops),
    )
    return episode, tuple(_losses(recording, aligned))


_KEPT = frozenset({RGB, DEPTH, STATE, ACTION})


def _uri(name: str, row: int) -> str:
    return f"blobs/{name}/{row:06d}.{'jpg' if name == RGB else 'png'}"


def _metadata(
    metadata: EpisodeMetadata, specs: Sequence[StreamSpec], aligned: EpisodeSteps
) -> EpisodeMetadata:
    have = {_CAPABILITIES[spec.name] for spec in specs if spec.name in _CAPABILITIES}
    span = int(aligned.stamp_ns[-1] - aligned.stamp_ns[0])
    return attrs.evolve(
        metadata,
        capabilities=tuple(sorted({*metadata.capabilities, *have})),
        duration_ns=metadata.duration_ns or span,
    )


def _steps(recording: Recording, aligned: EpisodeSteps, clock: str) -> Iterator[Step]:
    skew = {name: values.tolist() for name, values in aligned.skew_ns.items()}
    source = recording.metadata.action_source.value
    unit_m = recording.streams[DEPTH].spec.depth_unit_m if aligned.depth else None
    task = recording.metadata.task or None
    for row, at in enumerate(aligned.stamp_ns.tolist()):
        frame_id = f"rgb-{row}"
        depth, depth_id, notes = None, None, {}
        if aligned.depth is not None:
            apart = skew["depth"][row]
            depth_id = frame_id if abs(apart) <= _SAME_FRAME_NS else f"depth-{row}"
            depth = EgocentricFrame(
                uri=_uri(DEPTH, row),
                timestamp_ns=at + apart,
                encoding="png16",
                clock=clock,
                depth_unit_m=unit_m,
            )
        state = None
        if aligned.state_names and np.isfinite(aligned.state[row]).all():
            state = RobotState(
                timestamp_nanos=at + skew["state_residual"][row],
                joint_positions=tuple(aligned.state[row].tolist()),
                frame_id=frame_id,
                clock=clock,
            )
            notes["state_nearest_ns"] = str(skew["state"][row])
        given = np.isfinite(aligned.action[row]).all() and bool(aligned.action_names)
        age = skew["action_age"][row] if "action_age" in skew else UNKNOWN_NS
        yield Step(
            step_index=row,
            timestamp_ns=at,
            clock=clock,
            observation=Observation(
                robot_state=state,
                video_frame_id=frame_id,
                depth_frame_id=depth_id,
                video=EgocentricFrame(
                    uri=_uri(RGB, row), timestamp_ns=at, encoding="jpeg", clock=clock
                ),
                depth=depth,
            ),
            action=Action(
                command=tuple(aligned.action[row].tolist()) if given else (),
                source=source,
                timestamp_ns=None if age == UNKNOWN_NS else at - age,
                clock=clock,
            ),
            is_first=bool(aligned.is_first[row]),
            is_last=bool(aligned.is_last[row]),
            is_terminal=bool(aligned.is_terminal[row]),
            valid=bool(aligned.valid[row]),
            language_instruction=task,
            step_metadata=notes,
        )


def _losses(recording: Recording, aligned: EpisodeSteps) -> Iterator[str]:
    count = len(aligned)
    for name, stream in recording.streams.items():
        if name not in _KEPT:
            yield f"stream {name}: {len(stream)} samples have no place in a step"
        elif name != RGB and len(stream) > count:
            text = "samples between frames, or repeated by none"
            yield f"stream {name}: {len(stream)} samples, {count} steps: {text}"
        own = stream.device_ns != stream.capture_ns
        if own.any():
            yield f"stream {name}: {int(own.sum())} stamps of the device's own clock"
    if recording.clock_offsets:
        yield f"{len(recording.clock_offsets)} measured clock offsets"
