"""Where each column of each episode lies in the shards: a cache that can be rebuilt.

A record of a TFDS directory holds a whole episode, so reading a few steps of it means
knowing the byte offsets inside. They are found by one walk over the shards and kept
beside them as `offsets.safetensors`, with the sizes of the files that they belong to;
a cache that does not fit is built again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.rlds.array_records import ArrayRecords, read_array_records
from continuon.rlds.recording import map_file
from continuon.rlds.tfds_read import (
    ARRAY_RECORD,
    TfdsDirectory,
    check_complete,
    check_count,
    open_tfds,
)
from continuon.rlds.tfrecord import is_gzip, record_spans
from continuon.rlds.wire import LENGTH, fields, read_varint
from continuon.tensorfile import read_tensors, write_tensors

__all__ = ["INDEX_FILE", "TfdsIndex", "index_of"]

INDEX_FILE = "offsets.safetensors"
_VERSION = 1
_STEPS = "steps/"


class Shards(Protocol):
    """Bytes that offsets point into, by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> memoryview: ...


@attrs.frozen(eq=False, kw_only=True)
class TfdsIndex:
    """Byte offsets in the shards of a directory.

    Attributes:
        directory: its tables.
        shards: the mapped shards; of an ArrayRecord data set its records, each read
            when asked for.
        shard: int64 [episodes], which of them each lies in.
        steps: int64 [episodes], how long each is.
        blobs: by path, int64 [all steps, 2]: start and end of each step's bytes.
        lists: by path, int64 [episodes, 2]: start and end of an episode's packed
            numbers.
    """

    directory: TfdsDirectory
    shards: Shards
    shard: NDArray[np.int64]
    steps: NDArray[np.int64]
    blobs: Mapping[str, NDArray[np.int64]]
    lists: Mapping[str, NDArray[np.int64]]

    def first_steps(self) -> NDArray[np.int64]:
        """Return int64 [episodes + 1]: where each starts among all steps."""
        return np.concatenate(([0], np.cumsum(self.steps))).astype(np.int64)


def index_of(path: Path, *, verify: bool = False, keep: bool = False) -> TfdsIndex:
    """Return the index of a TFDS directory, from its cache where that fits.

    `verify` walks the shards again and checks every CRC; `keep` writes the cache, as
    `convert` does.

    Raises:
        DataError: a table or a shard is absent, torn, compressed or of another form.
    """
    directory = open_tfds(Path(path))
    check_complete(directory)
    known = [[file.name, file.stat().st_size] for file, _ in directory.shards]
    cache = directory.path / INDEX_FILE
    tables = None if verify else _load(cache, known)
    if tables is None:
        tables = _walk(directory, verify=verify)
        if keep:
            _store(cache, known, tables)
    return TfdsIndex(directory=directory, shards=_shards(directory), **tables)


def _shards(directory: TfdsDirectory) -> Shards:
    if directory.container == ARRAY_RECORD:
        return ArrayRecords(directory.shards)
    return tuple(_mapped(file) for file, _ in directory.shards)


def _mapped(file: Path) -> memoryview:
    if is_gzip(file):
        raise DataError(
            "E-RLDS-INDEX-001",
            "a compressed shard has no random access",
            where=file,
            hint="convert without --compress, or read it in order (read_columns)",
        )
    return map_file(file)


def _records(
    directory: TfdsDirectory, *, verify: bool
) -> Iterator[tuple[int, int, memoryview, Path]]:
    """Yield (number among the shards, where in it, record, file), all counted."""
    whole = 0
    for number, (file, length) in enumerate(directory.shards):
        count = 0
        if directory.container == ARRAY_RECORD:
            for record in read_array_records(file):
                yield whole, 0, record, file
                whole, count = whole + 1, count + 1
        else:
            data = _mapped(file)
            for start, end in record_spans(data, file, verify=verify):
                yield number, start, data[start:end], file
                count += 1
        check_count(file, count, length)


def _load(cache: Path, known: list[list[Any]]) -> dict[str, Any] | None:
    """Return the cached tables; None where there is no cache for these shards."""
    try:
        stored = read_tensors(cache)
    except DataError:
        return None
    if stored.document != {"version": _VERSION, "shards": known}:
        return None
    tables: dict[str, Any] = {"blobs": {}, "lists": {}}
    for name, table in stored.tensors.items():
        group, _, path = name.partition(":")
        if path:
            tables[group][path] = table
        else:
            tables[group] = table
    return tables


def _store(cache: Path, known: list[list[Any]], tables: Mapping[str, Any]) -> None:
    flat = {"shard": tables["shard"], "steps": tables["steps"]}
    for group in ("blobs", "lists"):
        flat |= {f"{group}:{path}": table for path, table in tables[group].items()}
    write_tensors(cache, flat, {"version": _VERSION, "shards": known})


def _walk(directory: TfdsDirectory, *, verify: bool) -> dict[str, Any]:
    paths = [path for path in directory.kinds if path.startswith(_STEPS)]
    blobs: dict[str, list[NDArray[np.int64]]] = {}
    lists: dict[str, list[tuple[int, int]]] = {}
    shard_of, steps = [], []
    for number, start, record, file in _records(directory, verify=verify):
        found = _features(record, start)
        size = _length(found, directory, file)
        shard_of.append(number)
        steps.append(size)
        for path in paths:
            kind, spans = found.get(path, (_ABSENT, []))
            if kind == _BYTES and len(spans) == size:
                blobs.setdefault(path, []).append(np.array(spans, np.int64))
            elif kind in {_FLOAT, _INT64} and len(spans) == 1:
                lists.setdefault(path, []).append(spans[0])
    total = len(steps)
    return {
        "shard": np.array(shard_of, np.int64),
        "steps": np.array(steps, np.int64),
        "blobs": {
            path: np.concatenate(parts)
            for path, parts in blobs.items()
            if len(parts) == total
        },
        "lists": {
            path: np.array(spans, np.int64)
            for path, spans in lists.items()
            if len(spans) == total
        },
    }


_ABSENT, _BYTES, _FLOAT, _INT64 = 0, 1, 2, 3


def _features(
    record: memoryview, at: int
) -> dict[str, tuple[int, list[tuple[int, int]]]]:
    """Return kind and spans by feature: of each blob, or of the one packed list."""
    found = {}
    for _, features, features_at in _messages(record, at, 1):
        for _, entry, entry_at in _messages(features, features_at, 1):
            name, value, value_at = "", memoryview(b""), 0
            for number, content, content_at in _messages(entry, entry_at, None):
                if number == 1:
                    name = bytes(content).decode("utf-8", "replace")
                else:
                    value, value_at = content, content_at
            found[name] = _spans(value, value_at)
    return found


def _messages(data: memoryview, at: int, wanted: int | None) -> Any:
    for number, content, offset in fields(data):
        if not isinstance(content, int) and wanted in {None, number}:
            yield number, content, at + offset


def _spans(value: memoryview, at: int) -> tuple[int, list[tuple[int, int]]]:
    for kind, content, start in _messages(value, at, None):
        if kind == _BYTES:
            return kind, _blob_spans(content, start)
        spans = [(s, s + len(c)) for n, c, s in _messages(content, start, 1)]
        return kind, spans
    return _ABSENT, []


def _blob_spans(data: memoryview, at: int) -> list[tuple[int, int]]:
    """Return the spans of a bytes_list; the hot loop of the walk."""
    spans, position, size = [], 0, len(data)
    key = 1 << 3 | LENGTH
    while position < size:
        if data[position] != key:
            return [(s, s + len(c)) for _, c, s in _messages(data, at, 1)]
        length, position = read_varint(data, position + 1)
        if position + length > size:
            raise DataError("E-RLDS-INDEX-002", "a list of blobs is torn", seen=length)
        spans.append((at + position, at + position + length))
        position += length
    return spans


def _length(
    found: Mapping[str, tuple[int, list[tuple[int, int]]]],
    directory: TfdsDirectory,
    file: Path,
) -> int:
    """Return the steps of a record: blobs count them, else scalars of 4 bytes do."""
    for path, node in directory.kinds.items():
        kind, spans = found.get(path, (_ABSENT, []))
        if not path.startswith(_STEPS):
            continue
        if kind == _BYTES:
            return len(spans)
        shape = node.get("tensor", {}).get("shape", {}).get("dimensions", ())
        if kind == _FLOAT and len(spans) == 1:
            width = int(np.prod([int(size) for size in shape])) if shape else 1
            return (spans[0][1] - spans[0][0]) // (4 * max(width, 1))
    raise DataError(
        "E-RLDS-INDEX-003",
        "an episode has no column that counts its steps",
        where=file,
        seen=sorted(found)[:5],
    )
