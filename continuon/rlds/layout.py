"""How an episode lies in an MCAP file: topics, schemas, and its two metadata tables."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import attrs
import msgspec

from continuon.errors import DataError
from continuon.rlds import foxglove
from continuon.rlds.episode import (
    Codec,
    EndReason,
    EpisodeMetadata,
    StreamSpec,
    metadata_from_json,
    metadata_to_json,
    streams_from_json,
    streams_to_json,
)
from continuon.rlds.mcap_read import McapContents
from continuon.rlds.mcap_write import McapWriter
from continuon.rlds.sound import AUDIO_SCHEMA_NAME, audio_descriptor_set

__all__ = [
    "CLOCK_TOPIC",
    "CLOSING",
    "OPENING",
    "PART_SUFFIX",
    "SUFFIX",
    "Closing",
    "Opening",
    "clock_channel",
    "closing_table",
    "read_closing",
    "read_opening",
    "write_opening",
]

SUFFIX, PART_SUFFIX = ".mcap", ".mcap.part"
OPENING, CLOSING = "continuon.episode", "continuon.close"
CLOCK_TOPIC = "/clock_offset"


@attrs.frozen
class Opening:
    """What stands at the start: the metadata and the stream of each channel."""

    metadata: EpisodeMetadata
    streams: tuple[StreamSpec, ...]


@attrs.frozen
class Closing:
    """What stands at the end: the reason, and what each stream lost."""

    end_reason: EndReason
    drops: Mapping[str, int] = attrs.field(factory=dict)
    cut_bytes: int = 0


def clock_channel(streams: Sequence[StreamSpec]) -> int:
    """Return the channel of clock offsets; stream number i has channel i + 1."""
    return len(streams) + 1


def write_opening(writer: McapWriter, opening: Opening, *, library: str) -> None:
    """Write everything before the first chunk."""
    writer.start(library=library)
    image_schema = 0
    next_schema = 1
    for number, spec in enumerate(opening.streams, start=1):
        schema = image_schema if spec.is_image else 0
        if not schema:
            schema, next_schema = next_schema, next_schema + 1
            writer.schema(schema, *_schema(spec))
            if spec.is_image:
                image_schema = schema
        is_json = spec.codec in {Codec.VECTOR, Codec.DOCUMENT}
        encoding = "json" if is_json else "protobuf"
        writer.channel(number, schema, f"/{spec.name}", encoding, {"clock": spec.clock})
    clock_schema = foxglove.clock_offset_schema()
    writer.schema(next_schema, "continuon.ClockOffset", "jsonschema", clock_schema)
    channel = clock_channel(opening.streams)
    writer.channel(channel, next_schema, CLOCK_TOPIC, "json", {})
    metadata = metadata_to_json(opening.metadata)
    streams = streams_to_json(opening.streams)
    writer.metadata(
        OPENING,
        {
            "crc32": str(zlib.crc32(streams, zlib.crc32(metadata))),
            "metadata": metadata.decode(),
            "streams": streams.decode(),
        },
    )


def _schema(spec: StreamSpec) -> tuple[str, str, bytes]:
    """Return the name, encoding and data of the schema of a stream's messages."""
    name = f"continuon.{spec.name}"
    match spec.codec:
        case Codec.VECTOR:
            return name, "jsonschema", foxglove.vector_schema(spec)
        case Codec.DOCUMENT:
            return name, "jsonschema", foxglove.document_schema(spec)
        case Codec.AUDIO:
            return AUDIO_SCHEMA_NAME, "protobuf", audio_descriptor_set()
        case Codec.BLOB:
            return foxglove.BLOB_SCHEMA_NAME, "protobuf", foxglove.blob_descriptor_set()
        case Codec.JPEG | Codec.PNG | Codec.PNG16 | Codec.DEPTH_LZ4:
            descriptor = foxglove.image_descriptor_set()
            return foxglove.IMAGE_SCHEMA_NAME, "protobuf", descriptor


def read_opening(contents: McapContents, *, where: object) -> Opening:
    """Return what stands at the start of a walked file.

    Raises:
        DataError: no such table (another's MCAP, or torn before it), or damaged.
    """
    tables = [table for name, table in contents.metadata if name == OPENING]
    if not tables:
        raise DataError(
            "E-RLDS-RECORDING-001",
            "this MCAP file holds no episode",
            where=where,
            seen=contents.damage or f"written by {contents.library!r}",
            allowed=f"a metadata record {OPENING}",
        )
    table = tables[0]
    metadata = table.get("metadata", "").encode()
    streams = table.get("streams", "").encode()
    if table.get("crc32") != str(zlib.crc32(streams, zlib.crc32(metadata))):
        raise DataError(
            "E-RLDS-RECORDING-002",
            "the episode's metadata is damaged: its CRC is wrong",
            where=where,
        )
    return Opening(
        metadata_from_json(metadata, where=where),
        streams_from_json(streams, where=where),
    )


def closing_table(closing: Closing) -> dict[str, str]:
    """Return the table that `McapWriter.finish` writes."""
    data = msgspec.json.encode(closing, order="sorted")
    return {"closing": data.decode(), "crc32": str(zlib.crc32(data))}


def read_closing(contents: McapContents, *, where: object) -> Closing:
    """Return how the episode ended.

    Raises:
        DataError: absent, damaged, or not of this form.
    """
    for name, table in contents.metadata:
        if name == CLOSING:
            data = table.get("closing", "").encode()
            if table.get("crc32") != str(zlib.crc32(data)):
                raise _bad_closing("the closing record's CRC is wrong", where)
            try:
                return msgspec.json.decode(data, type=Closing)
            except msgspec.DecodeError as error:
                why = f"the closing record does not parse: {error}"
                raise _bad_closing(why, where) from error
    raise _bad_closing("the recording has no closing record", where)


def _bad_closing(why: str, where: object) -> DataError:
    return DataError("E-RLDS-RECORDING-003", why, where=where)
