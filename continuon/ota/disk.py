"""The store on a real filesystem."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from continuon.errors import BudgetError, ContinuonError
from continuon.ota.store import Space

__all__ = ["DiskStore", "drop_page_cache", "no_space", "plain_io"]

_BLOCK_BYTES = 1 << 20
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class DiskStore:
    """Paths below `root`.

    A failed flush is never repeated, since a second one may succeed without having
    written anything: it raises, and the caller starts the stage again.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def make_directory(self, path: str) -> None:
        """See `Store`."""
        self._at(path).mkdir(mode=0o755, exist_ok=True)

    def write(self, path: str, data: bytes) -> None:
        """See `Store`."""
        descriptor = os.open(self._at(path), _FLAGS | os.O_TRUNC, 0o644)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]

    def copy_in(self, source: str, path: str) -> None:
        """See `Store`. Reads a regular file only, and gives the copy mode 0644."""
        reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            size = os.fstat(reader).st_size
            writer = os.open(self._at(path), _FLAGS | os.O_TRUNC, 0o644)
            try:
                copied = 0
                while copied < size:
                    count = os.sendfile(writer, reader, copied, size - copied)
                    if count == 0:
                        break
                    copied += count
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    def sync_file(self, path: str) -> None:
        """See `Store`."""
        self._sync(path, os.O_RDONLY)

    def sync_directory(self, path: str) -> None:
        """See `Store`."""
        self._sync(path, os.O_RDONLY | os.O_DIRECTORY)

    def sync_all(self, why: str) -> None:  # noqa: ARG002
        """Flush with one syncfs(2), or file by file where the C library has none."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if hasattr(libc, "syncfs"):
                if libc.syncfs(descriptor) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), str(self.root))
                return
        finally:
            os.close(descriptor)
        for folder, _, files in os.walk(self.root, topdown=False):
            for name in files:
                self._sync(os.path.relpath(os.path.join(folder, name), self.root), 0)  # noqa: PTH118
            self._sync(os.path.relpath(folder, self.root), os.O_DIRECTORY)

    def rename(self, source: str, path: str) -> None:
        """See `Store`."""
        self._at(source).rename(self._at(path))

    def remove(self, path: str) -> None:
        """See `Store`."""
        target = self._at(path)
        try:
            mode = target.lstat().st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            shutil.rmtree(target)
        else:
            target.unlink()

    def read(self, path: str, *, max_bytes: int) -> bytes:
        """See `Store`."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._at(path), flags), "rb") as file:
            return file.read(max_bytes)

    def entries(self, path: str) -> list[str]:
        """See `Store`."""
        try:
            return sorted(item.name for item in self._at(path).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, path: str) -> bool:
        """See `Store`."""
        return os.path.lexists(self._at(path))

    def tree_bytes(self, path: str) -> int:
        """See `Store`."""
        files = self._at(path).rglob("*")
        return sum(item.lstat().st_size for item in files if not item.is_dir())

    def space(self) -> Space:
        """See `Store`; free is what an ordinary user may still take."""
        facts = os.statvfs(self.root)
        return Space(facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize)

    def _at(self, path: str) -> Path:
        return self.root / path

    def _sync(self, path: str, flags: int) -> None:
        descriptor = os.open(self._at(path), flags | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def drop_page_cache(directory: Path) -> None:
    """Ask the kernel to forget cached pages, so that the next read is the medium's.

    Only clean pages can be dropped: flush first. A kernel may ignore the advice.
    """
    for folder, _, files in os.walk(directory):
        for name in files:
            path = Path(folder, name)
            if path.is_symlink():
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def no_space(error: OSError, where: object) -> BudgetError:
    """Return the error that a person understands for a full or failing medium."""
    return BudgetError(
        "E-OTA-IO-001",
        "the medium refused a write; nothing half-written is taken for whole",
        seen=error.strerror or str(error),
        where=error.filename or where,
        hint="free some space, or replace the medium; what runs is not touched",
        exit_code=1,
    )


@contextlib.contextmanager
def plain_io(where: Path) -> Iterator[None]:
    """Turn a medium's refusal into an error that a person understands.

    Raises:
        BudgetError: E-OTA-IO-001 for any OSError within; errors of our own pass.
    """
    try:
        yield
    except ContinuonError:
        raise
    except OSError as error:
        raise no_space(error, where) from error
