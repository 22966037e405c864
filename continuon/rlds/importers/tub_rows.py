"""Which rows of a tub are a person's demonstration, and where it is interrupted."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from continuon.rlds.importers.tub_files import Tub, TubRow

__all__ = [
    "Demonstration",
    "backward_steps",
    "judge_rows",
    "segments",
    "stamp_source",
]

MAX_GAP_NS = 1_000_000_000
MIN_CAMERA_DT_NS = 8_000_000
"""No camera of such a car is faster than 125 Hz: a shorter median dt is no capture."""
_ROUNDING = 1e-3


@attrs.frozen
class Demonstration:
    """One usable row: who, when, which image, which command."""

    position: int
    index: int
    session: str
    stamp_ns: int
    image: str
    steering: float
    throttle: float


def judge_rows(tub: Tub) -> tuple[list[Demonstration], Counter[str], int]:
    """Return (usable rows in file order, losses by code, rows deleted by their owner).

    A row keeps its `position`, so that a dropped neighbour shows as a gap.
    """
    losses: Counter[str] = Counter()
    owners = _image_owners(tub)
    kept, deleted = [], 0
    for position, row in enumerate(tub.rows):
        judged = _judge(row, position, tub, owners)
        if isinstance(judged, Demonstration):
            kept.append(judged)
        elif judged:
            losses[judged] += 1
        else:
            deleted += 1
    losses["E-RLDS-TUB-010"] = len(tub.missing_catalogs)
    losses["E-RLDS-TUB-011"] = tub.stale_rows
    losses["E-RLDS-TUB-018"] = len(tub.unused_images)
    return kept, losses, deleted


def _judge(
    row: TubRow, position: int, tub: Tub, owners: Mapping[str, int]
) -> Demonstration | str:
    """Return the row, the code of its loss, or "" where its owner deleted it."""
    fields = row.fields
    if fields is None or not _is_stamped(fields):
        return "E-RLDS-TUB-012"
    if fields["_index"] in tub.deleted:
        return ""
    if fields.get("user/mode") != "user":
        return "E-RLDS-TUB-014"
    image = fields.get(tub.image_field)
    if not isinstance(image, str):
        return "E-RLDS-TUB-016"
    if owners[image] != position:
        return "E-RLDS-TUB-013"
    steering = _command(fields.get("user/angle"))
    throttle = _command(fields.get("user/throttle"))
    if steering is None or throttle is None:
        return "E-RLDS-TUB-015"
    return Demonstration(
        position,
        fields["_index"],
        str(fields.get("_session_id", "")),
        fields["_timestamp_ms"] * 1_000_000,
        image,
        steering,
        throttle,
    )


def _is_stamped(fields: Mapping[str, Any]) -> bool:
    return all(
        isinstance(fields.get(key), int)
        and not isinstance(fields[key], bool)
        and 0 <= fields[key] < 1 << 43
        for key in ("_index", "_timestamp_ms")
    )


def _image_owners(tub: Tub) -> dict[str, int]:
    """Return for each image file the position of the row that was written last."""
    owners: dict[str, tuple[int, int]] = {}
    for position, row in enumerate(tub.rows):
        fields = row.fields
        if fields is None or not _is_stamped(fields):
            continue
        image = fields.get(tub.image_field)
        if isinstance(image, str):
            claim = (fields["_timestamp_ms"], position)
            owners[image] = max(owners.get(image, claim), claim)
    return {image: position for image, (_, position) in owners.items()}


def _command(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not abs(value) <= 1 + _ROUNDING:  # NaN is not; compares whole numbers exactly
        return None
    return max(-1.0, min(1.0, float(value)))


def segments(
    rows: Sequence[Demonstration], *, longest: int
) -> Iterator[tuple[Demonstration, ...]]:
    """Yield unbroken runs of at most `longest` rows.

    A run ends where a row was dropped or is absent, the session changes, or time goes
    back or jumps by more than a second.
    """
    run: list[Demonstration] = []
    for row in rows:
        if run and (len(run) == longest or _breaks(run[-1], row)):
            yield tuple(run)
            run = []
        run.append(row)
    if run:
        yield tuple(run)


def _breaks(before: Demonstration, after: Demonstration) -> bool:
    step = after.stamp_ns - before.stamp_ns
    return (
        after.position != before.position + 1
        or after.index != before.index + 1
        or after.session != before.session
        or not 0 <= step <= MAX_GAP_NS
    )


def backward_steps(rows: Sequence[Demonstration]) -> int:
    """Return how many rows of one session are stamped before the row they follow."""
    return sum(
        after.session == before.session and after.stamp_ns < before.stamp_ns
        for before, after in itertools.pairwise(rows)
    )


def stamp_source(rows: Sequence[Demonstration]) -> str:
    """Return "write", or "conversion" where rows follow faster than any camera.

    Donkeycar stamps a record when it is written, not when its frame was exposed; a tub
    that was converted carries the time of conversion.
    """
    steps = np.diff([row.stamp_ns for row in rows])
    steps = steps[steps >= 0]
    if not steps.size or np.median(steps) >= MIN_CAMERA_DT_NS:
        return "write"
    return "conversion"
