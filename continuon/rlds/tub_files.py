"""Read a Donkeycar tub v2 as it lies on disk, or packed as .tar.gz; nothing judged yet.

A tub is `manifest.json` (five JSON lines: inputs, types, user metadata, facts about the
tub, and the catalog table with `paths` and `deleted_indexes`), the catalogs that it
names (one JSON object a record) and one JPEG a record in `images/`.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import msgspec

from continuon.errors import DataError

__all__ = ["Tub", "TubRow", "open_tub"]

_MANIFEST = "manifest.json"
_IMAGES = (".jpg", ".jpeg", ".png")
_ARCHIVES = (".tar.gz", ".tgz", ".tar")
_MAX_UNPACKED_BYTES = 8 << 30
_MAX_NAME_BYTES = 255
"""Of a file name on every file system that a Pi or a PC uses."""


@attrs.frozen
class TubRow:
    """One catalog line; `fields` is None where the line is no JSON object."""

    catalog: str
    line: int
    fields: dict[str, Any] | None


@attrs.frozen(kw_only=True)
class Tub:
    """A tub's tables.

    Attributes:
        rows: of the catalogs in the manifest, in its order.
        missing_catalogs: named by the manifest, absent on disk.
        stale_rows: rows of catalogs on disk that the manifest does not name.
        unused_images: files in `images/` that no record of any catalog names.
        dropped_members: of an archive: links, devices, and names that lead out of it.
        digest: SHA-256 over manifest and catalogs.
    """

    name: str
    root: Path
    inputs: tuple[str, ...]
    types: tuple[str, ...]
    deleted: frozenset[int]
    rows: tuple[TubRow, ...]
    missing_catalogs: tuple[str, ...]
    stale_catalogs: tuple[str, ...]
    stale_rows: int
    unused_images: tuple[str, ...]
    dropped_members: tuple[str, ...]
    digest: str

    @property
    def image_field(self) -> str:
        """The record field that names the camera image."""
        cameras = [
            name
            for name, kind in zip(self.inputs, self.types, strict=False)
            if kind == "image_array"
        ]
        return "cam/image_array" if not cameras else cameras[0]

    def image_path(self, name: str) -> Path | None:
        """Return where an image lies; None for a name that is not a plain file name."""
        return self.root / "images" / name if _is_file_name(name) else None


@contextmanager
def open_tub(source: Path) -> Iterator[Tub]:
    """Open a tub directory, a directory that holds one tub, or a packed tub.

    Raises:
        DataError: no tub there, several, or its manifest is damaged.
    """
    root = _find_root(source)
    if root is not None:
        yield _read(root, root.name)
        return
    archive = _find_archive(source)
    if archive is None:
        raise DataError(
            "E-RLDS-IMPORT-001",
            "this is no recording that can be imported",
            where=source,
            seen=_describe(source),
            allowed="a Donkeycar tub v2: a folder with manifest.json, or its .tar.gz",
        )
    with TemporaryDirectory(prefix="continuon-tub-") as unpacked:
        dropped = _unpack(archive, Path(unpacked))
        root = _find_root(Path(unpacked))
        if root is None:
            raise DataError(
                "E-RLDS-IMPORT-001",
                "this archive holds no tub",
                where=archive,
                allowed="a folder with manifest.json",
            )
        name = archive.name
        for suffix in _ARCHIVES:
            name = name.removesuffix(suffix)
        yield _read(root, name, dropped)


def _find_root(source: Path) -> Path | None:
    if not source.is_dir():
        return None
    for pattern in (_MANIFEST, f"*/{_MANIFEST}", f"*/*/{_MANIFEST}"):
        found = sorted(path.parent for path in source.glob(pattern))
        if len(found) > 1:
            raise DataError(
                "E-RLDS-IMPORT-002",
                "there are several tubs here",
                where=source,
                seen=", ".join(path.name for path in found[:5]),
                hint="import them one by one",
            )
        if found:
            return found[0]
    return None


def _find_archive(source: Path) -> Path | None:
    if source.is_file():
        return source if _is_archive(source) else None
    if not source.is_dir():
        return None
    packed = [path for path in sorted(source.iterdir()) if path.is_file()]
    packed = [path for path in packed if path.name.endswith(_ARCHIVES)]
    return packed[0] if len(packed) == 1 and _is_archive(packed[0]) else None


def _is_archive(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, OSError, zlib.error):
        return False


def _describe(source: Path) -> str:
    if source.is_dir():
        names = sorted(path.name for path in source.iterdir())
        return "a folder with " + (", ".join(names[:5]) or "nothing in it")
    return "a file that is no archive" if source.is_file() else "nothing"


def _unpack(archive: Path, target: Path) -> tuple[str, ...]:
    """Write out regular files with harmless names; returns the names left behind."""
    total = 0
    dropped: list[str] = []
    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                path = PurePosixPath(member.name)
                if member.isdir() or path.name.startswith("._"):
                    continue
                if not member.isfile() or not _is_path(path):
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
                place.write_bytes(content.read())
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(
            "E-RLDS-IMPORT-004", f"this archive is damaged: {error}", where=archive
        ) from error
    return tuple(dropped)


def _is_path(path: PurePosixPath) -> bool:
    """Return whether a relative path stays below its folder and a disk can hold it."""
    return bool(path.parts) and all(map(_is_file_name, path.parts))


def _is_file_name(name: str) -> bool:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    plain = name not in {".", ".."} and "/" not in name and "\0" not in name
    return plain and 0 < size <= _MAX_NAME_BYTES


def _read(root: Path, name: str, dropped: tuple[str, ...] = ()) -> Tub:
    manifest = (root / _MANIFEST).read_bytes()
    digest = hashlib.sha256(manifest)
    inputs, types, table = _parse_manifest(manifest, root / _MANIFEST)
    paths = [str(path) for path in table["paths"]]
    rows: list[TubRow] = []
    missing = []
    for path in paths:
        file = root / path
        if not _is_path(PurePosixPath(path)) or not file.is_file():
            missing.append(path)
            continue
        content = file.read_bytes()
        digest.update(content)
        rows += _parse_catalog(path, content)
    stale = sorted(
        file.name
        for file in root.glob("*.catalog")
        if file.name not in paths and not file.name.startswith("._")
    )
    left = [
        row
        for file in stale
        for row in _parse_catalog(file, (root / file).read_bytes())
    ]
    tub = Tub(
        name=name,
        root=root,
        inputs=tuple(map(str, inputs)),
        types=tuple(map(str, types)),
        deleted=frozenset(table["deleted_indexes"]),
        rows=tuple(rows),
        missing_catalogs=tuple(missing),
        stale_catalogs=tuple(stale),
        stale_rows=len(left),
        unused_images=(),
        dropped_members=dropped,
        digest=digest.hexdigest(),
    )
    return attrs.evolve(tub, unused_images=_unused_images(tub, left))


def _unused_images(tub: Tub, stale: list[TubRow]) -> tuple[str, ...]:
    named = {
        row.fields.get(tub.image_field)
        for row in (*tub.rows, *stale)
        if row.fields is not None and isinstance(row.fields.get(tub.image_field), str)
    }
    images = tub.root / "images"
    there = (path.name for path in images.iterdir()) if images.is_dir() else ()
    return tuple(
        sorted(
            name
            for name in there
            if name not in named
            and not name.startswith(".")
            and name.lower().endswith(_IMAGES)
        )
    )


def _parse_manifest(
    data: bytes, where: Path
) -> tuple[list[Any], list[Any], dict[str, Any]]:
    try:
        lines = [
            msgspec.json.decode(line) for line in data.splitlines() if line.strip()
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_manifest(f"a line is no JSON: {error}", where) from error
    tables = [line for line in lines if isinstance(line, dict) and "paths" in line]
    if len(lines) < 3 or not isinstance(lines[0], list) or not tables:
        raise _bad_manifest("it lacks its inputs or its catalog table", where)
    table: dict[str, Any] = {"deleted_indexes": []} | tables[-1]
    if not all(isinstance(table[key], list) for key in ("paths", "deleted_indexes")):
        raise _bad_manifest("paths and deleted_indexes are lists", where)
    if not all(type(index) is int for index in table["deleted_indexes"]):
        raise _bad_manifest(
            "deleted_indexes holds what is no whole number, and a frame that its owner "
            "deleted must not be imported",
            where,
        )
    types = lines[1] if isinstance(lines[1], list) else []
    return lines[0], types, table


def _bad_manifest(why: str, where: Path) -> DataError:
    return DataError(
        "E-RLDS-TUB-001",
        f"this is no manifest of a tub v2, or a torn one: {why}",
        where=where,
        allowed="five JSON lines, the last with paths and deleted_indexes",
    )


def _parse_catalog(name: str, data: bytes) -> list[TubRow]:
    rows = []
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip(b" \t\r\x00"):
            continue
        try:
            fields = json.loads(line)  # as its writer did: NaN is a number to both
        except (ValueError, RecursionError):
            fields = None
        rows.append(TubRow(name, number, fields if isinstance(fields, dict) else None))
    return rows
