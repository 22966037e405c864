"""Which adapter a robot uses, as its store's one record says; read without JAX.

    history/00000001.adapter      every one that was ever promoted, never changed
    current/record.json           the only thing that says which of them is in use
    compiled/                     what runs it: derived, and made anew at any time

The record is replaced whole; a file that no record names is not in use. An adapter
belongs to the base on which it was judged: after an update to another base it is set
aside in the same record, and is in use again where its base is.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import attrs
import msgspec

from continuon.durable import replace_file
from continuon.errors import DataError, UsageError

__all__ = [
    "NO_ADAPTER",
    "AdapterRecord",
    "AdapterUse",
    "TrailEntry",
    "Trial",
    "adapter_path",
    "changing",
    "fitting",
    "mark_trial",
    "read_record",
    "report_path",
    "roll_back_adapter",
    "write_record",
]

SCHEMA = "continuon.adapter-record/1"
SUFFIX = ".adapter"
Trial = Literal["due", "begun", "passed"]


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
        trial: how far it came under a running loop. One whose trial was begun and did
            not end is not taken up again: what ended it may have been the adapter.
    """

    adapter: int | None = None
    sha256: str | None = None
    base_sha256: str | None = None
    trial: Trial = "due"


NO_ADAPTER = AdapterUse()


@attrs.frozen(kw_only=True)
class AdapterRecord:
    """What is in use.

    Attributes:
        use: the adapter in use.
        below: what was in use before, oldest first; a rollback takes the last.
        trail: every change, oldest first.
    """

    schema: str = SCHEMA
    use: AdapterUse = NO_ADAPTER
    below: tuple[AdapterUse, ...] = ()
    trail: tuple[TrailEntry, ...] = ()


def fitting(record: AdapterRecord, bases: frozenset[str]) -> AdapterUse:
    """Return what is in use on a base that has these names; `NO_ADAPTER` for none.

    It is the newest of those that were judged on it; one of another base stays where
    it is.
    """
    for use in (record.use, *reversed(record.below)):
        if use.base_sha256 in bases and use.sha256 is not None:
            return use
    return NO_ADAPTER


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


def roll_back_adapter(
    store: Path, *, reason: str, wall_ns: int, bases: frozenset[str] | None = None
) -> AdapterRecord:
    """Put in use what was before; history keeps everything.

    Args:
        store: of adapters.
        reason: for the record.
        wall_ns: Unix time.
        bases: names of the base that drives: the newest adapter that fits it goes, and
            those of another base stay; None takes the newest of all.

    Raises:
        UsageError: E-HOPE-STORE-004, there is nothing before.
    """
    if not _record_path(store).exists():
        raise _bare(store)  # and leave no lock behind in a home that has no adapter
    with changing(store):
        record = read_record(store)
        gone = record.use if bases is None else fitting(record, bases)
        if not record.below or gone.adapter is None:
            raise _bare(store)
        kept = [use for use in (*record.below, record.use) if use != gone]
        now = kept[-1] if bases is None else fitting(_of(kept, record), bases)
        entry = TrailEntry(adapter=now.adapter, reason=reason, wall_ns=wall_ns)
        after = attrs.evolve(_of(kept, record), trail=(*record.trail, entry))
        write_record(store, after)
        return after


def _bare(store: Path) -> UsageError:
    return UsageError(
        "E-HOPE-STORE-004",
        "there is no adapter to roll back: the bare network is in use",
        where=store,
    )


def mark_trial(store: Path, adapter: int, trial: Trial) -> AdapterRecord:
    """Note how far the trial of an adapter came.

    Raises:
        UsageError: E-HOPE-STORE-005, the record does not name it any more.
    """
    with changing(store):
        record = read_record(store)
        uses = (*record.below, record.use)
        if adapter not in {use.adapter for use in uses}:
            raise UsageError(
                "E-HOPE-STORE-005",
                "this adapter is not in use any more",
                where=store,
                seen=adapter,
                allowed=record.use.adapter,
            )
        marked = [
            attrs.evolve(use, trial=trial) if use.adapter == adapter else use
            for use in uses
        ]
        after = _of(marked, record)
        write_record(store, after)
        return after


@contextmanager
def changing(store: Path) -> Iterator[None]:
    """Hold the record while it is read, changed and written: one writer at a time."""
    path = _record_path(store).with_name(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_record(store: Path, record: AdapterRecord) -> None:
    """Replace the record whole."""
    replace_file(_record_path(store), msgspec.json.encode(record))


def adapter_path(store: Path, number: int) -> Path:
    """Return where a promoted adapter stands."""
    return store / "history" / f"{number:08d}{SUFFIX}"


def report_path(store: Path, number: int) -> Path:
    """Return where the report of its promotion stands, with the gate's figures."""
    return store / "history" / f"{number:08d}.json"


def _of(uses: list[AdapterUse], record: AdapterRecord) -> AdapterRecord:
    return attrs.evolve(record, use=uses[-1], below=tuple(uses[:-1]))


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
