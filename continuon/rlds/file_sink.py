"""Files that are appended to and then published whole: the room's disk shell."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from continuon.durable import sync_directory
from continuon.errors import DataError
from continuon.rlds.wire import Buffer

__all__ = ["FileSink", "publish_file", "sha256_of"]

_MAX_BUFFERS = 512
_GROUP_BYTES = 1 << 20
"""A write of 24 MB at once took five times the kernel's time of small ones (ext4)."""


class FileSink:
    """An append-only file, locked by its writer for as long as it is open.

    With `hashes` the digest is taken as the bytes go by; else when it is asked for.
    """

    def __init__(
        self, path: Path, *, create: bool = True, hashes: bool = False
    ) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        self._fd = os.open(path, flags, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise DataError(
                "E-RLDS-FILE-001",
                "another process is writing this recording",
                where=path,
                hint="stop that recorder first",
            ) from error
        self._sha256 = hashlib.sha256() if create and hashes else None

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Append all buffers, in order; raises OSError, part of them then written."""
        for group in _groups(buffers):
            wanted = sum(map(len, group))
            written = os.writev(self._fd, group)
            if written < wanted:
                rest = memoryview(b"".join(group))[written:]
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            if self._sha256 is not None:
                for buffer in group:
                    self._sha256.update(buffer)

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        self._sha256 = None
        os.ftruncate(self._fd, size)

    def datasync(self) -> None:
        """Bring what was appended to the disk."""
        os.fdatasync(self._fd)

    def digest(self) -> str:
        """Return the SHA-256 of all that was appended, as hex."""
        if self._sha256 is None:
            return sha256_of(self.path)
        return self._sha256.hexdigest()

    def publish(self, final: Path) -> None:
        """Sync, give the file its final name, close it."""
        os.fsync(self._fd)
        publish_file(self.path, final)
        self.close()

    def close(self) -> None:
        """Close the file and so free its lock; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _groups(buffers: Sequence[Buffer]) -> Iterator[Sequence[Buffer]]:
    """Yield runs of buffers, each a write: few, and of a mebibyte or one buffer."""
    start = size = 0
    for at, buffer in enumerate(buffers):
        full = at - start == _MAX_BUFFERS or size + len(buffer) > _GROUP_BYTES
        if at > start and full:
            yield buffers[start:at]
            start, size = at, 0
        size += len(buffer)
    if start < len(buffers):
        yield buffers[start:]


def publish_file(temporary: Path, final: Path) -> None:
    """Rename within one directory and sync it; refuses to replace a file.

    Raises:
        DataError: there is such a file already.
    """
    if final.exists():
        raise DataError(
            "E-RLDS-FILE-002",
            "there is such a file already, and nothing closed is replaced",
            where=final,
        )
    temporary.rename(final)
    sync_directory(final.parent)


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as hex, hashed in place where it is not empty."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return hashlib.sha256().hexdigest()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return hashlib.sha256(data).hexdigest()
