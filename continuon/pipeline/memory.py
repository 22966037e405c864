"""Memory of a process and everything that it started, alive at the same time.

Private pages add up; pages of files and shared memory, which mostly are the same ones
in every process, count once, with the process that has most of them. Linux gives both
in /proc/PID/status, without stopping the process that is looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

__all__ = ["TreePeak", "tree_bytes", "watch_tree"]

_PROC = Path("/proc")
_EVERY_S = 0.2


@attrs.define
class TreePeak:
    """The most that was seen so far, in bytes."""

    bytes: int = 0


@contextmanager
def watch_tree(pid: int, *, every_s: float = _EVERY_S) -> Iterator[TreePeak]:
    """Look at a process and its descendants now and then, in a thread, until the end.

    What lives shorter than `every_s` can be missed.
    """
    peak = TreePeak()
    over = threading.Event()

    def look() -> None:
        while True:
            peak.bytes = max(peak.bytes, tree_bytes(pid))
            if over.wait(every_s):
                return

    thread = threading.Thread(target=look, name="memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def tree_bytes(pid: int, proc: Path = _PROC) -> int:
    """Return the memory of a process and its descendants now; 0 when it is gone."""
    private = shared = 0
    for one in _family(pid, proc):
        sizes = _sizes(proc / str(one) / "status")
        private += sizes.get("RssAnon", 0)
        shared = max(shared, sizes.get("RssFile", 0) + sizes.get("RssShmem", 0))
    return private + shared


def _family(pid: int, proc: Path) -> set[int]:
    parents = {}
    for entry in proc.iterdir():
        if entry.name.isdecimal() and (parent := _parent(entry / "stat")) is not None:
            parents[int(entry.name)] = parent
    family = {pid}
    while more := {one for one, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def _parent(stat: Path) -> int | None:
    """Return the parent in a stat file, whose second field may hold any character."""
    try:
        return int(stat.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
    except OSError:  # it ended while we looked
        return None


def _sizes(status: Path) -> dict[str, int]:
    try:
        lines = status.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines if line.endswith(" kB"))
    return {name: int(size.split()[0]) * 1024 for name, _, size in pairs}
