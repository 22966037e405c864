"""Read MCAP files, whole or torn: a walk from record to record, blobs left in place.

Uncompressed chunks only (what this library writes). The walk reads record heads and
touches message bodies just for the CRC, so an episode opens in milliseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

import attrs

from continuon.errors import DataError
from continuon.rlds.checksum import crc32
from continuon.rlds.mcap_write import MAGIC, Opcode

__all__ = ["Channel", "ChunkAt", "McapContents", "MessageAt", "Schema", "scan_mcap"]

_RECORD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<BQHIQQ")
_INDEX_HEAD = struct.Struct("<BQH")


@attrs.frozen
class Schema:
    """A schema record."""

    number: int
    name: str
    encoding: str
    data: bytes


@attrs.frozen
class Channel:
    """A channel record."""

    number: int
    schema: int
    topic: str
    encoding: str
    metadata: Mapping[str, str]


class MessageAt(NamedTuple):
    """Where a message's content lies in the file, and its stamps."""

    channel: int
    sequence: int
    log_ns: int
    publish_ns: int
    start: int
    end: int


@attrs.define(eq=False)
class ChunkAt:
    """Where a chunk lies, what is in it, and the message indexes found behind it."""

    start: int
    end: int
    messages: list[MessageAt]
    index_offsets: dict[int, int] = attrs.field(factory=dict)
    index_end: int = 0

    @property
    def is_indexed(self) -> bool:
        """True where every channel of the chunk has its index."""
        return set(self.index_offsets) == {at.channel for at in self.messages}


@attrs.define(eq=False)
class McapContents:
    """What a walk found.

    Attributes:
        chunks: the whole chunks, in file order.
        statics: the schema and channel records outside chunks, as they stand.
        tables: start, length and name of each metadata record.
        is_finished: the end of data, a footer and the closing magic were all there.
        damage: why the walk stopped early, None if it did not.
    """

    library: str = ""
    schemas: dict[int, Schema] = attrs.field(factory=dict)
    channels: dict[int, Channel] = attrs.field(factory=dict)
    metadata: list[tuple[str, dict[str, str]]] = attrs.field(factory=list)
    messages: list[MessageAt] = attrs.field(factory=list)
    chunks: list[ChunkAt] = attrs.field(factory=list)
    statics: list[tuple[int, bytes]] = attrs.field(factory=list)
    tables: list[tuple[int, int, str]] = attrs.field(factory=list)
    statistics_count: int | None = None
    is_finished: bool = False
    damage: str | None = None
    where: object = None


def scan_mcap(
    data: memoryview,
    *,
    verify: bool = True,
    until_chunk: bool = False,
    where: object = None,
) -> McapContents:
    """Walk an MCAP file and return what is in it, up to the first damage.

    Never raises on damage: `damage` and `is_finished` say how far the file is whole.
    `until_chunk` stops where the samples begin; `where` names the file in an error.

    Raises:
        DataError: not an MCAP file at all, or one that is compressed.
    """
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise DataError(
            "E-RLDS-MCAP-001",
            "not an MCAP file",
            where=where,
            seen=bytes(data[: len(MAGIC)]).hex(),
            allowed=MAGIC.hex(),
            hint="`continuon import` takes others' recordings, told by content",
        )
    found = McapContents(where=where)
    position, size = len(MAGIC), len(data)
    in_data, has_footer = True, False
    try:
        while position < size:
            if has_footer:
                _check_end(data, position)
                found.is_finished = True
                return found
            opcode, start, end = _record_at(data, position)
            if until_chunk and opcode == Opcode.CHUNK:
                return found
            if opcode == Opcode.MESSAGE_INDEX:
                if in_data and found.chunks:
                    _take_index(found.chunks[-1], data, position, end)
            elif opcode == Opcode.FOOTER:
                _check_footer(data, position, start, verify=verify)
                has_footer = True
            elif opcode == Opcode.DATA_END:
                in_data = False
            elif opcode == Opcode.STATISTICS:
                (found.statistics_count,) = struct.unpack_from("<Q", data, start)
            elif in_data:
                if opcode in {Opcode.SCHEMA, Opcode.CHANNEL}:
                    found.statics.append((opcode, bytes(data[position:end])))
                _take(found, data, opcode, start, end, verify=verify)
            position = end
        found.damage = "it ends before its footer"
    except _DamageError as error:
        found.damage = str(error)
    except (struct.error, UnicodeDecodeError) as error:
        found.damage = f"a record at byte {position} does not parse: {error}"
    return found


class _DamageError(Exception):
    """The walk cannot go on."""


def _record_at(data: memoryview, position: int) -> tuple[int, int, int]:
    if position + _RECORD.size > len(data):
        raise _DamageError(f"it ends inside a record at byte {position}")
    opcode, length = _RECORD.unpack_from(data, position)
    start = position + _RECORD.size
    if start + length > len(data):
        raise _DamageError(f"it ends inside a record at byte {position}")
    if opcode == 0:
        raise _DamageError(f"byte {position} starts no record")
    return opcode, start, start + length


def _take(
    found: McapContents,
    data: memoryview,
    opcode: int,
    start: int,
    end: int,
    *,
    verify: bool,
) -> None:
    if opcode == Opcode.CHUNK:
        _take_chunk(found, data, start, end, verify=verify)
    elif opcode == Opcode.MESSAGE:
        message = _message_inside(data, start - _RECORD.size, end)
        if message is None:
            raise _DamageError(f"the message at byte {start} is too short")
        found.messages.append(message)
    elif opcode == Opcode.METADATA:
        name, at = _text(data, start)
        table, at = _table(data, at)
        _all_read(at, end)
        found.metadata.append((name, table))
        found.tables.append((start - _RECORD.size, end - start + _RECORD.size, name))
    elif opcode == Opcode.SCHEMA:
        (number,) = struct.unpack_from("<H", data, start)
        name, at = _text(data, start + 2)
        encoding, at = _text(data, at)
        (length,) = struct.unpack_from("<I", data, at)
        _all_read(at + 4 + length, end)
        content = bytes(data[at + 4 : at + 4 + length])
        found.schemas[number] = Schema(number, name, encoding, content)
    elif opcode == Opcode.CHANNEL:
        number, schema = struct.unpack_from("<HH", data, start)
        topic, at = _text(data, start + 4)
        encoding, at = _text(data, at)
        table, at = _table(data, at)
        _all_read(at, end)
        found.channels[number] = Channel(number, schema, topic, encoding, table)
    elif opcode == Opcode.HEADER:
        _, at = _text(data, start)
        found.library, at = _text(data, at)
        _all_read(at, end)


def _take_chunk(
    found: McapContents, data: memoryview, start: int, end: int, *, verify: bool
) -> None:
    _, _, size, crc = struct.unpack_from("<QQQI", data, start)
    compression, at = _text(data, start + 28)
    if compression:
        raise DataError(
            "E-RLDS-MCAP-002",
            "a chunk of this file is compressed",
            where=found.where,
            seen=compression,
            allowed="no compression",
            hint="mcap compress --compression none IN -o OUT, then again",
        )
    (length,) = struct.unpack_from("<Q", data, at)
    body = at + 8
    if body + length != end or length != size:
        raise _DamageError(f"the chunk at byte {start} has contradictory lengths")
    if verify and crc and crc32(data[body:end]) != crc:
        raise _DamageError(f"the CRC of the chunk at byte {start} is wrong")
    inside = data[:end]
    messages: list[MessageAt] = []
    position = body
    while position < end:
        quick = _message_inside(inside, position, end)
        if quick is not None:
            messages.append(quick)
            position = quick.end
            continue
        opcode, content, after = _record_at(inside, position)
        if opcode == Opcode.MESSAGE:
            raise _DamageError(f"the message at byte {position} is too short")
        if opcode in {Opcode.SCHEMA, Opcode.CHANNEL}:
            _take(found, inside, opcode, content, after, verify=verify)
        position = after
    found.chunks.append(ChunkAt(start - _RECORD.size, end, messages, {}, end))
    found.messages += messages


def _take_index(chunk: ChunkAt, data: memoryview, position: int, end: int) -> None:
    _, _, number = _INDEX_HEAD.unpack_from(data, position)
    chunk.index_offsets[number] = position
    chunk.index_end = end


def _message_inside(data: memoryview, position: int, end: int) -> MessageAt | None:
    """Return the whole message whose record starts here, None if it is none."""
    start = position + _MESSAGE.size
    if start > end:
        return None
    opcode, length, channel, sequence, log_ns, publish_ns = _MESSAGE.unpack_from(
        data, position
    )
    after = position + _RECORD.size + length
    if opcode != Opcode.MESSAGE or not start <= after <= end:
        return None
    if log_ns >> 63:
        raise _DamageError(f"the message at byte {position} has no possible time")
    return MessageAt(channel, sequence, log_ns, publish_ns, start, after)


def _check_footer(data: memoryview, position: int, start: int, *, verify: bool) -> None:
    summary_start, _, crc = struct.unpack_from("<QQI", data, start)
    if summary_start > position:
        raise _DamageError("the footer points past itself")
    if verify and crc and summary_start:
        summary = data[summary_start : start + 16]
        if crc32(summary) != crc:
            raise _DamageError("the CRC of the summary is wrong")


def _check_end(data: memoryview, position: int) -> None:
    if bytes(data[position:]) != MAGIC:
        raise _DamageError(f"the closing magic is not at byte {position}")


def _all_read(at: int, end: int) -> None:
    if at > end:
        raise _DamageError(f"a record that ends at byte {end} holds more than it says")


def _text(data: memoryview, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", data, at)
    end = at + 4 + length
    if end > len(data):
        raise _DamageError(f"a string at byte {at} is cut")
    return bytes(data[at + 4 : end]).decode(), end


def _table(data: memoryview, at: int) -> tuple[dict[str, str], int]:
    (length,) = struct.unpack_from("<I", data, at)
    position, end = at + 4, at + 4 + length
    if end > len(data):
        raise _DamageError(f"a table at byte {at} is cut")
    table = {}
    while position < end:
        key, position = _text(data, position)
        table[key], position = _text(data, position)
    return table, position
