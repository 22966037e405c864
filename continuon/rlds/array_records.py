"""Read ArrayRecord files by the `array-record` package: in order, or by number.

github.com/google/array_record. A record is compressed, so it is read whole: of a data
set of ours that is an episode. Windows from many long episodes are faster from TFRecord
files, which are read in place.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from continuon.errors import DataError, MissingPackageError

__all__ = ["ArrayRecords", "array_record_module", "read_array_records"]

_KEPT_RECORDS = 4
_RANDOM = "readahead_buffer_size:0,max_parallelism:0"
"""What the package itself advises for random access."""


def array_record_module(purpose: str) -> Any:
    """Return the package's module.

    Raises:
        MissingPackageError: array-record is not installed.
    """
    try:
        return importlib.import_module("array_record.python.array_record_module")
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "array-record", "arrayrecord", purpose=purpose
        ) from error


def read_array_records(path: Path) -> Iterator[memoryview]:
    """Yield the records of a file in order.

    Raises:
        DataError: absent, torn or damaged; its checksums are the package's to check.
        MissingPackageError: array-record is not installed.
    """
    reader = _open(path)
    try:
        for number in range(reader.num_records()):
            yield _read(reader, path, number)
    finally:
        reader.close()


class ArrayRecords:
    """Records of several files by their number over all; safe between threads.

    The last few are kept.
    """

    def __init__(self, files: Sequence[tuple[Path, int]]) -> None:
        self._places = [
            (path, number) for path, count in files for number in range(count)
        ]
        self._readers: dict[Path, Any] = {}
        self._kept: OrderedDict[int, memoryview] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> memoryview:
        """Return one record.

        Raises:
            DataError: it is damaged.
        """
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
            path, number = self._places[index]
            if path not in self._readers:
                self._readers[path] = _open(path)
            record = self._kept[index] = _read(self._readers[path], path, number)
            while len(self._kept) > _KEPT_RECORDS:
                self._kept.popitem(last=False)
            return record


def _open(path: Path) -> Any:
    module = array_record_module("reading ArrayRecord files")
    if not path.is_file() or not path.stat().st_size:
        raise _torn(path, "no such file, or empty")
    reader = module.ArrayRecordReader(str(path), _RANDOM)
    if not reader.ok():
        raise _torn(path, "it is no whole ArrayRecord file")
    return reader


def _read(reader: Any, path: Path, number: int) -> memoryview:
    """Return one record; the package's errors have no family of their own."""
    try:
        (record,) = reader.read([number])
    except Exception as error:
        raise _torn(path, f"record {number}: {error}") from error
    return memoryview(record)


def _torn(path: Path, why: str) -> DataError:
    return DataError(
        "E-RLDS-ARRAYRECORD-001", f"this file cannot be read: {why}", where=path
    )
