"""Which adapter a robot uses: candidate, current and history, with one commit point.

    candidate/candidate.adapter   the last one that was trained, kept even if refused
    history/00000001.adapter      every one that was ever promoted, never changed
    current/record.json           the only thing that says which of them is in use

The record is replaced whole; a file that no record names is not in use.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from continuon.adapter_record import (
    SUFFIX,
    AdapterRecord,
    AdapterUse,
    TrailEntry,
    adapter_path,
    changing,
    fitting,
    read_record,
    report_path,
    roll_back_adapter,
    write_record,
)
from continuon.durable import replace_file, sync_directory
from continuon.errors import DataError, UsageError
from continuon.hope.adapter import Adapter, LoadedAdapter, load_adapter, save_adapter
from continuon.hope.config import HopeConfig

__all__ = [
    "AdapterRecord",
    "AdapterUse",
    "TrailEntry",
    "candidate_path",
    "current_adapter",
    "one_learner",
    "promote_candidate",
    "put_candidate",
    "read_record",
    "roll_back_adapter",
]


def candidate_path(store: Path) -> Path:
    """Return where the candidate's file stands."""
    return store / "candidate" / f"candidate{SUFFIX}"


def put_candidate(
    store: Path,
    config: HopeConfig,
    adapter: Adapter,
    *,
    base_sha256: str,
    origin: str | None = None,
) -> str:
    """Write a candidate, replacing the one before; return its SHA-256, hex.

    `origin` is the label of what it was learnt from.
    """
    facts = {"base_sha256": base_sha256, "origin": origin}
    return save_adapter(candidate_path(store), config, adapter, metadata=facts)


def current_adapter(
    store: Path, config: HopeConfig, *, base_sha256: str
) -> LoadedAdapter | None:
    """Return the adapter in use on this base, None where the network is used bare.

    An adapter that was judged on another base is not in use: an update brings a new
    base, and the old adapter was never measured on it.

    Raises:
        DataError: E-HOPE-STORE-001 or -002, the record or its file is damaged.
    """
    use = fitting(read_record(store), frozenset((base_sha256,)))
    if use.adapter is None:
        return None
    loaded = load_adapter(adapter_path(store, use.adapter), config)
    if loaded.sha256 != use.sha256:
        raise DataError(
            "E-HOPE-STORE-002",
            "the adapter in use is not the one that was promoted",
            where=adapter_path(store, use.adapter),
            seen=loaded.sha256,
            allowed=use.sha256,
            hint="continuon mid rollback",
        )
    return loaded


def promote_candidate(
    store: Path,
    *,
    sha256: str,
    base_sha256: str,
    wall_ns: int,
    report: bytes | None = None,
) -> AdapterRecord:
    """Put the candidate with this digest in use; its trial is due.

    Adapter and report stand in the history before the record names them: power that
    fails in between leaves files that no record names, and a number that is passed
    over.

    Args:
        store: of adapters.
        sha256: of the candidate that was judged.
        base_sha256: the checkpoint on which it was judged.
        wall_ns: Unix time.
        report: of the run that judged it, JSON.

    Raises:
        DataError: E-HOPE-STORE-003, the candidate's file is not the judged one.
    """
    path, history = candidate_path(store), store / "history"
    seen = _sha256(path)
    if seen != sha256:
        raise DataError(
            "E-HOPE-STORE-003",
            "the candidate is not the one that was judged",
            where=path,
            seen=seen,
            allowed=sha256,
        )
    with changing(store):
        record = read_record(store)
        history.mkdir(parents=True, exist_ok=True)
        taken = (int(p.stem) for p in history.iterdir() if p.stem.isdigit())
        number = max(taken, default=0) + 1
        os.link(path, adapter_path(store, number))
        if report is not None:
            replace_file(report_path(store, number), report)
        sync_directory(history)
        after = AdapterRecord(
            use=AdapterUse(adapter=number, sha256=sha256, base_sha256=base_sha256),
            below=(*record.below, record.use),
            trail=(
                *record.trail,
                TrailEntry(adapter=number, reason="promoted", wall_ns=wall_ns),
            ),
        )
        write_record(store, after)
        return after


@contextmanager
def one_learner(store: Path) -> Iterator[None]:
    """Hold the candidate's place: two learners would overwrite each other's.

    Raises:
        UsageError: E-HOPE-STORE-006, another one learns there now.
    """
    path = store / ".learner.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UsageError(
            "E-HOPE-STORE-006",
            "another learner works on this store",
            where=store,
            hint="wait until it is done, or stop it: `continuon mid status`",
        ) from None
    try:
        yield
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
