"""A directory of trusted metadata that changes as a whole or not at all.

python-tuf never flushes and replaces its root in two steps, so it never works on the
directory itself: it gets a copy (a generation), and the copy becomes the directory by
one rename of the link `.current`. The names that readers see (`root.json`...) are links
through it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from continuon.ota.disk import DiskStore

__all__ = ["MetadataDirectory"]

CURRENT = ".current"
_GENERATION = ".gen-"
_HISTORY = "root_history"


class MetadataDirectory:
    """Trusted metadata at `path`, readable as plain files at any moment."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def working_copy(self) -> Iterator[Path]:
        """Yield a copy to work on; commit it, also if the work ends in an error.

        A refused update still moves trust forward (a verified new root stays trusted
        although the timestamp was stale), so what was verified is kept either way. A
        process that dies leaves the directory as it was.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        copy = self._begin()
        try:
            yield copy
        finally:
            self._commit(copy)

    def names(self) -> tuple[str, ...]:
        """Return the metadata files that can be read."""
        files = self.path.glob("*.json")
        return tuple(sorted(item.name for item in files if item.exists()))

    def _begin(self) -> Path:
        current = self._current()
        numbers = [
            int(item.name.removeprefix(_GENERATION))
            for item in self.path.glob(f"{_GENERATION}*")
            if item.name.removeprefix(_GENERATION).isdigit()
        ]
        for item in self.path.glob(f"{_GENERATION}*"):
            if item != current:
                shutil.rmtree(item)
        copy = self.path / f"{_GENERATION}{max(numbers, default=0) + 1}"
        copy.mkdir()
        for name in self.names():
            shutil.copyfile(self.path / name, copy / name)
        if current is not None and (current / _HISTORY).is_dir():
            shutil.copytree(current / _HISTORY, copy / _HISTORY)
        return copy

    def _commit(self, copy: Path) -> None:
        """Durable copy first, then names, then the one switch, then its durability."""
        store = DiskStore(self.path)
        store.sync_all("metadata")
        fresh = {item.name for item in copy.glob("*.json") if item.exists()}
        for name in fresh:
            self._link(name, f"{CURRENT}/{name}")
        previous = self._current()
        self._link(CURRENT, copy.name)
        store.sync_directory("")
        for item in self.path.glob("*.json"):
            if item.name not in fresh:
                item.unlink()
        if previous is not None and previous != copy:
            shutil.rmtree(previous)

    def _current(self) -> Path | None:
        link = self.path / CURRENT
        if not link.is_symlink():
            return None
        target = self.path / link.readlink()
        return target if target.is_dir() else None

    def _link(self, name: str, target: str) -> None:
        """Make or replace a link by one rename; leave a right one alone."""
        path = self.path / name
        if path.is_symlink() and str(path.readlink()) == target:
            return
        temporary = self.path / f"{name}.new"
        if os.path.lexists(temporary):
            temporary.unlink()
        temporary.symlink_to(target)
        temporary.rename(path)
