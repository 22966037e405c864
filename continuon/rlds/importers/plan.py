"""Import the plan's own episodes, of every version and shape, as recordings.

The steps ride along whole as documents; pictures, states and commands become streams.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import numpy as np

from continuon.errors import ContinuonError
from continuon.rlds.episode import EndReason, EpisodeMetadata
from continuon.rlds.images import encode_colour_png, encode_depth_png
from continuon.rlds.importers.facts import digest_of_files, imported_metadata
from continuon.rlds.importers.harvest import Harvest, ImportOptions, Located
from continuon.rlds.importers.locate import Format
from continuon.rlds.importers.plan_raw import RawEpisode, raw_episodes
from continuon.rlds.importers.plan_types import (
    metadata_facts,
    source_origin,
    stamp_of,
    typed_step,
)
from continuon.rlds.importers.unpack import is_path
from continuon.rlds.importers.write import ImportedPlan
from continuon.rlds.observation import EgocentricFrame
from continuon.rlds.plan_episode import PlanEpisode
from continuon.rlds.step import Step, blob_refs

__all__ = ["import_plan"]


def import_plan(
    found: Located, harvest: Harvest, options: ImportOptions
) -> Iterator[ImportedPlan]:
    """Yield the episodes of a file, a folder, or a folder of these."""
    for ordinal, raw in enumerate(raw_episodes(found.root, harvest)):
        if not raw.steps:
            harvest.lose("E-RLDS-LOSS-004", f"{raw.name}: no steps")
            continue
        yield from _episodes(raw, ordinal, harvest, options)


def _episodes(
    raw: RawEpisode, ordinal: int, harvest: Harvest, options: ImportOptions
) -> Iterator[ImportedPlan]:
    stamps = [stamp_of(step) for step in raw.steps]
    known = [at for at in stamps if at is not None]
    is_nominal = len(known) < len(stamps)
    if is_nominal:
        harvest.note(
            f"{raw.name}: steps without a time, stamped at a nominal "
            f"{options.rate_hz:g} Hz"
        )
    step_ns = round(1e9 / options.rate_hz)
    times = [i * step_ns for i in range(len(stamps))] if is_nominal else known
    blobs, frames = _blobs(raw, times, harvest)
    steps = [
        _with_frames(typed_step(step, i, at), frames.get(i, {}))
        for i, (step, at) in enumerate(zip(raw.steps, times, strict=True))
    ]
    for name in sorted({r.uri for s in steps for r in blob_refs(s)} - set(blobs)):
        harvest.lose("E-RLDS-LOSS-002", name)
    metadata = _metadata(raw, ordinal, steps, nominal=is_nominal)
    runs = list(_runs(raw, steps, harvest))
    for start, run in runs:
        whole = len(run) == len(steps)
        facts = metadata
        if not whole:
            facts = attrs.evolve(metadata, episode_id=f"{metadata.episode_id}-s{start}")
        is_end = start + len(run) == len(steps)
        last = raw.steps[-1] if is_end else {}
        yield ImportedPlan(
            PlanEpisode(
                metadata=facts,
                steps=_numbered(run),
                blobs=_named_in(run, blobs),
                end_reason=_end(last, whole=is_end),
            )
        )


def _runs(
    raw: RawEpisode, steps: Sequence[Step], harvest: Harvest
) -> Iterator[tuple[int, list[Step]]]:
    """Yield runs of steps whose commands are finite and whose time advances."""
    run: list[Step] = []
    start = 0
    for index, step in enumerate(steps):
        action = raw.steps[index].get("action")
        given = action.get("command") if isinstance(action, dict) else None
        finite = _is_finite(given)
        advances = not run or step.timestamp_ns > run[-1].timestamp_ns
        if finite and advances:
            start = start if run else index
            run.append(step)
            continue
        harvest.lose("E-RLDS-LOSS-011" if finite else "E-RLDS-LOSS-005", raw.name)
        if run:
            yield start, run
        run = []
    if run:
        yield start, run


def _is_finite(command: Any) -> bool:
    if command is None:
        return True
    try:
        return bool(np.isfinite(np.array(command, np.float64)).all())
    except (TypeError, ValueError, OverflowError):
        return False


def _numbered(run: Sequence[Step]) -> tuple[Step, ...]:
    last = len(run) - 1
    return tuple(
        attrs.evolve(step, step_index=i, is_first=i == 0, is_last=i == last)
        for i, step in enumerate(run)
    )


def _named_in(run: Sequence[Step], blobs: Mapping[str, bytes]) -> dict[str, bytes]:
    names = {ref.uri for step in run for ref in blob_refs(step)}
    return {name: blob for name, blob in blobs.items() if name in names}


def _end(last: Mapping[str, Any], *, whole: bool) -> EndReason:
    if not whole:
        return EndReason.SLICE
    if last.get("is_terminal") is True:
        return EndReason.COMPLETE
    return EndReason.STOPPED


def _metadata(
    raw: RawEpisode, ordinal: int, steps: Sequence[Step], *, nominal: bool
) -> EpisodeMetadata:
    root = raw.folder or raw.files[0].parent
    digest = digest_of_files(raw.files, root)
    sources = {step.action.source for step in steps} - {"unknown"}
    fields, rest = metadata_facts(raw.metadata, sources)
    version = str(raw.metadata.get("schema_version", "1.0"))
    rest |= {"shape": raw.shape, "source_schema": version}
    start_ms = fields.pop("start_time_unix_ms", 0)
    duration_ms = fields.pop("duration_ms", None)
    tags = fields.pop("tags", ())
    origin = source_origin(raw.metadata)
    if origin is not None:
        rest["source_origin"] = origin.value
        tags = (*tags, f"source-origin:{origin.value}")
    texts = (step.language_instruction for step in steps)
    made = imported_metadata(
        Format.PLAN,
        raw.name,
        digest,
        ordinal,
        stamp_source="nominal" if nominal else "capture",
        start_wall_ns=start_ms * 1_000_000,
        task=next((text for text in texts if text), ""),
        facts=rest,
    )
    software = {**fields.pop("software", {}), **made.software}
    return attrs.evolve(
        made,
        **fields,
        software=software,
        tags=tuple(dict.fromkeys((*made.tags, *tags))),
        duration_ns=None if duration_ms is None else duration_ms * 1_000_000,
    )


def _blobs(
    raw: RawEpisode, times: Sequence[int], harvest: Harvest
) -> tuple[dict[str, bytes], dict[int, dict[str, EgocentricFrame]]]:
    """Return (blobs by the uri that steps name, a recorder's frames by step)."""
    blobs: dict[str, bytes] = {}
    frames: dict[int, dict[str, EgocentricFrame]] = {}
    if raw.folder is None:
        return blobs, frames
    for uri in _uris(raw):
        inside = PurePosixPath(uri)
        if is_path(inside) and (raw.folder / inside).is_file():
            blobs[uri] = (raw.folder / inside).read_bytes()
    for index, at in enumerate(times):
        for field, kind in (("video", "rgb"), ("depth", "depth")):
            path = raw.folder / f"step_{index:04d}_{kind}.npy"
            if not path.is_file():
                continue
            try:
                blob = _encoded(path)
            except (ContinuonError, ValueError, OSError, EOFError) as error:
                harvest.lose("E-RLDS-LOSS-007", f"{path.name} ({str(error)[:60]})")
                continue
            uri = f"blobs/{path.stem}.png"
            blobs[uri] = blob
            frames.setdefault(index, {})[field] = EgocentricFrame(
                uri=uri,
                timestamp_ns=at,
                encoding="png" if kind == "rgb" else "png16",
                depth_unit_m=0.001 if kind == "depth" else None,
            )
    return blobs, frames


def _encoded(path: Path) -> bytes:
    """Return a stored array as a PNG, without loss.

    Raises:
        ContractError: no picture; ValueError: no array, or one of objects.
    """
    pixels = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    deep = pixels.dtype == np.uint16
    return encode_depth_png(pixels) if deep else encode_colour_png(pixels)


def _uris(raw: RawEpisode) -> Iterator[str]:
    """Yield every text called `uri`, anywhere in the observations."""
    pending: list[Any] = [step.get("observation") for step in raw.steps]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            uri = value.get("uri")
            if isinstance(uri, str):
                yield uri
            pending += value.values()
        elif isinstance(value, list):
            pending += itertools.islice(value, 10_000)


def _with_frames(step: Step, frames: Mapping[str, EgocentricFrame]) -> Step:
    seen = step.observation
    video = seen.video or frames.get("video")
    depth = seen.depth or frames.get("depth")
    return attrs.evolve(step, observation=attrs.evolve(seen, video=video, depth=depth))
