"""Read a Donkeycar tub v2 as it lies on disk; nothing is judged yet.

A tub is `manifest.json` (five JSON lines: inputs, types, user metadata, facts about the
tub, and the catalog table with `paths` and `deleted_indexes`), the catalogs that it
names (one JSON object a record) and one JPEG a record in `images/`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import msgspec

from continuon.errors import DataError
from continuon.rlds.importers.plain_json import parse_plain
from continuon.rlds.importers.unpack import is_file_name, is_path

__all__ = ["Tub", "TubRow", "read_tub"]

_MANIFEST = "manifest.json"
_IMAGES = (".jpg", ".jpeg", ".png")


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
        return self.root / "images" / name if is_file_name(name) else None


def read_tub(root: Path, name: str) -> Tub:
    """Read a tub's tables; `name` is what its episodes call it.

    Raises:
        DataError: its manifest is damaged.
    """
    manifest = (root / _MANIFEST).read_bytes()
    digest = hashlib.sha256(manifest)
    inputs, types, table = _parse_manifest(manifest, root / _MANIFEST)
    paths = [str(path) for path in table["paths"]]
    rows: list[TubRow] = []
    missing = []
    for path in paths:
        file = root / path
        if not is_path(PurePosixPath(path)) or not file.is_file():
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
            fields, _ = parse_plain(line)  # as its writer did: NaN is a number to both
        except (ValueError, RecursionError):
            fields = None
        rows.append(TubRow(name, number, fields if isinstance(fields, dict) else None))
    return rows
