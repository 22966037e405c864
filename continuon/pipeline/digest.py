"""Content digests of files and folders: freshness is by content, not by time."""

from __future__ import annotations

import hashlib
from pathlib import Path

from continuon.errors import DataError

__all__ = ["digest_path", "digest_text"]


def digest_text(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_path(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's sorted names and contents.

    A folder's digest covers every regular file below it: for each, its relative POSIX
    name, a NUL, its length, a NUL and its bytes' digest. Unfinished `.part` files do
    not count, since nothing half-written is taken for whole.

    Raises:
        DataError: nothing is there.
    """
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    if not path.is_dir():
        raise DataError(
            "E-PIPE-DIGEST-001",
            "an input of this phase is not there",
            where=path,
            hint="run the phase that makes it, or `continuon pipeline run`",
        )
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        if file.suffix == ".part":
            continue
        name = file.relative_to(path).as_posix()
        total.update(f"{name}\0{file.stat().st_size}\0{digest_path(file)}\n".encode())
    return total.hexdigest()
