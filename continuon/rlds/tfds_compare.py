"""Is what was written what it was made from? Field by field, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from continuon.errors import DataError
from continuon.rlds.depth_codecs import decode_depth, depth_pngs
from continuon.rlds.raw_depth import RawDepths
from continuon.rlds.recording import buffers
from continuon.rlds.steps import EpisodeSteps, steps_of
from continuon.rlds.tfds_read import read_tfds_steps

__all__ = ["check_equal"]


def check_equal(work: Path, files: Sequence[Path]) -> None:
    """Read a directory back and compare every field of every step with its source.

    Raises:
        DataError: something reads back differently.
    """
    parts = read_tfds_steps(work)
    for file in files:
        steps = steps_of(file, verify=False)  # its CRCs were checked when it was read
        start = 0
        while start < len(steps):
            part = next(parts, None)
            if part is None or not _equal(steps, start, part):
                raise DataError(
                    "E-RLDS-CONVERT-003",
                    "what was written reads back differently",
                    where=work,
                    seen=f"{file.name} from step {start}",
                    hint="the disk or the memory is faulty; nothing was published",
                )
            start += len(part)
    if next(parts, None) is not None:
        raise DataError(
            "E-RLDS-CONVERT-003", "more reads back than was written", where=work
        )


def _equal(steps: EpisodeSteps, start: int, part: EpisodeSteps) -> bool:
    rows = slice(start, start + len(part))
    columns = ("stamp_ns", "state", "action", "valid", "is_terminal")
    same = all(
        np.array_equal(
            getattr(steps, name)[rows],
            getattr(part, name),
            equal_nan=name in {"state", "action"},
        )
        for name in columns
    )
    skews = part.skew_ns
    return (
        same
        and len(part) > 0
        and steps.metadata == part.metadata
        and set(steps.skew_ns) == set(skews)
        and all(np.array_equal(steps.skew_ns[n][rows], skews[n]) for n in skews)
        and _same_blobs(steps.image[rows], part.image)
        and _same_depth(steps, rows, part)
    )


def _same_depth(steps: EpisodeSteps, rows: slice, part: EpisodeSteps) -> bool:
    if steps.depth is None or part.depth is None:
        return steps.depth is part.depth
    if isinstance(part.depth, RawDepths):
        return all(
            np.array_equal(decode_depth(bytes(picture)), part.depth.counts(at))
            for at, picture in enumerate(buffers(steps.depth[rows]))
        )
    return _same_blobs(depth_pngs(steps.depth[rows]), part.depth)


def _same_blobs(ours: Sequence[bytes], theirs: Sequence[bytes]) -> bool:
    """Compare blob by blob; each side is touched once and only one is copied."""
    if len(ours) != len(theirs):
        return False
    for our, their in zip(buffers(ours), buffers(theirs), strict=True):
        copy: object = bytearray(our)  # compares with a view by memcmp
        if copy != their:
            return False
    return True
