"""A thin MCAP writer: uncompressed chunks with CRC, message indexes, summary, footer.

mcap.dev/spec. Everything goes out through one `Sink`, always appended, so a reader of a
torn file finds every chunk that was whole. Values in, bytes out: no clock, no threads.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs

from continuon.rlds.checksum import crc32
from continuon.rlds.wire import Buffer

__all__ = ["MAGIC", "ChunkEntry", "McapWriter", "MessageRecord", "Opcode", "Sink"]

MAGIC = b"\x89MCAP0\r\n"
_MESSAGE_HEAD = struct.Struct("<BQHIQQ")
_PAIR = struct.Struct("<QQ")


class Opcode:
    """Record types of the format."""

    HEADER = 0x01
    FOOTER = 0x02
    SCHEMA = 0x03
    CHANNEL = 0x04
    MESSAGE = 0x05
    CHUNK = 0x06
    MESSAGE_INDEX = 0x07
    CHUNK_INDEX = 0x08
    STATISTICS = 0x0B
    METADATA = 0x0C
    METADATA_INDEX = 0x0D
    SUMMARY_OFFSET = 0x0E
    DATA_END = 0x0F


class Sink(Protocol):
    """Where a file's bytes go."""

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Append all buffers or raise OSError; part of them may then be written."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes and append from there."""
        ...


@attrs.frozen(eq=False)
class MessageRecord:
    """One message: its content as buffers, its stamps in nanoseconds."""

    channel: int
    sequence: int
    log_ns: int
    publish_ns: int
    parts: Sequence[Buffer]
    size: int


@attrs.frozen
class ChunkEntry:
    """What the summary says of a chunk."""

    start: int
    length: int
    start_ns: int
    end_ns: int
    size: int
    index_offsets: Mapping[int, int]
    index_length: int
    counts: Mapping[int, int]


class McapWriter:
    """Appends records to a sink and remembers what the summary must say."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._offset = 0
        self._static: dict[int, list[bytes]] = {Opcode.SCHEMA: [], Opcode.CHANNEL: []}
        self._chunks: list[ChunkEntry] = []
        self._metadata: list[tuple[int, int, str]] = []

    @classmethod
    def resume(
        cls,
        sink: Sink,
        *,
        size: int,
        statics: Sequence[tuple[int, bytes]],
        tables: Sequence[tuple[int, int, str]],
        chunks: Sequence[ChunkEntry],
    ) -> McapWriter:
        """Return a writer that goes on behind `size` bytes that are already there."""
        writer = cls(sink)
        writer._offset = size
        for opcode, data in statics:
            writer._static[opcode].append(data)
        writer._metadata = list(tables)
        writer._chunks = list(chunks)
        return writer

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._offset

    @property
    def chunk_count(self) -> int:
        """Whole chunks in the file."""
        return len(self._chunks)

    def counts(self) -> dict[int, int]:
        """Return messages in the file by channel."""
        totals: dict[int, int] = {}
        for chunk in self._chunks:
            for channel, count in chunk.counts.items():
                totals[channel] = totals.get(channel, 0) + count
        return totals

    def start(self, *, library: str, profile: str = "") -> None:
        """Write the magic bytes and the header."""
        self._write([MAGIC, record(Opcode.HEADER, _text(profile), _text(library))])

    def schema(self, number: int, name: str, encoding: str, data: bytes) -> None:
        """Write a schema; numbers start at 1."""
        out = record(
            Opcode.SCHEMA,
            number.to_bytes(2, "little"),
            _text(name),
            _text(encoding),
            _blob(data),
        )
        self._static[Opcode.SCHEMA].append(out)
        self._write([out])

    def channel(
        self,
        number: int,
        schema: int,
        topic: str,
        encoding: str,
        metadata: Mapping[str, str],
    ) -> None:
        """Write a channel that messages may refer to from here on."""
        out = record(
            Opcode.CHANNEL,
            struct.pack("<HH", number, schema),
            _text(topic),
            _text(encoding),
            _table(metadata),
        )
        self._static[Opcode.CHANNEL].append(out)
        self._write([out])

    def metadata(self, name: str, table: Mapping[str, str]) -> None:
        """Write a named table of strings."""
        out = record(Opcode.METADATA, _text(name), _table(table))
        start = self._offset
        self._write([out])
        self._metadata.append((start, len(out), name))

    def chunk(self, messages: Sequence[MessageRecord]) -> None:
        """Write messages as one uncompressed chunk and its message indexes.

        On an error the file is cut back to where the chunk began, then it is raised.
        """
        body: list[Buffer] = []
        offsets: dict[int, list[bytes]] = {}
        size = crc = 0
        for message in messages:
            head = _MESSAGE_HEAD.pack(
                Opcode.MESSAGE,
                22 + message.size,
                message.channel,
                message.sequence & 0xFFFFFFFF,
                message.log_ns,
                message.publish_ns,
            )
            offsets.setdefault(message.channel, []).append(
                _PAIR.pack(message.log_ns, size)
            )
            for part in (head, *message.parts):
                crc = crc32(part, crc)
                body.append(part)
            size += 31 + message.size
        start_ns = min(message.log_ns for message in messages)
        end_ns = max(message.log_ns for message in messages)
        head = struct.pack(
            "<BQQQQIIQ", Opcode.CHUNK, 40 + size, start_ns, end_ns, size, crc, 0, size
        )
        start, length = self._offset, len(head) + size
        indexes, index_offsets, at = [], {}, start + length
        for channel, pairs in sorted(offsets.items()):
            entries = b"".join(pairs)
            index = record(
                Opcode.MESSAGE_INDEX,
                struct.pack("<HI", channel, len(entries)),
                entries,
            )
            index_offsets[channel] = at
            at += len(index)
            indexes.append(index)
        self._write([head, *body, *indexes])
        self._chunks.append(
            ChunkEntry(
                start,
                length,
                start_ns,
                end_ns,
                size,
                index_offsets,
                at - start - length,
                {channel: len(pairs) for channel, pairs in offsets.items()},
            )
        )

    def drop_last_chunk(self) -> Mapping[int, int]:
        """Cut the last chunk off the file; returns its message counts by channel."""
        chunk = self._chunks.pop()
        self._metadata = [entry for entry in self._metadata if entry[0] < chunk.start]
        self._sink.truncate(chunk.start)
        self._offset = chunk.start
        return chunk.counts

    def finish(self, name: str, table: Mapping[str, str]) -> None:
        """Write a last metadata table, the end of data, the summary and the footer.

        All of it or, on an error, nothing.
        """
        start = self._offset
        last = record(Opcode.METADATA, _text(name), _table(table))
        end = record(Opcode.DATA_END, bytes(4))
        summary_start = start + len(last) + len(end)
        summary, offsets = self._summary(
            summary_start, [*self._metadata, (start, len(last), name)]
        )
        tail = b"".join(summary) + b"".join(offsets)
        offset_start = summary_start + sum(map(len, summary))
        foot = struct.pack("<BQQQ", Opcode.FOOTER, 20, summary_start, offset_start)
        crc = crc32(foot, crc32(tail))
        self._write([last, end, tail, foot, crc.to_bytes(4, "little"), MAGIC])

    def _summary(
        self, start: int, metadata: Sequence[tuple[int, int, str]]
    ) -> tuple[list[bytes], list[bytes]]:
        groups = (
            (Opcode.SCHEMA, self._static[Opcode.SCHEMA]),
            (Opcode.CHANNEL, self._static[Opcode.CHANNEL]),
            (Opcode.STATISTICS, [self._statistics(len(metadata))]),
            (Opcode.CHUNK_INDEX, [_chunk_index(chunk) for chunk in self._chunks]),
            (
                Opcode.METADATA_INDEX,
                [
                    record(Opcode.METADATA_INDEX, _PAIR.pack(at, length), _text(name))
                    for at, length, name in metadata
                ],
            ),
        )
        summary, offsets, at = [], [], start
        for opcode, records in groups:
            if not records:
                continue
            length = sum(map(len, records))
            summary += records
            offsets.append(
                record(Opcode.SUMMARY_OFFSET, struct.pack("<BQQ", opcode, at, length))
            )
            at += length
        return summary, offsets

    def _statistics(self, metadata_count: int) -> bytes:
        counts = self.counts()
        table = b"".join(struct.pack("<HQ", *pair) for pair in sorted(counts.items()))
        return record(
            Opcode.STATISTICS,
            struct.pack(
                "<QHIIIIQQI",
                sum(counts.values()),
                len(self._static[Opcode.SCHEMA]),
                len(self._static[Opcode.CHANNEL]),
                0,
                metadata_count,
                len(self._chunks),
                min((chunk.start_ns for chunk in self._chunks), default=0),
                max((chunk.end_ns for chunk in self._chunks), default=0),
                len(table),
            ),
            table,
        )

    def _write(self, buffers: Sequence[Buffer]) -> None:
        try:
            self._sink.append(buffers)
        except OSError:
            self._sink.truncate(self._offset)
            raise
        self._offset += sum(map(len, buffers))


def record(opcode: int, *parts: bytes) -> bytes:
    """Return one record: opcode, length, content."""
    content = b"".join(parts)
    return struct.pack("<BQ", opcode, len(content)) + content


def _chunk_index(chunk: ChunkEntry) -> bytes:
    offsets = b"".join(
        struct.pack("<HQ", channel, at)
        for channel, at in sorted(chunk.index_offsets.items())
    )
    return record(
        Opcode.CHUNK_INDEX,
        struct.pack(
            "<QQQQI",
            chunk.start_ns,
            chunk.end_ns,
            chunk.start,
            chunk.length,
            len(offsets),
        ),
        offsets,
        struct.pack("<QIQQ", chunk.index_length, 0, chunk.size, chunk.size),
    )


def _blob(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def _text(text: str) -> bytes:
    return _blob(text.encode())


def _table(table: Mapping[str, str]) -> bytes:
    entries = (_text(key) + _text(value) for key, value in sorted(table.items()))
    return _blob(b"".join(entries))
