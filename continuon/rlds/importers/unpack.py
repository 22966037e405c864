"""Archives: only plain files with harmless names are written out, the rest is named."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from continuon.errors import DataError

__all__ = ["is_archive", "is_file_name", "is_path", "unpack"]

_MAX_UNPACKED_BYTES = 8 << 30
_MAX_NAME_BYTES = 255
"""Of a file name on every file system that a Pi or a PC uses."""


def is_archive(path: Path) -> bool:
    """Return whether a file is a tar archive, packed or not, whatever its name."""
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, OSError, zlib.error):
        return False


def unpack(archive: Path, target: Path) -> tuple[str, ...]:
    """Write out regular files with harmless names; returns the names left behind.

    Raises:
        DataError: the archive is damaged, or unpacks to more than a disk should hold.
    """
    total = 0
    dropped: list[str] = []
    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                path = PurePosixPath(member.name)
                if member.isdir() or path.name.startswith("._"):
                    continue
                if not member.isfile() or not is_path(path):
                    dropped.append(member.name)
                    continue
                total += member.size
                if total > _MAX_UNPACKED_BYTES:
                    raise DataError(
                        "E-RLDS-IMPORT-003",
                        "this archive unpacks to more than a tub may hold",
                        where=archive,
                        allowed=f"{_MAX_UNPACKED_BYTES} bytes",
                    )
                content = packed.extractfile(member)
                assert content is not None
                place = target / path
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(
            "E-RLDS-IMPORT-004", f"this archive is damaged: {error}", where=archive
        ) from error
    return tuple(dropped)


def is_path(path: PurePosixPath) -> bool:
    """Return whether a relative path stays below its folder and a disk can hold it."""
    return bool(path.parts) and all(map(is_file_name, path.parts))


def is_file_name(name: str) -> bool:
    """Return whether a disk can hold a file of this name in one folder."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    plain = name not in {".", ".."} and "/" not in name and "\0" not in name
    return plain and 0 < size <= _MAX_NAME_BYTES
