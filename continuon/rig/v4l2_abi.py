"""Video4Linux2's structures and requests on 64-bit Linux (linux/videodev2.h).

Sizes and offsets are part of the kernel's stable interface. Fields are named where this
library uses them; the rest is padding.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from typing import Protocol

import attrs

__all__ = ["Buffer", "Kernel", "PixFormat", "SystemKernel", "fourcc"]

VIDEO_CAPTURE, MEMORY_MMAP, FIELD_NONE = 1, 1, 1
CAP_VIDEO_CAPTURE, CAP_STREAMING = 0x1, 0x4000000
CAP_TIME_PER_FRAME = 0x1000
FLAG_ERROR = 0x40
TIMESTAMP_MASK, TIMESTAMP_MONOTONIC = 0xE000, 0x2000
SOURCE_MASK, SOURCE_START_OF_EXPOSURE = 0x70000, 0x10000

QUERYCAP = 0x80685600
S_FMT = 0xC0D05605
REQBUFS = 0xC0145608
QUERYBUF = 0xC0585609
QBUF = 0xC058560F
DQBUF = 0xC0585611
STREAMON = 0x40045612
STREAMOFF = 0x40045613
S_PARM = 0xC0CC5616

CAPABILITY = struct.Struct("<16s32s32s3I12x")
_FORMAT = struct.Struct("<I4x12I152x")
STREAM_PARM = struct.Struct("<I4I184x")
REQUEST = struct.Struct("<5I")
_BUFFER = struct.Struct("<5I4xqq16x2IQIIi4x")
INT = struct.Struct("<i")


def fourcc(name: str) -> int:
    """Return a pixel format's number: four letters, the first one lowest."""
    return int.from_bytes(name.encode("ascii"), "little")


@attrs.frozen(kw_only=True)
class PixFormat:
    """`v4l2_format` of a capture device: what was asked, then what will come."""

    width: int
    height: int
    pixel_format: int
    line_bytes: int = 0
    image_bytes: int = 0

    def pack(self) -> bytearray:
        """Return the 208 bytes."""
        head = (VIDEO_CAPTURE, self.width, self.height, self.pixel_format, FIELD_NONE)
        return bytearray(
            _FORMAT.pack(*head, self.line_bytes, self.image_bytes, 0, 0, 0, 0, 0, 0)
        )

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> PixFormat:
        """Read the 208 bytes."""
        _, width, height, pixel_format, _, line, image, *_ = _FORMAT.unpack(data)
        return cls(
            width=width,
            height=height,
            pixel_format=pixel_format,
            line_bytes=line,
            image_bytes=image,
        )


@attrs.frozen(kw_only=True)
class Buffer:
    """`v4l2_buffer`: one of the mapped pictures."""

    index: int = 0
    used_bytes: int = 0
    flags: int = 0
    stamp_ns: int = 0
    sequence: int = 0
    offset: int = 0
    length: int = 0

    def pack(self) -> bytearray:
        """Return the 88 bytes."""
        micros = self.stamp_ns // 1000
        head = (self.index, VIDEO_CAPTURE, self.used_bytes, self.flags, FIELD_NONE)
        stamp = (micros // 1_000_000, micros % 1_000_000)
        tail = (self.sequence, MEMORY_MMAP, self.offset, self.length, 0, 0)
        return bytearray(_BUFFER.pack(*head, *stamp, *tail))

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> Buffer:
        """Read the 88 bytes."""
        fields = _BUFFER.unpack(data)
        index, _, used, flags, _, seconds, micros, sequence, _, offset, length = fields[
            :11
        ]
        return cls(
            index=index,
            used_bytes=used,
            flags=flags,
            stamp_ns=(seconds * 1_000_000 + micros) * 1000,
            sequence=sequence,
            offset=offset,
            length=length,
        )


class Kernel(Protocol):
    """The four calls that a driver makes."""

    def open(self, path: str) -> int:
        """Open a device node, not blocking."""
        ...

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        """Make a call; the argument is changed in place."""
        ...

    def mmap(self, descriptor: int, length: int, offset: int) -> memoryview:
        """Map a buffer."""
        ...

    def close(self, descriptor: int) -> None:
        """Close the node."""
        ...


class SystemKernel:
    """The kernel of this machine."""

    def open(self, path: str) -> int:
        """Open a device node, not blocking."""
        return os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        """Make a call; the argument is changed in place."""
        fcntl.ioctl(descriptor, request, argument, True)  # noqa: FBT003

    def mmap(self, descriptor: int, length: int, offset: int) -> memoryview:
        """Map a buffer."""
        return memoryview(mmap.mmap(descriptor, length, offset=offset))

    def close(self, descriptor: int) -> None:
        """Close the node."""
        os.close(descriptor)
