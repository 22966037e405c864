"""The messages inside a recording, as Foxglove, Rerun and rosbag2 know them.

Pictures are protobuf `foxglove.CompressedImage` (timestamp 1, data 2, format 3,
frame_id 4) with the device's own stamp beside them as field 1001; vectors are JSON
objects `{"device_ns": ..., "values": {name: number}}`, a missing reading being null.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from continuon.clock import ClockOffset
from continuon.errors import DataError
from continuon.rlds.descriptors import (
    BYTES,
    INT64,
    STRING,
    field_of,
    stamped_message_set,
)
from continuon.rlds.episode import Codec, StreamSpec
from continuon.rlds.wire import FIXED32, LENGTH, Pieces, fields, tag, varint

__all__ = [
    "BLOB_SCHEMA_NAME",
    "DEVICE_NS_FIELD",
    "IMAGE_SCHEMA_NAME",
    "blob_descriptor_set",
    "clock_offset_message",
    "clock_offset_schema",
    "decode_vectors",
    "document_schema",
    "image_descriptor_set",
    "image_message",
    "image_range",
    "parse_clock_offset",
    "stamp_of",
    "vector_message",
    "vector_schema",
]

IMAGE_SCHEMA_NAME = "foxglove.CompressedImage"
BLOB_SCHEMA_NAME = "continuon.Blob"
DEVICE_NS_FIELD = 1001
_DATA_KEY = 2 << 3 | LENGTH
_DEVICE_NS_KEY = DEVICE_NS_FIELD << 3
_HEAD_BYTES = 128
_MAX_UINT64 = (1 << 64) - 1
_FORMATS = {
    Codec.JPEG: b"jpeg",
    Codec.PNG: b"png",
    Codec.PNG16: b"png",
    Codec.DEPTH_LZ4: b"continuon/depth-lz4",
    Codec.BLOB: b"blob",
}


def image_message(
    blob: bytes, *, codec: Codec, frame_id: str, capture_ns: int, device_ns: int | None
) -> Pieces:
    """Return a CompressedImage whose blob is shared, not copied."""
    head = Pieces()
    head.field(1, stamp_of(capture_ns))
    head.field(3, _FORMATS[codec])
    head.field(4, frame_id.encode())
    if device_ns is not None:
        head.add(tag(DEVICE_NS_FIELD, 0) + varint(device_ns))
    message = Pieces()
    message.add(head.join() + tag(2, LENGTH) + varint(len(blob)))
    message.add(blob)
    return message


def stamp_of(capture_ns: int) -> bytes:
    """Return a `google.protobuf.Timestamp`."""
    seconds, nanos = divmod(capture_ns, 1_000_000_000)
    return b"".join((tag(1, 0), varint(seconds), tag(2, 0), varint(nanos)))


def image_range(message: memoryview) -> tuple[int, int, int | None]:
    """Return (start, end, device_ns): where the blob lies in a message with one.

    Raises:
        DataError: not such a message.
    """
    known = _range_at_end(bytes(message[:_HEAD_BYTES]), len(message))
    if known is not None:
        return known
    start = end = 0
    device_ns = None
    for number, value, at in fields(message):
        if isinstance(value, int):
            if number == DEVICE_NS_FIELD:
                device_ns = _signed(value)
        elif number == 2:
            start, end = at, at + len(value)
    return start, end, device_ns


def _range_at_end(head: bytes, size: int) -> tuple[int, int, int | None] | None:
    """Return the same for a message that ends with its blob, as ours do; else None."""
    at, device_ns = 0, None
    try:
        while True:
            key, at = _varint(head, at)
            if key & 7 == FIXED32:
                at += 4
                continue
            value, at = _varint(head, at)
            if key == _DATA_KEY:
                return (at, size, device_ns) if at + value == size else None
            if key == _DEVICE_NS_KEY:
                device_ns = _signed(value)
            elif key & 7 == LENGTH:
                at += value
            elif key & 7:
                return None
    except IndexError:
        return None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    while byte > 127 and shift < 70:
        at += 1
        byte = data[at]
        value |= (byte & 127) << shift
        shift += 7
    return value & _MAX_UINT64, at + 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def vector_message(
    names: Sequence[str], values: NDArray[np.float32], device_ns: int | None
) -> bytes:
    """Return the JSON of one vector sample; a NaN is written as null."""
    readings = dict(zip(names, values.tolist(), strict=True))
    return msgspec.json.encode({"device_ns": device_ns, "values": readings})


class _Vector(msgspec.Struct):
    values: dict[str, float | None]
    device_ns: int | None = None


_VECTOR = msgspec.json.Decoder(_Vector)
_VECTORS = msgspec.json.Decoder(list[_Vector])


def decode_vectors(
    messages: Sequence[memoryview], names: Sequence[str]
) -> tuple[NDArray[np.float32], list[int | None]]:
    """Return (float32 [messages, names], device_ns each); null and absent are NaN.

    Raises:
        DataError: one is not a vector message.
    """
    try:
        samples = _VECTORS.decode(b"".join((b"[", b",".join(messages), b"]")))
        if len(samples) != len(messages):
            samples = [_VECTOR.decode(message) for message in messages]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "E-RLDS-VECTOR-001", f"not a vector message: {error}"
        ) from error
    order = list(names)
    rows = [
        list(sample.values.values())
        if list(sample.values) == order
        else [sample.values.get(name) for name in order]
        for sample in samples
    ]
    vectors = np.array(rows, np.float32).reshape(len(rows), len(order))
    return vectors, [sample.device_ns for sample in samples]


def vector_schema(spec: StreamSpec) -> bytes:
    """Return the JSON Schema of a vector stream's messages."""
    number = {"type": ["number", "null"]}
    schema = {
        "title": f"continuon.{spec.name}",
        "type": "object",
        "properties": {
            "device_ns": {"type": ["integer", "null"]},
            "values": {
                "type": "object",
                "properties": dict.fromkeys(spec.names, number),
                "required": list(spec.names),
            },
        },
        "required": ["values"],
    }
    return msgspec.json.encode(schema)


def clock_offset_message(offset: ClockOffset) -> bytes:
    """Return a clock offset as JSON."""
    return msgspec.json.encode(offset)


def parse_clock_offset(message: memoryview) -> ClockOffset:
    """Return the clock offset of a message.

    Raises:
        DataError: not a clock offset.
    """
    try:
        return msgspec.json.decode(message, type=ClockOffset)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError("E-RLDS-CLOCK-001", f"not a clock offset: {error}") from error


def clock_offset_schema() -> bytes:
    """Return the JSON Schema of clock-offset messages, its root an object."""
    integers = ("offset_ns", "uncertainty_ns", "measured_at_ns")
    properties: dict[str, object] = {name: {"type": "integer"} for name in integers}
    properties["device"] = {"type": "string"}
    return msgspec.json.encode(
        {
            "title": "continuon.ClockOffset",
            "type": "object",
            "properties": properties,
            "required": sorted(properties),
        }
    )


def document_schema(spec: StreamSpec) -> bytes:
    """Return the JSON Schema of a stream of documents: any object."""
    return msgspec.json.encode({"title": f"continuon.{spec.name}", "type": "object"})


def image_descriptor_set() -> bytes:
    """Return the FileDescriptorSet that describes `foxglove.CompressedImage`."""
    return _descriptor_set("foxglove", "CompressedImage")


def blob_descriptor_set() -> bytes:
    """Return the FileDescriptorSet of `continuon.Blob`, an image's fields by number."""
    return _descriptor_set("continuon", "Blob")


def _descriptor_set(package: str, name: str) -> bytes:
    members = (
        field_of("data", 2, BYTES),
        field_of("format", 3, STRING),
        field_of("frame_id", 4, STRING),
        field_of("device_ns", DEVICE_NS_FIELD, INT64),
    )
    return stamped_message_set(package, name, members)
