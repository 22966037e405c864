"""Protobuf schemas as MCAP files carry them: a FileDescriptorSet, built by hand.

Field numbers of `descriptor.proto` (protobuf): a file's name 1, package 2, imports 3,
message 4, syntax 12; a message's name 1 and fields 2; a field's name 1, number 3,
label 4, type 5 and type name 6.
"""

from __future__ import annotations

from collections.abc import Sequence

from continuon.rlds.wire import Pieces, tag, varint

__all__ = [
    "BYTES",
    "FIXED32_KIND",
    "INT32",
    "INT64",
    "MESSAGE",
    "STRING",
    "field_of",
    "stamped_message_set",
]

INT32, INT64, FIXED32_KIND, STRING, BYTES, MESSAGE = 5, 3, 7, 9, 12, 11
_STAMP_FILE = "google/protobuf/timestamp.proto"


def stamped_message_set(package: str, name: str, members: Sequence[bytes]) -> bytes:
    """Return the set of one message whose field 1 is its timestamp.

    Args:
        package: of the message.
        name: of the message.
        members: its other fields, each from `field_of`.
    """
    seconds = (field_of("seconds", 1, INT64), field_of("nanos", 2, INT32))
    stamp = field_of("timestamp", 1, MESSAGE, ".google.protobuf.Timestamp")
    files = Pieces()
    files.field(
        1, _file(_STAMP_FILE, "google.protobuf", (), _message("Timestamp", seconds))
    )
    body = _message(name, (stamp, *members))
    files.field(1, _file(f"{package}/{name}.proto", package, (_STAMP_FILE,), body))
    return files.join()


def field_of(name: str, number: int, kind: int, type_name: str = "") -> bytes:
    """Return one optional field of a message."""
    out = Pieces()
    out.field(1, name.encode())
    out.add(tag(3, 0) + varint(number) + tag(4, 0) + varint(1) + tag(5, 0))
    out.add(varint(kind))
    if type_name:
        out.field(6, type_name.encode())
    return out.join()


def _message(name: str, members: Sequence[bytes]) -> bytes:
    out = Pieces()
    out.field(1, name.encode())
    out.repeated(2, members)
    return out.join()


def _file(name: str, package: str, imports: Sequence[str], message: bytes) -> bytes:
    out = Pieces()
    out.field(1, name.encode())
    out.field(2, package.encode())
    out.repeated(3, [path.encode() for path in imports])
    out.field(4, message)
    out.field(12, b"proto3")
    return out.join()
