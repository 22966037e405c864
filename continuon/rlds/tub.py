"""Import a Donkeycar tub v2 as episodes, its JPEGs unaltered, its faults named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import continuon
from continuon.errors import DataError, UsageError
from continuon.rlds.episode import (
    ACTION,
    CAR_FRAME,
    RGB,
    ActionSource,
    Codec,
    ControlRole,
    EpisodeMetadata,
    Origin,
    StreamSpec,
    XrMode,
)
from continuon.rlds.images import decode_jpeg
from continuon.rlds.importers.report import (
    ImportReport,
    Loss,
    judge_import,
    name_losses,
)
from continuon.rlds.importers.write import ImportedEpisode, Reading, write_episode
from continuon.rlds.tub_files import Tub, open_tub
from continuon.rlds.tub_rows import (
    LOSSES,
    Demonstration,
    backward_steps,
    judge_rows,
    segments,
    stamp_source,
)

__all__ = ["import_recording"]

_FORMAT = "donkeycar-tub-v2"


def import_recording(
    source: Path, output_dir: Path, *, episode_steps: int = 50
) -> ImportReport:
    """Import a foreign recording as episodes of at most `episode_steps` steps.

    Running it again adds nothing: an episode that is there already is kept.

    Raises:
        DataError: no recording that can be read, or not one usable row in it.
        UsageError: `episode_steps` below 1.
    """
    if episode_steps < 1:
        raise UsageError(
            "E-RLDS-IMPORT-005",
            "an episode has at least one step",
            seen=episode_steps,
            allowed="1 or more",
        )
    source, output_dir = Path(source), Path(output_dir)
    with open_tub(source) as tub:
        rows, losses, deleted = judge_rows(tub)
        images, repeated = _load_sizes(tub, rows, losses)
        rows = [row for row in rows if row.position in images]
        if not rows:
            raise _refused(source, tub, losses, deleted)
        losses["E-RLDS-TUB-019"] = backward_steps(rows)
        if 2 * losses["E-RLDS-TUB-019"] > len(rows) - 1:
            raise DataError(
                "E-RLDS-TUB-002",
                "time runs backwards through this tub, so its stamps are no clock's",
                where=source,
                seen=f"{losses['E-RLDS-TUB-019']} of {len(rows) - 1} steps",
                allowed="fewer than half",
            )
        stamps = stamp_source(rows)
        output_dir.mkdir(parents=True, exist_ok=True)
        paths: list[Path] = []
        for run in segments(rows, longest=episode_steps):
            for part in _same_size(run, images):
                metadata = _metadata(tub, part, len(paths), stamps)
                size = images[part[0].position]
                paths.append(_write(tub, part, size, metadata, output_dir))
        notes = _notes(tub, rows, deleted, repeated, stamps)
        named = _name(losses, tub)
    return ImportReport(
        source=source,
        format=_FORMAT,
        episodes=tuple(paths),
        steps=len(rows),
        losses=named,
        notes=notes,
        verdict=judge_import(paths),
    )


def _load_sizes(
    tub: Tub, rows: Sequence[Demonstration], losses: Counter[str]
) -> tuple[dict[int, tuple[int, int]], int]:
    """Decode every image once; returns (size by row position, repeated frames)."""
    sizes: dict[int, tuple[int, int]] = {}
    previous, repeated = b"", 0
    for row in rows:
        path = tub.image_path(row.image)
        if path is None or not path.is_file():
            losses["E-RLDS-TUB-016"] += 1
            continue
        try:
            blob = path.read_bytes()
            height, width, _ = decode_jpeg(blob).shape
        except (DataError, OSError):
            losses["E-RLDS-TUB-017"] += 1
            continue
        sizes[row.position] = (width, height)
        repeated += blob == previous
        previous = blob
    return sizes, repeated


def _same_size(
    run: Sequence[Demonstration], sizes: Mapping[int, tuple[int, int]]
) -> list[tuple[Demonstration, ...]]:
    parts: list[list[Demonstration]] = []
    for row in run:
        if not parts or sizes[parts[-1][-1].position] != sizes[row.position]:
            parts.append([])
        parts[-1].append(row)
    return [tuple(part) for part in parts]


def _write(
    tub: Tub,
    rows: Sequence[Demonstration],
    size: tuple[int, int],
    metadata: EpisodeMetadata,
    directory: Path,
) -> Path:
    width, height = size
    streams = (
        StreamSpec(
            name=RGB, codec=Codec.JPEG, clock="wall", width=width, height=height
        ),
        StreamSpec(
            name=ACTION,
            codec=Codec.VECTOR,
            names=("steering", "throttle"),
            clock="wall",
        ),
    )

    def readings() -> Iterator[Reading]:
        for row in rows:
            path = tub.image_path(row.image)
            assert path is not None
            yield Reading(RGB, path.read_bytes(), row.stamp_ns)
            yield Reading(ACTION, (row.steering, row.throttle), row.stamp_ns)

    episode = ImportedEpisode(
        metadata=metadata,
        streams=streams,
        readings=readings,
        counts={RGB: len(rows), ACTION: len(rows)},
    )
    return write_episode(episode, directory)


def _metadata(
    tub: Tub, rows: Sequence[Demonstration], ordinal: int, stamps: str
) -> EpisodeMetadata:
    name = re.sub(r"[^A-Za-z0-9_]+", "-", tub.name).strip("-")[:40] or "tub"
    session = rows[0].session
    return EpisodeMetadata(
        episode_id=f"tub-{name}-{tub.digest[:8]}-{ordinal:05d}",
        origin=Origin.IMPORTED,
        xr_mode=XrMode.TRAINER,
        control_role=ControlRole.HUMAN_TELEOP,
        action_source=ActionSource.HUMAN_TELEOP_XR,
        environment_id="unknown",
        robot_id="unknown",
        robot_model="donkeycar",
        frame_convention=CAR_FRAME,
        tags=("origin:imported", f"format:{_FORMAT}"),
        software={"continuon": continuon.__version__},
        start_wall_ns=rows[0].stamp_ns,
        provenance={
            "format": _FORMAT,
            "source_name": tub.name,
            "source_sha256": tub.digest,
            "session": session,
            "first_index": str(rows[0].index),
            "last_index": str(rows[-1].index),
            "first_row": str(rows[0].position),
            "stamp_source": stamps,
        },
    )


def _refused(source: Path, tub: Tub, losses: Counter[str], deleted: int) -> DataError:
    named = [f"{loss.count} {loss.text}" for loss in _name(losses, tub)]
    if deleted:
        named.append(f"{deleted} rows marked as deleted by their owner")
    return DataError(
        "E-RLDS-IMPORT-008",
        "not one row of this tub can be used",
        where=source,
        seen="; ".join(named) or "no rows at all",
        allowed="rows with user/mode = user, an image, and finite commands",
    )


def _name(losses: Counter[str], tub: Tub) -> tuple[Loss, ...]:
    details = {
        "E-RLDS-TUB-010": tub.missing_catalogs,
        "E-RLDS-TUB-011": tub.stale_catalogs,
        "E-RLDS-TUB-018": tub.unused_images,
        "E-RLDS-TUB-020": tub.dropped_members,
    }
    return name_losses(losses, LOSSES, details)


def _notes(
    tub: Tub,
    rows: Sequence[Demonstration],
    deleted: int,
    repeated: int,
    stamps: str,
) -> tuple[str, ...]:
    notes = ["stamps are the time of writing a record, not of exposing its frame"]
    if stamps == "conversion":
        notes = [
            "stamps are the time of a conversion: no rate or speed follows from it"
        ]
    if deleted:
        notes.append(
            f"{deleted} rows were marked as deleted by their owner and left out"
        )
    if repeated:
        notes.append(f"{repeated} of {len(rows)} frames repeat the one before")
    unread = set(tub.inputs) - {tub.image_field, "user/angle", "user/throttle"}
    unread -= {"user/mode"}
    if unread:
        notes.append(f"inputs not imported: {', '.join(sorted(unread))}")
    return tuple(notes)
