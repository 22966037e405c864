"""Tell recordings apart without reading their pictures again."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from continuon.rlds.mcap_write import MAGIC, Opcode
from continuon.rlds.recording import map_file

__all__ = ["fingerprint_of"]

_RECORD = struct.Struct("<BQ")
_CHUNK = struct.Struct("<QQQII")
"""Start, end, size, CRC, and the length of the compression's name."""


def fingerprint_of(path: Path) -> str:
    """Return SHA-256, as hex, of a recording in which each chunk's CRC stands for it.

    Of an MCAP file every record is hashed, of a chunk its head alone: its times, its
    size and the CRC of its content. Two recordings that differ have different ones,
    but for a CRC that fits by chance; whoever changes a byte and the CRC with it
    changes the fingerprint. Content that contradicts its CRC is not seen here, but by
    `open_recording`. What is no whole MCAP file, and chunks without a CRC, are hashed
    byte by byte.

    Raises:
        DataError: absent or empty.
    """
    data = map_file(path)
    digest = hashlib.sha256(len(data).to_bytes(8, "little"))
    plain = 0
    position = len(MAGIC) if bytes(data[: len(MAGIC)]) == MAGIC else len(data)
    while position + _RECORD.size <= len(data):
        opcode, length = _RECORD.unpack_from(data, position)
        start = position + _RECORD.size
        position = start + length
        if position > len(data):
            break
        if opcode == Opcode.CHUNK and length >= _CHUNK.size:
            *_, crc, _ = _CHUNK.unpack_from(data, start)
            if crc:
                digest.update(data[plain : start + _CHUNK.size])
                plain = position
    digest.update(data[plain:])
    return digest.hexdigest()
