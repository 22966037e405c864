"""What a ROS message holds for us: its stamp, a picture, numbers, or a document.

Messages come decoded, as objects with `__msgtype__` and plain fields; nothing of ROS is
imported here. Encodings of pictures: sensor_msgs/image_encodings.h; depth as 16-bit
counts is in mm (REP 118).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import msgspec
import numpy as np
from numpy.typing import NDArray

from continuon.rlds.depth_lz4 import is_depth_lz4
from continuon.rlds.vocabulary import Codec

__all__ = [
    "Picture",
    "document_of",
    "encoded_picture",
    "header_ns",
    "is_picture_type",
    "numbers_of",
    "picture_of",
]

_CHANNELS: Mapping[str, tuple[int, ...]] = {
    "rgb8": (0, 1, 2),
    "bgr8": (2, 1, 0),
    "rgba8": (0, 1, 2),
    "bgra8": (2, 1, 0),
    "8UC3": (2, 1, 0),
    "mono8": (0, 0, 0),
    "8UC1": (0, 0, 0),
}
"""Which stored channel is red, green and blue."""
_WIDTH = {"rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4}
_DEEP = frozenset({"mono16", "16UC1"})
_PICTURES = frozenset({"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"})
_MAX_INLINE = 64


@attrs.frozen(eq=False)
class Picture:
    """A picture as it goes into a stream: its codec, and bytes or pixels."""

    codec: Codec
    value: bytes | NDArray[Any]
    size: tuple[int, int] | None


def is_picture_type(kind: str) -> bool:
    """Return whether messages of this type are pictures."""
    return kind in _PICTURES


def header_ns(message: Any) -> int | None:
    """Return the header's stamp in ns; None where there is none, or it is zero."""
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    if stamp is None:
        return None
    at = int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
    return at if at > 0 else None


def picture_of(message: Any) -> Picture | None:
    """Return the picture in an Image or CompressedImage, None where it is not ours.

    Raw pictures become pixels: uint8 [height, width, 3] or uint16 [height, width].
    """
    data = np.asarray(message.data, np.uint8)
    if not hasattr(message, "encoding"):
        return encoded_picture(data.tobytes())
    height, width = int(message.height), int(message.width)
    encoding, row = str(message.encoding), int(message.step)
    if height < 1 or width < 1 or data.size != height * row:
        return None
    lines = data.reshape(height, row)
    if encoding in _DEEP and row >= 2 * width:
        order = ">u2" if message.is_bigendian else "<u2"
        deep = np.ascontiguousarray(lines[:, : 2 * width]).view(order)
        return Picture(Codec.PNG16, deep.astype(np.uint16), (width, height))
    channels = _WIDTH.get(encoding, 1)
    if encoding not in _CHANNELS or row < channels * width:
        return None
    pixels = lines[:, : channels * width].reshape(height, width, channels)
    colour = np.ascontiguousarray(pixels[..., list(_CHANNELS[encoding])])
    return Picture(Codec.PNG, colour, (width, height))


def encoded_picture(data: bytes) -> Picture | None:
    """Return an encoded picture by its first bytes; None where none is known."""
    if data[:2] == b"\xff\xd8":
        return Picture(Codec.JPEG, data, None)
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 33:
        deep = data[24:26] == b"\x10\x00"
        return Picture(Codec.PNG16 if deep else Codec.PNG, data, None)
    if is_depth_lz4(data):
        return Picture(Codec.DEPTH_LZ4, data, None)
    return None


def numbers_of(message: Any) -> dict[str, float] | None:
    """Return all numbers of a message by path, its header left out.

    The positions of a JointState are named by its joints. None where it holds a text
    or bytes, or more than a few numbers.
    """
    names = getattr(message, "name", None)
    positions = getattr(message, "position", None)
    if isinstance(names, list) and positions is not None:
        if len(names) != len(positions) or not names:
            return None
        return {str(n): float(p) for n, p in zip(names, positions, strict=True)}
    found: dict[str, float] = {}
    for path, value in _leaves(message, ""):
        if not isinstance(value, (bool, int, float, np.number, np.bool_)):
            return None
        found[path] = float(value)
    return found if 0 < len(found) <= _MAX_INLINE else None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        for row, item in enumerate(value[: _MAX_INLINE + 1]):
            yield from _leaves(item, f"{path}_{row}")
    elif hasattr(value, "__msgtype__"):
        for name, item in _fields(value):
            if name != "header":
                yield from _leaves(item, f"{path}.{name}" if path else name)
    else:
        yield path, value


def _fields(message: Any) -> Iterator[tuple[str, Any]]:
    for name in message.__dataclass_fields__:
        if name != "__msgtype__":
            yield name, getattr(message, name)


def document_of(message: Any) -> bytes:
    """Return a message as one JSON object, from which it could be made again.

    JSON has no NaN and no infinity: they stand as text. Bytes and long arrays of small
    numbers stand as base64 with their dtype.
    """
    return msgspec.json.encode(_plain(message))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.itemsize == 1 and value.dtype.kind in "iu" and value.size > 16:
            packed = base64.b64encode(value.tobytes()).decode()
            return {"dtype": str(value.dtype), "base64": packed}
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return {"dtype": "bytes", "base64": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__msgtype__"):
        return {name: _plain(item) for name, item in _fields(value)}
    return value
