"""The store that the stager's effects run on, and the loop that runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import attrs

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

__all__ = ["Check", "Space", "Store", "perform"]


@attrs.frozen
class Space:
    """Bytes of the filesystem that holds the model root."""

    free_bytes: int
    total_bytes: int


class Store(Protocol):
    """A small filesystem below one root. Every method may raise OSError.

    What a write or a rename did is visible at once and durable only after the flush
    that covers it; at a power cut anything not flushed may be there, or not, or torn.
    """

    def make_directory(self, path: str) -> None:
        """Create a directory; its parent exists, and it may exist already."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Create or overwrite a file."""
        ...

    def copy_in(self, source: str, path: str) -> None:
        """Copy a file from outside."""
        ...

    def sync_file(self, path: str) -> None:
        """Flush one file's bytes."""
        ...

    def sync_directory(self, path: str) -> None:
        """Flush the names in one directory."""
        ...

    def sync_all(self, why: str) -> None:
        """Flush the filesystem."""
        ...

    def rename(self, source: str, path: str) -> None:
        """Rename a file or directory; a file at `path` is replaced."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file or a whole tree, or nothing."""
        ...

    def read(self, path: str, *, max_bytes: int) -> bytes:
        """Return a file's bytes, at most `max_bytes` of them."""
        ...

    def entries(self, path: str) -> list[str]:
        """Return the sorted names in a directory; none when there is no directory."""
        ...

    def exists(self, path: str) -> bool:
        """Return whether something has this name."""
        ...

    def tree_bytes(self, path: str) -> int:
        """Return the bytes of all files below `path`; 0 when it is not there."""
        ...

    def space(self) -> Space:
        """Return how much room there is."""
        ...


Check = Callable[[str, str], None]
"""Verifies the bundle `id` at a path of the store, from the medium, or raises."""


def perform(effects: Iterable[Effect], store: Store, check: Check) -> None:
    """Run effects in order; the first that raises stops the rest."""
    for effect in effects:
        match effect:
            case MakeDirectory(path):
                store.make_directory(path)
            case WriteFile(path, data):
                store.write(path, data)
            case CopyFile(source, path):
                store.copy_in(source, path)
            case SyncFile(path):
                store.sync_file(path)
            case SyncDirectory(path):
                store.sync_directory(path)
            case SyncAll(why):
                store.sync_all(why)
            case Rename(source, path):
                store.rename(source, path)
            case Remove(path):
                store.remove(path)
            case CheckSlot(path, bundle):
                check(path, bundle)
