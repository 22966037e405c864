"""Which adapter a robot uses: candidate, current and history, with one commit point.

    candidate/candidate.adapter   the last one that was trained, kept even if refused
    history/00000001.adapter      every one that was ever promoted, never changed
    current/record.json           the only thing that says which of them is in use

The record is replaced whole; a file that no record names is not in use.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import attrs
import msgspec

from continuon.errors import DataError, UsageError
from continuon.hope.adapter import Adapter, LoadedAdapter, load_adapter, save_adapter
from continuon.hope.config import HopeConfig
from continuon.tensorfile import replace_file, sync_folder

__all__ = [
    "AdapterRecord",
    "AdapterUse",
    "TrailEntry",
    "candidate_path",
    "current_adapter",
    "promote_candidate",
    "put_candidate",
    "read_record",
    "roll_back_adapter",
]

SCHEMA = "continuon.adapter-record/1"
_SUFFIX = ".adapter"


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


def candidate_path(store: Path) -> Path:
    """Return where the candidate's file stands."""
    return store / "candidate" / f"candidate{_SUFFIX}"


def put_candidate(
    store: Path, config: HopeConfig, adapter: Adapter, *, base_sha256: str
) -> str:
    """Write a candidate, replacing the one before; return its SHA-256, hex."""
    path = candidate_path(store)
    return save_adapter(path, config, adapter, metadata={"base_sha256": base_sha256})


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


def current_adapter(
    store: Path, config: HopeConfig, *, base_sha256: str
) -> LoadedAdapter | None:
    """Return the adapter in use, None where the network is used bare.

    An adapter that was judged on another base is not in use: an update brings a new
    base, and the old adapter was never measured on it.

    Raises:
        DataError: E-HOPE-STORE-001 or -002, the record or its file is damaged.
    """
    use = read_record(store).use
    if use.adapter is None or use.base_sha256 != base_sha256:
        return None
    loaded = load_adapter(_path(store, use.adapter), config)
    if loaded.sha256 != use.sha256:
        raise DataError(
            "E-HOPE-STORE-002",
            "the adapter in use is not the one that was promoted",
            where=_path(store, use.adapter),
            seen=loaded.sha256,
            allowed=use.sha256,
            hint="continuon mid rollback",
        )
    return loaded


def promote_candidate(
    store: Path, *, sha256: str, base_sha256: str, wall_ns: int
) -> AdapterRecord:
    """Put the candidate with this digest in use.

    Raises:
        DataError: E-HOPE-STORE-003, the candidate's file is not the judged one.
    """
    record = read_record(store)
    path = candidate_path(store)
    history = store / "history"
    history.mkdir(parents=True, exist_ok=True)
    number = max((int(p.stem) for p in history.glob(f"*{_SUFFIX}")), default=0) + 1
    os.link(path, _path(store, number))
    seen = _sha256(_path(store, number))
    if seen != sha256:
        _path(store, number).unlink()
        raise DataError(
            "E-HOPE-STORE-003",
            "the candidate is not the one that was judged",
            where=path,
            seen=seen,
            allowed=sha256,
        )
    sync_folder(history)
    after = AdapterRecord(
        use=AdapterUse(adapter=number, sha256=sha256, base_sha256=base_sha256),
        below=(*record.below, record.use),
        trail=(
            *record.trail,
            TrailEntry(adapter=number, reason="promoted", wall_ns=wall_ns),
        ),
    )
    _write(store, after)
    return after


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
    _write(store, after)
    return after


def _write(store: Path, record: AdapterRecord) -> None:
    replace_file(_record_path(store), [msgspec.json.encode(record)])


def _record_path(store: Path) -> Path:
    return store / "current" / "record.json"


def _path(store: Path, number: int) -> Path:
    return store / "history" / f"{number:08d}{_SUFFIX}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _damaged(path: Path, seen: object) -> DataError:
    return DataError(
        "E-HOPE-STORE-001",
        "the record of the adapter in use is damaged",
        where=path,
        seen=seen,
        hint="remove it to use the bare network, then `continuon mid run`",
    )
