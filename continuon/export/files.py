"""Whole files or none: temporary file, fsync, rename, fsync of the directory."""

from __future__ import annotations

import hashlib
from pathlib import Path

from continuon.tensorfile import replace_file

__all__ = ["file_sha256", "write_file"]


def write_file(path: Path, data: bytes) -> None:
    """Replace a file atomically."""
    replace_file(path, [data])


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
