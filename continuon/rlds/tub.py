"""Import a Donkeycar tub v2 as episodes, its JPEGs unaltered, its faults named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

import continuon
from continuon.errors import DataError, UsageError
from continuon.rlds.episode import (
    ACTION,
    CAR_FRAME,
    RGB,
    ActionSource,
    Codec,
    ControlRole,
    EndReason,
    EpisodeMetadata,
    Origin,
    StreamSpec,
    XrMode,
)
from continuon.rlds.file_sink import FileSink
from continuon.rlds.images import decode_jpeg
from continuon.rlds.layout import PART_SUFFIX
from continuon.rlds.recorder import EpisodeRecorder
from continuon.rlds.recording import open_recording
from continuon.rlds.tub_files import Tub, open_tub
from continuon.rlds.tub_rows import (
    LOSSES,
    Demonstration,
    Loss,
    judge_rows,
    segments,
    stamp_source,
)

__all__ = ["ImportReport", "Loss", "import_recording"]

_FORMAT = "donkeycar-tub-v2"


@attrs.frozen(kw_only=True)
class ImportReport:
    """What came out of a source, and what did not."""

    source: Path
    episodes: tuple[Path, ...]
    steps: int
    losses: tuple[Loss, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 where all was imported, 3 where something was lost."""
        return 3 if self.losses else 0

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "source": str(self.source),
            "episodes": [str(path) for path in self.episodes],
            "steps": self.steps,
            "losses": [loss.as_dict() for loss in self.losses],
            "notes": list(self.notes),
            "exit_code": self.exit_code,
        }


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
        stamps = stamp_source(rows)
        output_dir.mkdir(parents=True, exist_ok=True)
        paths: list[Path] = []
        for run in segments(rows, longest=episode_steps):
            for part in _same_size(run, images):
                metadata = _metadata(tub, part, len(paths), stamps)
                size = images[part[0].position]
                paths.append(_write(tub, part, size, metadata, output_dir))
        notes = _notes(tub, rows, deleted, repeated, stamps)
    return ImportReport(
        source=source,
        episodes=tuple(paths),
        steps=len(rows),
        losses=_name(losses, tub),
        notes=notes,
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
        blob = path.read_bytes()
        try:
            height, width, _ = decode_jpeg(blob).shape
        except DataError:
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
    recorder = EpisodeRecorder(directory, metadata, streams, lossless_pacing=True)
    if recorder.path.exists():
        _check_same(recorder.path, metadata, len(rows))
        return recorder.path
    part = directory / f"{metadata.episode_id}{PART_SUFFIX}"
    if part.exists():
        FileSink(part, create=False).close()
        part.unlink()
    recorder.open()
    for row in rows:
        path = tub.image_path(row.image)
        assert path is not None
        recorder.rgb(path.read_bytes(), capture_ns=row.stamp_ns)
        command = (row.steering, row.throttle)
        recorder.vector(ACTION, command, capture_ns=row.stamp_ns)
    summary = recorder.close(EndReason.SLICE)
    if summary.counts[RGB] != len(rows):
        raise DataError(
            "E-RLDS-IMPORT-006",
            "the disk did not hold the episode",
            where=summary.path,
            seen=f"{summary.counts[RGB]} of {len(rows)} steps, {summary.end_reason}",
            hint="make room, delete this file, and import again",
        )
    return summary.path


def _check_same(path: Path, metadata: EpisodeMetadata, steps: int) -> None:
    there = open_recording(path)
    software = there.metadata.software
    same = attrs.evolve(there.metadata, software=metadata.software) == metadata
    if not same or len(there.streams[RGB]) != steps:
        raise DataError(
            "E-RLDS-IMPORT-007",
            "another episode of this name is there already",
            where=path,
            seen=f"written by {dict(software)}",
            hint="import into an empty directory",
        )


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
    }
    named = []
    for code, count in sorted(losses.items()):
        files = ", ".join(details.get(code, ())[:5])
        named.append(Loss(code, LOSSES[code] + (f": {files}" if files else ""), count))
    return tuple(named)


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
