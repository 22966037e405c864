"""What the stager wants done, as data. Interpreters do it: a disk, or a simulated one.

Paths are relative to the model root and use `/`.
"""

from __future__ import annotations

import attrs

__all__ = [
    "CheckSlot",
    "CopyFile",
    "Effect",
    "MakeDirectory",
    "Remove",
    "Rename",
    "SyncAll",
    "SyncDirectory",
    "SyncFile",
    "WriteFile",
]


@attrs.frozen
class MakeDirectory:
    """Create a directory; its parent exists, and it may exist already."""

    path: str


@attrs.frozen
class WriteFile:
    """Create or overwrite a small file. Not durable by itself."""

    path: str
    data: bytes


@attrs.frozen
class CopyFile:
    """Copy a file from outside the model root. Not durable by itself."""

    source: str
    path: str


@attrs.frozen
class SyncFile:
    """Make one file's bytes durable (not its name)."""

    path: str


@attrs.frozen
class SyncDirectory:
    """Make the names in one directory durable."""

    path: str


@attrs.frozen
class SyncAll:
    """Make everything on the model root's filesystem durable, as one flush."""

    why: str


@attrs.frozen
class Rename:
    """Give a file or directory another name, atomically."""

    source: str
    path: str


@attrs.frozen
class Remove:
    """Remove a file or a whole directory; nothing there is no fault."""

    path: str


@attrs.frozen
class CheckSlot:
    """Read a bundle back from the medium and verify it; raises when it is not whole."""

    path: str
    bundle: str


Effect = (
    MakeDirectory
    | WriteFile
    | CopyFile
    | SyncFile
    | SyncDirectory
    | SyncAll
    | Rename
    | Remove
    | CheckSlot
)
