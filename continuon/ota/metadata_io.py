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
from continuon.ota.lock_io import hold_lock

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
        process that dies leaves the directory as it was. A copy that ends as it began
        is dropped, and costs no flush. One process at a time: of two, the later to end
        could put back what the other has moved on from.
        """
        with hold_lock(self.path, wait=True):
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
        taken = [item.name.removeprefix(_GENERATION) for item in self._generations()]
        copy = self.path / f"{_GENERATION}{max(map(int, taken), default=0) + 1}"
        copy.mkdir()
        for name in self.names():
            shutil.copyfile(self.path / name, copy / name)
        if current is not None and (current / _HISTORY).is_dir():
            shutil.copytree(current / _HISTORY, copy / _HISTORY)
        return copy

    def _commit(self, copy: Path) -> None:
        """Durable copy first, then the names, then the one switch. One flush.

        The switch itself is made durable by whatever is flushed next, which is before
        anything is installed; until then a cut leaves the generation before, and so
        that one goes only at the next commit, behind the next flush.
        """
        fresh, kept = _contents(copy), _contents(self.path)
        # A full disk can end python-tuf between taking its root away and putting the
        # next one there. A directory without its root would trust the pinned one again,
        # and with it keys that were revoked since.
        if fresh == kept or ("root.json" in kept and "root.json" not in fresh):
            shutil.rmtree(copy)
            return
        previous = self._current()
        store = DiskStore(self.path)
        store.sync_all("metadata")
        for item in self._generations():
            if item not in {previous, copy}:
                shutil.rmtree(item)
        for name in fresh:
            self._link(name, f"{CURRENT}/{name}")
        self._link(CURRENT, copy.name)
        gone = [item for item in self.path.glob("*.json") if item.name not in fresh]
        if gone:
            store.sync_directory("")
        for item in gone:
            item.unlink()

    def _generations(self) -> list[Path]:
        found = self.path.glob(f"{_GENERATION}*")
        return [item for item in found if item.name.removeprefix(_GENERATION).isdigit()]

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


def _contents(folder: Path) -> dict[str, bytes]:
    """Return the metadata that can be read in a folder, by file name."""
    found = folder.glob("*.json")
    return {item.name: item.read_bytes() for item in found if item.exists()}
