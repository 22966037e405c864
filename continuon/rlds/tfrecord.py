"""TFRecord framing: length, masked CRC-32C of it, payload, masked CRC-32C of that.

tensorflow/core/lib/io/record_writer.h; the mask rotates right by 15, adds a constant.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from continuon.errors import DataError
from continuon.rlds.checksum import crc32c
from continuon.rlds.recording import map_file
from continuon.rlds.wire import Buffer

__all__ = [
    "FRAMING_BYTES",
    "frame",
    "is_gzip",
    "masked_crc32c",
    "read_records",
    "record_spans",
]

FRAMING_BYTES = 16
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_MAX_UNPACKED_BYTES = 64 << 30


def masked_crc32c(parts: Sequence[Buffer]) -> int:
    """Return the masked CRC-32C of buffers one after the other."""
    crc = 0
    for part in parts:
        crc = crc32c(part, crc)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(parts: Sequence[Buffer], size: int) -> list[Buffer]:
    """Return the buffers of one record around a payload of `size` bytes."""
    length = _LENGTH.pack(size)
    head = length + _CRC.pack(masked_crc32c([length]))
    return [head, *parts, _CRC.pack(masked_crc32c(parts))]


def is_gzip(path: Path) -> bool:
    """Return whether a file starts as gzip, whatever it is called."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def read_records(path: Path, *, verify: bool = True) -> Iterator[memoryview]:
    """Yield the payloads of a TFRecord file, plain or gzipped, told by content.

    `verify` checks the CRC of every payload; lengths are always checked.

    Raises:
        DataError: torn, a wrong CRC, or gzip inside gzip.
    """
    if not path.is_file() or not path.stat().st_size:
        raise DataError("E-RLDS-TFRECORD-001", "no such file, or empty", where=path)
    if not is_gzip(path):
        data = map_file(path)
        for start, end in record_spans(data, path, verify=verify):
            yield data[start:end]
        return
    with gzip.open(path) as unpacked:
        if _first_bytes(unpacked, path) == b"\x1f\x8b":
            raise DataError(
                "E-RLDS-TFRECORD-002", "this file was gzipped twice", where=path
            )
        unpacked.seek(0)
        yield from _stream_records(unpacked, path, verify=verify)


def _first_bytes(file: gzip.GzipFile, path: Path) -> bytes:
    try:
        return file.read(2)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _torn(path, 0, f"its gzip is damaged: {error}") from error


def record_spans(
    data: memoryview, path: Path, *, verify: bool = True
) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each payload in a mapped, uncompressed TFRecord file.

    Raises:
        DataError: torn, or a CRC is wrong; `path` is named.
    """
    position = number = 0
    while position < len(data):
        if position + 12 > len(data):
            raise _torn(path, number, "it ends inside a length")
        size = _check_head(bytes(data[position : position + 12]), path, number)
        end = position + 12 + size
        if end + 4 > len(data):
            raise _torn(path, number, "it ends inside the payload")
        if verify:
            payload = data[position + 12 : end]
            _check_payload(payload, bytes(data[end : end + 4]), path, number)
        yield position + 12, end
        position, number = end + 4, number + 1


def _stream_records(
    file: gzip.GzipFile, path: Path, *, verify: bool
) -> Iterator[memoryview]:
    number = 0
    try:
        while head := file.read(12):
            if len(head) < 12:
                raise _torn(path, number, "it ends inside a length")
            size = _check_head(head, path, number)
            body = file.read(size + 4)
            if len(body) < size + 4:
                raise _torn(path, number, "it ends inside the payload")
            payload = memoryview(body)[:size]
            if verify:
                _check_payload(payload, body[size:], path, number)
            yield payload
            number += 1
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _torn(path, number, f"its gzip is damaged: {error}") from error


def _check_head(head: bytes, path: Path, number: int) -> int:
    (size,) = _LENGTH.unpack_from(head)
    (crc,) = _CRC.unpack_from(head, 8)
    if masked_crc32c([head[:8]]) != crc:
        raise _torn(path, number, "the CRC of its length is wrong")
    if size > _MAX_UNPACKED_BYTES:
        raise _torn(path, number, f"it claims {size} bytes")
    return int(size)


def _check_payload(payload: memoryview, crc: bytes, path: Path, number: int) -> None:
    if _CRC.pack(masked_crc32c([payload])) != crc:
        raise _torn(path, number, "the CRC of its payload is wrong")


def _torn(path: Path, number: int, why: str) -> DataError:
    return DataError(
        "E-RLDS-TFRECORD-003",
        f"record {number} cannot be read: {why}",
        where=path,
        hint="the records before it are whole",
    )
