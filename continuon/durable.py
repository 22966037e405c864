"""Files that survive a power cut whole, or not at all.

One replacement for every room: the new bytes go to a hidden part file beside the old
one, reach the medium, take the name, and the folder's entry reaches the medium too.
A reader at any moment, and after any crash, sees the old file or the new.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["replace_file", "sync_directory"]


def replace_file(path: Path, *parts: bytes | memoryview, mode: int = 0o644) -> None:
    """Replace `path` by the parts, one after another; its folder is made if absent.

    Args:
        path: what to replace.
        parts: the new bytes.
        mode: permissions of the new file, less the process's umask.

    Raises:
        OSError: the medium refused; `path` holds what it held before, unless only the
            last step failed, the flush of the folder: then it may hold either.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _write(part, parts, mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Bring a folder's entries to the medium.

    Raises:
        OSError: the medium refused, or this is no folder.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, parts: Iterable[bytes | memoryview], mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
