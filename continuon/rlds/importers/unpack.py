"""Archives: only plain files with harmless names are written out, the rest is named."""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from continuon.errors import DataError

__all__ = ["is_archive", "is_file_name", "is_path", "unpack"]

_MAX_UNPACKED_BYTES = 8 << 30
_ENCRYPTED = 1
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,  # a compression that this Python does not know
    EOFError,
    OSError,
    zlib.error,
)
_MAX_NAME_BYTES = 255
"""Of a file name on every file system that a Pi or a PC uses."""


def is_archive(path: Path) -> bool:
    """Return whether a file is a tar, packed or not, or a zip, whatever its name."""
    if _is_zip(path):
        return True
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, OSError, zlib.error):
        return False


def _is_zip(path: Path) -> bool:
    """Return whether a file starts and ends as a zip, as one of somebody's tub does."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04" and zipfile.is_zipfile(path)
    except OSError:
        return False


def unpack(archive: Path, target: Path) -> tuple[str, ...]:
    """Write out regular files with harmless names; returns the names left behind.

    Raises:
        DataError: the archive is damaged, or unpacks to more than a disk should hold.
    """
    members = _zip_members if _is_zip(archive) else _tar_members
    left = _MAX_UNPACKED_BYTES
    dropped: list[str] = []
    try:
        for name, content in members(archive):
            path = PurePosixPath(name)
            if path.name.startswith("._"):
                continue
            if content is None or not is_path(path):
                dropped.append(name)
                continue
            place = target / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file, content:
                while block := content.read(1 << 20):
                    left -= len(block)
                    if left < 0:
                        raise _too_much(archive)
                    file.write(block)
    except _DAMAGE as error:
        raise DataError(
            "E-RLDS-IMPORT-004", f"this archive is damaged: {error}", where=archive
        ) from error
    return tuple(dropped)


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield (name, content) of all but folders; None where it is no plain file."""
    with tarfile.open(archive) as packed:
        for member in packed:
            if not member.isdir():
                plain = member.isfile()
                yield member.name, packed.extractfile(member) if plain else None


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield the same of a zip; a link stands in its Unix mode, an encrypted one too."""
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            mode = member.external_attr >> 16
            is_plain = stat.S_IFMT(mode) in {0, stat.S_IFREG}
            if not member.is_dir():
                is_open = is_plain and not member.flag_bits & _ENCRYPTED
                yield member.filename, packed.open(member) if is_open else None


def _too_much(archive: Path) -> DataError:
    return DataError(
        "E-RLDS-IMPORT-003",
        "this archive unpacks to more than a tub may hold",
        where=archive,
        allowed=f"{_MAX_UNPACKED_BYTES} bytes",
    )


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
