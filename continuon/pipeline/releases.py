"""Which release a bundle's contents are: the counter only ever goes up."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from continuon.durable import replace_file
from continuon.errors import DataError

__all__ = ["SEED_COUNTER", "release_counter"]

SEED_COUNTER = 1


def release_counter(path: Path, digest: str) -> int:
    """Return the release counter of contents by their digest, giving out a new one.

    The record at `path` maps digests to counters. The seed bundle is 1; new contents
    get one more than the highest given so far, and keep it until others follow. What
    comes back after others is a new release: robots never go back.

    Raises:
        DataError: the record is damaged; guessing could let a counter go back.
    """
    known: dict[str, int] = {}
    if path.exists():
        try:
            known = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
        except msgspec.DecodeError as error:
            raise DataError(
                "E-PIPE-RELEASE-001",
                "the record of release counters is damaged",
                where=path,
                seen=error,
                hint="restore it; a counter that goes back would be refused by robots",
            ) from error
    highest = max([SEED_COUNTER, *known.values()])
    if known.get(digest) != highest:
        known[digest] = highest + 1
        replace_file(path, json.dumps(known, indent=1, sort_keys=True).encode())
    return known[digest]
