"""What an exporter wrote, and what of the episodes the target cannot hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from continuon.durable import sync_directory
from continuon.errors import DataError

__all__ = ["FormatReport", "Omission", "build_beside"]


@attrs.frozen
class Omission:
    """Something that an episode has and the written data set has not."""

    text: str
    count: int

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class FormatReport:
    """The result of writing episodes in another's format.

    Attributes:
        skipped: episodes that could not be read or do not fit, with the reason.
        omitted: what the target cannot hold.
    """

    format: str
    directory: Path
    episodes: int
    steps: int
    files: int
    bytes: int
    skipped: tuple[str, ...] = ()
    omitted: tuple[Omission, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 where the target holds it all, 3 where something stayed behind."""
        return 3 if self.skipped or self.omitted else 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "format": self.format,
            "directory": str(self.directory),
            "episodes": self.episodes,
            "steps": self.steps,
            "files": self.files,
            "bytes": self.bytes,
            "skipped": list(self.skipped),
            "omitted": [omission.as_dict() for omission in self.omitted],
            "notes": list(self.notes),
            "exit_code": self.exit_code,
        }


def build_beside(final: Path, build: Callable[[Path], None]) -> tuple[int, int]:
    """Build a directory under another name and rename it; returns (files, bytes).

    Raises:
        DataError: there is such a directory already, with something in it.
        OSError: the disk refused; nothing is at `final` then.
    """
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise DataError(
            "E-RLDS-FORMAT-001",
            "there is something at the output already, and nothing is overwritten",
            where=final,
        )
    work = final.with_name(f".{final.name}.part")
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    try:
        build(work)
    except BaseException:
        shutil.rmtree(work)
        raise
    files = [path for path in work.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    for folder in sorted({path.parent for path in files}):
        sync_directory(folder)
    if final.exists():
        final.rmdir()
    work.rename(final)
    sync_directory(final.parent)
    return len(files), size
