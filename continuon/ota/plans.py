"""Which effects, in which order.

Each order is load-bearing: the crash explorer shows that leaving one flush out, or
swapping two steps, loses a bundle or a commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from continuon.ota.effects import (
    CheckSlot,
    CopyFile,
    Effect,
    MakeDirectory,
    Remove,
    Rename,
    SyncAll,
    SyncDirectory,
    SyncFile,
    WriteFile,
)
from continuon.ota.record import Record, encode_record

__all__ = [
    "INCOMING",
    "SLOTS",
    "STATE",
    "TRIAGE",
    "activate_plan",
    "collect_plan",
    "prepare_plan",
    "record_plan",
    "stage_plan",
    "triage_plan",
]

ROOT = ""
STATE = "state"
STATE_NEW = "state.new"
SLOTS = "slots"
INCOMING = "incoming"
TRIAGE = "triage"
TRIAGE_NEW = "triage/new"


def prepare_plan(missing: Iterable[str]) -> tuple[Effect, ...]:
    """Return what makes the top directories.

    No flush: a slot's `SyncAll` and a record's `SyncDirectory` make them durable before
    anything refers to them.
    """
    return tuple(MakeDirectory(path) for path in missing)


def record_plan(record: Record) -> tuple[Effect, ...]:
    """Return the switch: write aside, flush, rename, flush the name. Two flushes."""
    return (
        WriteFile(STATE_NEW, encode_record(record)),
        SyncFile(STATE_NEW),
        Rename(STATE_NEW, STATE),
        SyncDirectory(ROOT),
    )


def activate_plan(record: Record) -> tuple[Effect, ...]:
    """Return the switch to a staged slot: a `record_plan` whose flush is of everything.

    That one flush makes the slot's name durable too, which staging has left open.
    """
    return (
        WriteFile(STATE_NEW, encode_record(record)),
        SyncAll("activate"),
        Rename(STATE_NEW, STATE),
        SyncDirectory(ROOT),
    )


def stage_plan(bundle: str, files: Mapping[str, str] | None) -> tuple[Effect, ...]:
    """Return what makes a slot: bytes durable, read back, then the name. One flush.

    `files` maps paths inside the bundle to sources outside the model root; None means
    that the fetcher has put them into `incoming/` already. Until it is activated, a cut
    leaves the bundle whole under either name.
    """
    incoming = f"{INCOMING}/{bundle}"
    slot = f"{SLOTS}/{bundle}"
    copies: list[Effect] = []
    if files is not None:
        copies = [Remove(incoming), MakeDirectory(incoming)]
        folders = {
            "/".join(path.split("/")[:depth])
            for path in files
            for depth in range(1, path.count("/") + 1)
        }
        copies += [MakeDirectory(f"{incoming}/{folder}") for folder in sorted(folders)]
        copies += [
            CopyFile(source, f"{incoming}/{path}")
            for path, source in sorted(files.items())
        ]
    return (
        *copies,
        SyncAll("stage"),
        CheckSlot(incoming, bundle),
        Remove(slot),
        Rename(incoming, slot),
    )


def triage_plan(bundle: str, files: Mapping[str, bytes]) -> tuple[Effect, ...]:
    """Return what keeps the evidence of a failure, whole or not at all."""
    final = f"{TRIAGE}/{bundle}"
    return (
        Remove(TRIAGE_NEW),
        MakeDirectory(TRIAGE_NEW),
        *(WriteFile(f"{TRIAGE_NEW}/{name}", files[name]) for name in sorted(files)),
        SyncAll("triage"),
        Remove(final),
        Rename(TRIAGE_NEW, final),
        SyncDirectory(TRIAGE),
    )


def collect_plan(paths: Iterable[str]) -> tuple[Effect, ...]:
    """Return what removes unreferenced things; a crash merely leaves some of them."""
    return tuple(Remove(path) for path in paths)
