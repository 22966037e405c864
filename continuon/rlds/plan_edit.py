"""Cut and join the plan's steps: what stands in them is kept, their places are new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from continuon.rlds.episode import EndReason, EpisodeMetadata
from continuon.rlds.plan_episode import PlanEpisode
from continuon.rlds.step import Step, blob_refs

__all__ = ["cut_plan", "join_plans"]

_TIMES = frozenset({"timestamp_ns", "timestamp_nanos"})
_FRAME_IDS = frozenset({"frame_id", "video_frame_id", "depth_frame_id"})


def cut_plan(
    episode: PlanEpisode, *, start_ns: int, stop_ns: int, metadata: EpisodeMetadata
) -> PlanEpisode:
    """Return the steps from `start_ns` on and before `stop_ns`, with their blobs.

    It ends as `slice`, unless it holds the last step. Which samples the whole lacked
    cannot be placed: their counts stay in the provenance (`drops_of_whole`).
    """
    steps = [s for s in episode.steps if start_ns <= s.timestamp_ns < stop_ns]
    reaches_end = bool(steps) and steps[-1] is episode.steps[-1]
    drops = {name: count for name, count in episode.drops.items() if count}
    if drops:
        told = " ".join(f"{name}={count}" for name, count in sorted(drops.items()))
        provenance = {**metadata.provenance, "drops_of_whole": told}
        metadata = attrs.evolve(metadata, provenance=provenance)
    named = {ref.uri for step in steps for ref in blob_refs(step)}
    return attrs.evolve(
        episode,
        metadata=metadata,
        steps=_placed(steps),
        blobs={uri: blob for uri, blob in episode.blobs.items() if uri in named},
        end_reason=episode.end_reason if reaches_end else EndReason.SLICE,
        drops={},
    )


def join_plans(
    episodes: Sequence[PlanEpisode],
    *,
    shifts_ns: Sequence[int],
    metadata: EpisodeMetadata,
) -> PlanEpisode:
    """Return the steps of all episodes, one after the other, as those of one.

    All times of each move by its shift, whole milliseconds. A blob's or a picture's
    name that an earlier episode has too gets the number of its part.
    """
    steps: list[Step] = []
    blobs: dict[str, bytes] = {}
    frames: set[str] = set()
    drops: dict[str, int] = {}
    pairs = zip(episodes, shifts_ns, strict=True)
    for number, (episode, shift_ns) in enumerate(pairs):
        uris = {
            uri: f"blobs/part{number:03d}/{uri.removeprefix('blobs/')}"
            for uri in episode.blobs
            if uri in blobs
        }
        ids = {step.observation.video_frame_id for step in episode.steps} - {None}
        names = {i: f"part{number:03d}-{i}" for i in ids if i in frames}
        frames |= {names.get(i, i) for i in ids if i is not None}
        steps += [_moved(step, uris, names, shift_ns) for step in episode.steps]
        blobs |= {uris.get(uri, uri): blob for uri, blob in episode.blobs.items()}
        for name, count in episode.drops.items():
            drops[name] = drops.get(name, 0) + count
    return attrs.evolve(
        episodes[-1],
        metadata=metadata,
        streams=episodes[0].streams,
        steps=_placed(steps),
        blobs=blobs,
        drops=drops,
    )


def _placed(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return steps numbered from 0, ends marked; only a last one stays terminal."""
    last = len(steps) - 1
    return tuple(
        attrs.evolve(
            step,
            step_index=at,
            is_first=at == 0,
            is_last=at == last,
            is_terminal=step.is_terminal and at == last,
        )
        for at, step in enumerate(steps)
    )


def _moved(
    value: Any, uris: Mapping[str, str], names: Mapping[Any, str], shift_ns: int
) -> Any:
    """Return a value of the contract with its times moved and its names changed."""
    if isinstance(value, tuple):
        return tuple(_moved(item, uris, names, shift_ns) for item in value)
    if not attrs.has(type(value)):
        return value
    changes: dict[str, Any] = {}
    for field in attrs.fields(type(value)):
        old = getattr(value, field.name)
        new = old
        if old is None:
            continue
        if field.name in _TIMES:
            new = old + shift_ns
        elif field.name == "timestamp_ms":
            new = old + shift_ns // 1_000_000
        elif field.name == "uri":
            new = uris.get(old, old)
        elif field.name in _FRAME_IDS:
            new = names.get(old, old)
        elif isinstance(old, tuple) or attrs.has(type(old)):
            new = _moved(old, uris, names, shift_ns)
        if new is not old:
            changes[field.name] = new
    return attrs.evolve(value, **changes) if changes else value
