"""Digests of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["file_sha256"]


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
