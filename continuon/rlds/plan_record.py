"""A plan directory into a recording and back, lossless: steps ride along as documents.

Pictures, states and commands become the recording's own streams, each with its own
time, so that every tool reads them; the step as it stood goes with them, so that
nothing else is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import attrs
import msgspec

from continuon.errors import DataError
from continuon.rlds.episode import (
    ACTION,
    DEPTH,
    RGB,
    STATE,
    Codec,
    StreamSpec,
)
from continuon.rlds.images import jpeg_size, png_size
from continuon.rlds.layout import Opening
from continuon.rlds.payloads import image_payload, vector_payload
from continuon.rlds.plan_episode import PlanEpisode
from continuon.rlds.png_file import is_png
from continuon.rlds.recorder import RecordingSummary
from continuon.rlds.recording import Recording
from continuon.rlds.rewrite import write_recording
from continuon.rlds.sample_queue import Payload, Sample
from continuon.rlds.step import Step, blob_refs, step_from_json, step_to_json
from continuon.rlds.stream_spec import BLOBS, STEPS

__all__ = ["holds_plan", "plan_in", "record_plan"]

_SIZES = {Codec.JPEG: jpeg_size, Codec.PNG: png_size, Codec.PNG16: png_size}


@attrs.frozen(kw_only=True)
class _Head:
    """The first document: what is not in any step, and where the blobs went."""

    streams: tuple[StreamSpec, ...] = ()
    drops: Mapping[str, int] = attrs.field(factory=dict)
    native: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    blobs: tuple[str, ...] = ()


def record_plan(
    episode: PlanEpisode, directory: Path
) -> tuple[RecordingSummary, tuple[str, ...]]:
    """Write an episode as a recording in `directory`; returns it and what was lost.

    Raises:
        ContractError: mode, role and source contradict each other, or a command is not
            finite.
        DataError: there is such an episode already, or it has no steps.
    """
    if not episode.steps:
        raise DataError("E-RLDS-PLAN-008", "an episode without steps", where=directory)
    native = {
        RGB: _pictures(episode, "video", Codec.JPEG)
        or _pictures(episode, "video", Codec.PNG),
        DEPTH: _pictures(episode, "depth", Codec.PNG16),
    }
    placed = {uri for uris in native.values() for uri in uris}
    named = dict.fromkeys(r.uri for s in episode.steps for r in blob_refs(s))
    others = tuple(u for u in named if u in episode.blobs and u not in placed)
    unnamed = sorted(set(episode.blobs) - set(named))
    head = _Head(
        streams=episode.streams, drops=episode.drops, native=native, blobs=others
    )
    specs = _specs(episode, native, has_blobs=bool(others))
    summary = write_recording(
        directory,
        Opening(episode.metadata, specs),
        _samples(episode, specs, placed, head),
        end_reason=episode.end_reason,
    )
    losses = [f"a blob that no step names: {uri}" for uri in unnamed]
    return summary, tuple(losses)


def holds_plan(recording: Recording) -> bool:
    """Return whether a recording was made from the plan's steps."""
    return bool(recording.streams.get(STEPS))


def plan_in(recording: Recording) -> PlanEpisode:
    """Return the plan's episode that was put into a recording, equal to what it was.

    Raises:
        DataError: there is none in it, or a document is damaged.
    """
    documents = recording.streams.get(STEPS)
    if not documents:
        raise DataError(
            "E-RLDS-PLAN-009",
            "this recording holds no steps of the plan",
            where=recording.path,
            seen=sorted(recording.streams),
        )
    try:
        head = msgspec.json.decode(documents.blob(0), type=_Head)
    except msgspec.DecodeError as error:
        raise DataError(
            "E-RLDS-PLAN-010",
            f"the first document does not parse: {error}",
            where=recording.path,
        ) from error
    blobs: dict[str, bytes] = {}
    for name, uris in (*head.native.items(), (BLOBS, head.blobs)):
        stream = recording.streams.get(name)
        if uris and (stream is None or len(stream) != len(uris)):
            raise DataError(
                "E-RLDS-PLAN-011",
                "a stream holds another number of blobs than the steps name",
                where=recording.path,
                seen=0 if stream is None else len(stream),
                allowed=len(uris),
            )
        blobs |= {uri: stream.blob(row) for row, uri in enumerate(uris) if stream}
    return PlanEpisode(
        metadata=recording.metadata,
        streams=head.streams,
        steps=tuple(
            step_from_json(documents.blob(row), where=recording.path)
            for row in range(1, len(documents))
        ),
        blobs=blobs,
        end_reason=recording.end_reason,
        drops=head.drops,
    )


def _uris(step: Step) -> list[str]:
    return [ref.uri for ref in blob_refs(step)]


def _pictures(episode: PlanEpisode, kind: str, codec: Codec) -> tuple[str, ...]:
    """Return the uris of one picture a step, () where they are no such stream."""
    uris = [r.uri for s in episode.steps for r in blob_refs(s) if r.kind == kind]
    if len(uris) != len(episode.steps) or len(set(uris)) != len(uris):
        return ()
    sizes = set()
    for uri in uris:
        try:
            sizes.add(_SIZES[codec](episode.blobs.get(uri, b"")))
        except DataError:
            return ()
    return tuple(uris) if len(sizes) == 1 else ()


def _specs(
    episode: PlanEpisode, native: Mapping[str, Sequence[str]], *, has_blobs: bool
) -> tuple[StreamSpec, ...]:
    given = {spec.name: spec for spec in episode.streams}
    first = episode.steps[0]
    specs = []
    for name, kind in ((RGB, Codec.JPEG), (DEPTH, Codec.PNG16)):
        block = first.observation.video if name == RGB else first.observation.depth
        if native[name] and block is not None:
            unit_m = block.depth_unit_m or 0.001
            lossless = name == RGB and is_png(episode.blobs[block.uri])
            codec = Codec.PNG if lossless else kind
            made = StreamSpec(
                name=name, codec=codec, clock=block.clock, depth_unit_m=unit_m
            )
            specs.append(_as_given(made, given))
    for name, sizes in (
        (ACTION, {len(step.action.command) for step in episode.steps}),
        (STATE, {len(_joints(step)) for step in episode.steps}),
    ):
        if len(sizes) == 1 and min(sizes) > 0:
            names = tuple(f"joint_{at}" for at in range(min(sizes)))
            made = StreamSpec(name=name, codec=Codec.VECTOR, names=names)
            specs.append(_as_given(made, given))
    specs.append(StreamSpec(name=STEPS, codec=Codec.DOCUMENT))
    if has_blobs:
        specs.append(StreamSpec(name=BLOBS, codec=Codec.BLOB))
    return tuple(specs)


def _as_given(made: StreamSpec, given: Mapping[str, StreamSpec]) -> StreamSpec:
    """Take the episode's own spec of a stream where it fits what is there."""
    said = given.get(made.name)
    fits = said is not None and said.codec is made.codec
    if said is None or not fits or len(said.names) != len(made.names):
        return made
    return said


def _joints(step: Step) -> tuple[float, ...]:
    state = step.observation.robot_state
    return () if state is None else state.joint_positions


def _samples(
    episode: PlanEpisode,
    specs: Sequence[StreamSpec],
    placed: AbstractSet[str],
    head: _Head,
) -> Iterator[Sample]:
    """Yield all samples, step by step: the pictures of a step, its numbers, itself."""
    by_name = {spec.name: (at, spec) for at, spec in enumerate(specs, start=1)}
    counts = dict.fromkeys(by_name, 0)

    def sample(
        name: str, payload: Payload, at_ns: int, device_ns: int | None = None
    ) -> Sample:
        counts[name] += 1
        return Sample(by_name[name][0], counts[name] - 1, at_ns, device_ns, payload)

    first = episode.steps[0].timestamp_ns
    yield sample(STEPS, msgspec.json.encode(head, order="sorted"), first)
    others = list(head.blobs)
    for step in episode.steps:
        seen, at = step.observation, step.timestamp_ns
        for name, block in ((RGB, seen.video), (DEPTH, seen.depth)):
            if block is not None and block.uri in placed:
                picture = image_payload(by_name[name][1], episode.blobs[block.uri])
                yield sample(name, picture, block.timestamp_ns, block.device_ns)
        if STATE in by_name and seen.robot_state is not None:
            values = vector_payload(by_name[STATE][1], seen.robot_state.joint_positions)
            yield sample(STATE, values, seen.robot_state.timestamp_nanos)
        if ACTION in by_name:
            given = step.action.timestamp_ns
            values = vector_payload(by_name[ACTION][1], step.action.command)
            yield sample(ACTION, values, at if given is None else given)
        yield sample(STEPS, step_to_json(step), at)
        while others and others[0] in _uris(step):
            yield sample(BLOBS, episode.blobs[others.pop(0)], at)
