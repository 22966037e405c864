"""Versions of the Memory Plane on disk: only ever added, never overwritten."""

from __future__ import annotations

import os
from pathlib import Path

from continuon.durable import sync_directory
from continuon.errors import DataError
from continuon.hope.plane import MemoryPlane
from continuon.hope.plane_file import load_plane, save_plane

__all__ = [
    "append_plane",
    "latest_plane",
    "plane_at",
    "plane_versions",
    "roll_back_plane",
]

_SUFFIX = ".plane"


def plane_versions(directory: Path) -> tuple[int, ...]:
    """Return the versions that stand there, rising; empty without a directory."""
    names = directory.glob(f"{'[0-9]' * 8}{_SUFFIX}")
    return tuple(sorted(int(path.stem) for path in names))


def append_plane(directory: Path, plane: MemoryPlane) -> int:
    """Write the next version and return its number, 1 or higher.

    Raises:
        FileExistsError: another writer took that number; read again, then retry.
    """
    version = max(plane_versions(directory), default=0) + 1
    scratch = directory / f".new-{os.getpid()}{_SUFFIX}"
    try:
        save_plane(scratch, plane)
        os.link(scratch, _path(directory, version))
    finally:
        scratch.unlink(missing_ok=True)
    sync_directory(directory)
    return version


def latest_plane(directory: Path) -> MemoryPlane | None:
    """Return the newest version, or None where there is none.

    Raises:
        DataError: the newest version is damaged; an older one is never taken silently.
    """
    versions = plane_versions(directory)
    return load_plane(_path(directory, versions[-1])) if versions else None


def roll_back_plane(directory: Path, version: int) -> int:
    """Make an older version the newest by writing it again; return its new number.

    Raises:
        DataError: E-HOPE-PLANE-006, there is no such version, or it is damaged.
    """
    return append_plane(directory, plane_at(directory, version))


def plane_at(directory: Path, version: int) -> MemoryPlane:
    """Return one version.

    Raises:
        DataError: E-HOPE-PLANE-006, there is no such version, or it is damaged.
    """
    versions = plane_versions(directory)
    if version not in versions:
        raise DataError(
            "E-HOPE-PLANE-006",
            "there is no such version of the Memory Plane",
            where=directory,
            seen=version,
            allowed=", ".join(map(str, versions)) or "none is here yet",
            hint="`continuon memory show` lists them",
        )
    return load_plane(_path(directory, version))


def _path(directory: Path, version: int) -> Path:
    return directory / f"{version:08d}{_SUFFIX}"
