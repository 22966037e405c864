"""Files of a bundle on a real filesystem: what is there, and its digests.

Constant memory, regular files only. Blocks of 256 KiB stay in the second-level cache
between being read and being hashed. No mmap: a failing medium would then kill the
process (SIGBUS) instead of raising an error that can be handled.
"""

from __future__ import annotations

import hashlib
import os
import stat

from continuon.errors import TrustError

__all__ = ["hash_file", "read_file", "scan_tree"]

_BLOCK_BYTES = 1 << 18
_MAX_ENTRIES = 8192
_MAX_DEPTH = 8


AnyPath = str | os.PathLike[str]


def scan_tree(root: AnyPath) -> dict[str, int]:
    """Return {POSIX path: bytes} of every file below `root`.

    Raises:
        TrustError: E-BUNDLE-SET-004 not a regular file, -005 a symbolic link, -006 an
            empty directory, -009 set-user-id or world-writable, -011 too many entries
            or too deep, -012 no directory.
    """
    base = os.fspath(root)
    if os.path.islink(base) or not os.path.isdir(base):  # noqa: PTH112, PTH114
        raise TrustError(
            "E-BUNDLE-SET-012", "there is no bundle directory here", where=root
        )
    sizes: dict[str, int] = {}
    stack = [("", 0)]
    entries = 0
    while stack:
        prefix, depth = stack.pop()
        empty = True
        with os.scandir(f"{base}/{prefix}") as scan:
            for entry in scan:
                empty = False
                entries += 1
                path = prefix + entry.name
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    stack.append((path + "/", depth + 1))
                else:
                    _check_regular(status, f"{base}/{path}")
                    sizes[path] = status.st_size
                if entries > _MAX_ENTRIES or depth > _MAX_DEPTH:
                    raise TrustError(
                        "E-BUNDLE-SET-011",
                        "the bundle directory holds too much",
                        allowed=f"{_MAX_ENTRIES} entries, {_MAX_DEPTH} levels",
                        where=f"{base}/{path}",
                    )
        if empty and prefix:
            raise TrustError(
                "E-BUNDLE-SET-006",
                "an empty directory, which no signature covers",
                where=f"{base}/{prefix}",
            )
    return sizes


def hash_file(path: AnyPath, *, expected_bytes: int | None = None) -> str:
    """Return the SHA-256 of a regular file as hex.

    Raises:
        TrustError: E-BUNDLE-SET-007 for another size than `expected_bytes`, found
            before a byte is hashed; -010 if the file grew or shrank meanwhile.
    """
    descriptor = _open(path)
    try:
        status = os.fstat(descriptor)
        _check_regular(status, path)
        if expected_bytes is not None and status.st_size != expected_bytes:
            raise TrustError(
                "E-BUNDLE-SET-007",
                "a file has another size than was signed",
                seen=f"{status.st_size} bytes",
                allowed=f"{expected_bytes} bytes",
                where=path,
            )
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        digest = hashlib.sha256()
        count = _feed(descriptor, digest, status.st_size)
    finally:
        os.close(descriptor)
    if count != status.st_size:
        raise TrustError(
            "E-BUNDLE-SET-010",
            "a file changed while it was being read",
            seen=f"{count} bytes",
            allowed=f"{status.st_size} bytes",
            where=path,
        )
    return digest.hexdigest()


def read_file(path: AnyPath, *, max_bytes: int) -> bytes:
    """Return a small regular file whole.

    Raises:
        TrustError: E-BUNDLE-SET-007 if it is larger than `max_bytes`.
    """
    descriptor = _open(path)
    with os.fdopen(descriptor, "rb") as file:
        _check_regular(os.fstat(file.fileno()), path)
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise TrustError(
            "E-BUNDLE-SET-007",
            "a file is larger than its cap",
            allowed=f"at most {max_bytes} bytes",
            where=path,
        )
    return data


def _open(path: AnyPath) -> int:
    """Open without following a link and without waiting for a pipe's writer."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except FileNotFoundError as error:
        raise TrustError(
            "E-BUNDLE-SET-002", "a signed file is missing", where=path
        ) from error


def _check_regular(status: os.stat_result, path: AnyPath) -> None:
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        raise TrustError(
            "E-BUNDLE-SET-005", "a symbolic link in a bundle directory", where=path
        )
    if not stat.S_ISREG(mode):
        raise TrustError(
            "E-BUNDLE-SET-004",
            "an entry of a bundle directory is no regular file",
            seen=stat.filemode(mode),
            where=path,
        )
    if mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH):
        raise TrustError(
            "E-BUNDLE-SET-009",
            "a bundle file's mode lets others change or misuse it",
            seen=stat.filemode(mode),
            allowed="-rw-r--r-- or tighter",
            where=path,
        )


def _feed(descriptor: int, digest: hashlib._Hash, size: int) -> int:
    buffer = bytearray(min(_BLOCK_BYTES, size + 1))
    view = memoryview(buffer)
    total = 0
    while count := os.readv(descriptor, [buffer]):
        digest.update(view[:count])
        total += count
        if total > size:
            break
    return total
