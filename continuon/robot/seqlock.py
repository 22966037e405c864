"""A record in shared memory with one writer and any number of readers, no locks.

Layout, little-endian: u32 sequence, u32 CRC-32 of the payload, payload. The sequence is
odd while the writer writes. The checksum catches what memory order or a writer that
died half-way could still show.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from typing import Any

__all__ = ["Seqlock"]

_HEAD = struct.Struct("<II")
_TRIES = 4


class Seqlock:
    """One record at `offset` of a shared memory map.

    Args:
        memory: the map; a reader's may be read-only.
        offset: where the record starts, bytes.
        payload: format of the record's fields.
    """

    def __init__(self, memory: mmap.mmap, offset: int, payload: struct.Struct) -> None:
        self._memory = memory
        self._offset = offset
        self._payload = payload

    @property
    def size_bytes(self) -> int:
        """Header and payload together."""
        return _HEAD.size + self._payload.size

    def write(self, *fields: Any) -> None:
        """Replace the record; readers see the old or the new one, never a mixture."""
        data = self._payload.pack(*fields)
        sequence, _ = _HEAD.unpack_from(self._memory, self._offset)
        begun = (sequence | 1) & 0xFFFFFFFF
        checksum = zlib.crc32(data)
        _HEAD.pack_into(self._memory, self._offset, begun, checksum)
        start = self._offset + _HEAD.size
        self._memory[start : start + len(data)] = data
        done = (begun + 1) & 0xFFFFFFFF or 2
        _HEAD.pack_into(self._memory, self._offset, done, checksum)

    def read(self) -> tuple[Any, ...] | None:
        """Return the fields; None if never written, or torn at every try."""
        start = self._offset + _HEAD.size
        for _ in range(_TRIES):
            before, checksum = _HEAD.unpack_from(self._memory, self._offset)
            if before == 0:
                return None
            data = self._memory[start : start + self._payload.size]
            after, _ = _HEAD.unpack_from(self._memory, self._offset)
            whole = before == after and not before & 1
            if whole and zlib.crc32(data) == checksum:
                return self._payload.unpack(data)
        return None
