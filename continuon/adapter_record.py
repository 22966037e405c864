"""Which adapter a robot uses, as its store's one record says; read without JAX.

    history/00000001.adapter      every one that was ever promoted, never changed
    current/record.json           the only thing that says which of them is in use
    compiled/                     what runs it: derived, and made anew at any time

The record is replaced whole; a file that no record names is not in use.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import msgspec

from continuon.durable import replace_file
from continuon.errors import DataError, UsageError

__all__ = [
    "AdapterRecord",
    "AdapterUse",
    "TrailEntry",
    "adapter_path",
    "read_record",
    "roll_back_adapter",
    "write_record",
]

SCHEMA = "continuon.adapter-record/1"
SUFFIX = ".adapter"


@attrs.frozen(kw_only=True)
class TrailEntry:
    """One change of what is in use.

    Attributes:
        adapter: its number in the history, None for the bare network.
        reason: promoted, or why it was rolled back.
        wall_ns: Unix time, as the machine believed it.
    """

    adapter: int | None
    reason: str
    wall_ns: int


@attrs.frozen(kw_only=True)
class AdapterUse:
    """An adapter and what it was judged on; all None for the bare network.

    Attributes:
        adapter: number in the history.
        sha256: of that file, hex.
        base_sha256: the checkpoint for which it was trained and judged.
    """

    adapter: int | None = None
    sha256: str | None = None
    base_sha256: str | None = None


@attrs.frozen(kw_only=True)
class AdapterRecord:
    """What is in use.

    Attributes:
        use: the adapter in use.
        below: what was in use before, oldest first; a rollback takes the last.
        trail: every change, oldest first.
    """

    schema: str = SCHEMA
    use: AdapterUse = AdapterUse()
    below: tuple[AdapterUse, ...] = ()
    trail: tuple[TrailEntry, ...] = ()


def read_record(store: Path) -> AdapterRecord:
    """Return what is in use; without a record that is the bare network.

    Raises:
        DataError: E-HOPE-STORE-001, the record is damaged; nothing is guessed.
    """
    path = _record_path(store)
    try:
        record = msgspec.json.decode(path.read_bytes(), type=AdapterRecord)
    except FileNotFoundError:
        return AdapterRecord()
    except msgspec.DecodeError as error:
        raise _damaged(path, error) from error
    if record.schema != SCHEMA or (record.use.adapter is None) != (
        record.use.sha256 is None
    ):
        raise _damaged(path, record.schema)
    return record


def roll_back_adapter(store: Path, *, reason: str, wall_ns: int) -> AdapterRecord:
    """Put in use what was before; history keeps everything.

    Raises:
        UsageError: E-HOPE-STORE-004, there is nothing before.
    """
    record = read_record(store)
    if not record.below:
        raise UsageError(
            "E-HOPE-STORE-004",
            "there is no adapter to roll back: the bare network is in use",
            where=store,
        )
    before = record.below[-1]
    after = AdapterRecord(
        use=before,
        below=record.below[:-1],
        trail=(
            *record.trail,
            TrailEntry(adapter=before.adapter, reason=reason, wall_ns=wall_ns),
        ),
    )
    write_record(store, after)
    return after


def write_record(store: Path, record: AdapterRecord) -> None:
    """Replace the record whole."""
    replace_file(_record_path(store), msgspec.json.encode(record))


def adapter_path(store: Path, number: int) -> Path:
    """Return where a promoted adapter stands."""
    return store / "history" / f"{number:08d}{SUFFIX}"


def _record_path(store: Path) -> Path:
    return store / "current" / "record.json"


def _damaged(path: Path, seen: object) -> DataError:
    return DataError(
        "E-HOPE-STORE-001",
        "the record of the adapter in use is damaged",
        where=path,
        seen=seen,
        hint="remove it to use the bare network, then `continuon mid run`",
    )
