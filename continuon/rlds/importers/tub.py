"""Import a Donkeycar tub v2 as episodes, its JPEGs unaltered, its faults named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from continuon.errors import DataError
from continuon.rlds.episode import (
    ACTION,
    CAR_FRAME,
    RGB,
    Codec,
    EpisodeMetadata,
    StreamSpec,
)
from continuon.rlds.images import decode_jpeg
from continuon.rlds.importers.facts import imported_metadata
from continuon.rlds.importers.harvest import Harvest, ImportOptions, Located
from continuon.rlds.importers.locate import Format
from continuon.rlds.importers.tub_files import Tub, read_tub
from continuon.rlds.importers.tub_rows import (
    Demonstration,
    backward_steps,
    judge_rows,
    segments,
    stamp_source,
)
from continuon.rlds.importers.write import ImportedEpisode, Reading

__all__ = ["import_tub"]


def import_tub(
    found: Located, harvest: Harvest, options: ImportOptions
) -> Iterator[ImportedEpisode]:
    """Yield unbroken drives of at most `options.episode_steps` steps.

    Raises:
        DataError: its manifest is damaged, or its stamps are no clock's.
    """
    tub = read_tub(found.root, found.name)
    rows, losses, deleted = judge_rows(tub)
    images, repeated = _load_sizes(tub, rows, losses)
    rows = [row for row in rows if row.position in images]
    losses["E-RLDS-TUB-019"] = backward_steps(rows)
    details = {
        "E-RLDS-TUB-010": tub.missing_catalogs,
        "E-RLDS-TUB-011": tub.stale_catalogs,
        "E-RLDS-TUB-018": tub.unused_images,
    }
    for code, count in losses.items():
        harvest.lose(code, count=count)
        harvest.details.setdefault(code, []).extend(details.get(code, ()))
    if deleted:
        harvest.note(
            f"{deleted} rows were marked as deleted by their owner and left out"
        )
    if not rows:
        return
    if 2 * losses["E-RLDS-TUB-019"] > len(rows) - 1 > 0:
        raise DataError(
            "E-RLDS-TUB-002",
            "time runs backwards through this tub, so its stamps are no clock's",
            where=found.where,
            seen=f"{losses['E-RLDS-TUB-019']} of {len(rows) - 1} steps",
            allowed="fewer than half",
        )
    shared = len(rows) - len({row.index for row in rows})
    if shared:
        harvest.note(
            f"{shared} rows have an index that an earlier row has too, with a picture "
            "of their own: kept, in the order of the catalogs"
        )
    stamps = stamp_source(rows)
    _note(harvest, tub, len(rows), repeated, stamps)
    ordinal = 0
    for run in segments(rows, longest=options.episode_steps):
        for part in _same_size(run, images):
            metadata = _metadata(tub, part, ordinal, stamps)
            ordinal += 1
            yield _episode(tub, part, images[part[0].position], metadata)


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


def _episode(
    tub: Tub,
    rows: Sequence[Demonstration],
    size: tuple[int, int],
    metadata: EpisodeMetadata,
) -> ImportedEpisode:
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

    return ImportedEpisode(
        metadata=metadata,
        streams=streams,
        readings=readings,
        counts={RGB: len(rows), ACTION: len(rows)},
    )


def _metadata(
    tub: Tub, rows: Sequence[Demonstration], ordinal: int, stamps: str
) -> EpisodeMetadata:
    return imported_metadata(
        Format.TUB,
        tub.name,
        tub.digest,
        ordinal,
        stamp_source=stamps,
        start_wall_ns=rows[0].stamp_ns,
        robot_model="donkeycar",
        frame_convention=CAR_FRAME,
        facts={
            "session": rows[0].session,
            "first_index": str(rows[0].index),
            "last_index": str(rows[-1].index),
            "first_row": str(rows[0].position),
        },
    )


def _note(harvest: Harvest, tub: Tub, steps: int, repeated: int, stamps: str) -> None:
    if stamps == "conversion":
        harvest.note(
            "stamps are the time of a conversion: no rate or speed follows from it"
        )
    else:
        harvest.note(
            "stamps are the time of writing a record, not of exposing its frame"
        )
    if repeated:
        harvest.note(f"{repeated} of {steps} frames repeat the one before")
    unread = set(tub.inputs) - {tub.image_field, "user/angle", "user/throttle"}
    unread -= {"user/mode"}
    if unread:
        harvest.note(f"inputs not imported: {', '.join(sorted(unread))}")
