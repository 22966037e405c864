"""The protobuf wire format, by hand: enough for tf.train.Example and for Foxglove.

protobuf.dev/programming-guides/encoding. A message under construction is a list of
buffers, so that an image inside it is never copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError

__all__ = [
    "LENGTH",
    "Buffer",
    "Pieces",
    "fields",
    "pack_varints",
    "read_varint",
    "tag",
    "unpack_varints",
    "varint",
]

Buffer = bytes | memoryview
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    """Return a base-128 varint; negative values as 64-bit two's complement."""
    value &= (1 << 64) - 1
    if value < 128:
        return bytes((value,))
    out = bytearray()
    while value > 127:
        out.append((value & 127) | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int, kind: int) -> bytes:
    """Return the key of a field."""
    return varint(number << 3 | kind)


def pack_varints(values: NDArray[np.int64]) -> bytes:
    """Return the packed varints of int64 values, negative ones in ten bytes each."""
    left = np.ascontiguousarray(values, np.int64).ravel().view(np.uint64)
    if left.size == 0:
        return b""
    out = np.empty((left.size, 10), np.uint8)
    used = np.ones(left.size, np.intp)
    for byte in range(10):
        out[:, byte] = (left & np.uint64(127)).astype(np.uint8)
        left = left >> np.uint64(7)
        more = left != 0
        out[more, byte] |= 128
        used += more
    return out[np.arange(10) < used[:, None]].tobytes()


def unpack_varints(data: Buffer) -> NDArray[np.int64]:
    """Return packed varints as int64.

    Raises:
        DataError: the last varint is cut, or one is longer than ten bytes.
    """
    raw = np.frombuffer(data, np.uint8)
    if raw.size == 0:
        return np.empty(0, np.int64)
    ends = np.flatnonzero(raw < 128)
    if ends.size == 0 or ends[-1] != raw.size - 1:
        raise _torn("a packed list ends inside a varint")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > 10:
        raise _torn("a varint is longer than ten bytes")
    out = np.zeros(ends.size, np.uint64)
    for byte in range(longest):
        has = lengths > byte
        part = (raw[starts[has] + byte] & 127).astype(np.uint64)
        out[has] |= part << np.uint64(7 * byte)
    return out.view(np.int64)


class Pieces:
    """A message as a list of buffers, of `size` bytes in all."""

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts: list[Buffer] = []
        self.size = 0

    def add(self, data: Buffer) -> None:
        """Append bytes as they are."""
        self.parts.append(data)
        self.size += len(data)

    def field(self, number: int, content: Buffer) -> None:
        """Append a length-delimited field."""
        self.add(tag(number, LENGTH) + varint(len(content)))
        self.add(content)

    def message(self, number: int, content: Pieces) -> None:
        """Append a nested message, its buffers shared."""
        self.add(tag(number, LENGTH) + varint(content.size))
        self.parts += content.parts
        self.size += content.size

    def repeated(self, number: int, blobs: Iterable[Buffer]) -> None:
        """Append one length-delimited field a blob."""
        key = tag(number, LENGTH)
        for blob in blobs:
            self.add(key + varint(len(blob)))
            self.add(blob)

    def join(self) -> bytes:
        """Return the message as one buffer."""
        return b"".join(self.parts)


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview, int]]:
    """Yield (field number, value, offset) of a message: int, or a view of the bytes.

    Fixed-width fields come as views of their 4 or 8 bytes.

    Raises:
        DataError: the message is torn or holds a group.
    """
    position, size = 0, len(data)
    while position < size:
        key, position = read_varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, position = read_varint(data, position)
            yield number, value, position
            continue
        if kind == LENGTH:
            length, position = read_varint(data, position)
        elif kind in {FIXED32, FIXED64}:
            length = 4 if kind == FIXED32 else 8
        else:
            raise _torn(f"wire type {kind} of field {number}")
        if number == 0 or position + length > size:
            raise _torn(f"field {number} reaches past the end of its message")
        yield number, data[position : position + length], position
        position += length


def read_varint(data: memoryview, position: int) -> tuple[int, int]:
    """Return (value, position behind it) of the varint at `position`.

    Raises:
        DataError: it is cut or longer than ten bytes.
    """
    value = shift = 0
    size = len(data)
    while position < size and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & ((1 << 64) - 1), position
        shift += 7
    raise _torn("a varint is cut or too long")


def _torn(what: str) -> DataError:
    return DataError("E-RLDS-WIRE-001", f"not a whole protobuf message: {what}")
