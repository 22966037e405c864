"""Take everything out of a picture file that is not needed to show its pixels."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from continuon.errors import DataError
from continuon.rlds.depth_lz4 import decode_depth_lz4, encode_depth_lz4
from continuon.rlds.vocabulary import Codec

__all__ = ["Scrub", "bare_jpeg", "bare_picture", "bare_png"]

Scrub = Callable[[bytes], bytes]

_KEPT_APPS = {0xE0: b"JFIF\x00", 0xEE: b"Adobe"}
_SCAN, _END = 0xDA, 0xD9
_KEPT_MARKERS = frozenset({0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD})
"""Frames that are baseline, extended or progressive; tables; scans; restarts."""
_KEPT_CHUNKS = frozenset({b"IHDR", b"IDAT", b"IEND"})
_PALETTE = 3
"""The PNG colour type that cannot be read without its palette."""


def bare_picture(data: bytes, codec: Codec) -> bytes:
    """Return a picture of a stream of this codec without what its pixels need not.

    A depth-lz4 frame is packed anew: between its blocks there may be idle bytes.

    Raises:
        DataError: it cannot be followed to its end.
    """
    if codec is Codec.DEPTH_LZ4:
        return encode_depth_lz4(decode_depth_lz4(data))
    return (bare_jpeg if codec is Codec.JPEG else bare_png)(data)


def bare_jpeg(data: bytes) -> bytes:
    """Return a JPEG without EXIF, comments, thumbnails or anything behind its end.

    Raises:
        DataError: its segments cannot be followed.
    """
    if data[:2] != b"\xff\xd8":
        raise _unreadable("JPEG")
    out, position = [data[:2]], 2
    while position + 4 <= len(data):
        marker = data[position + 1]
        if data[position] != 0xFF:
            break
        if marker == 0xFF:
            position += 1
            continue
        if marker == _END:
            return b"".join((*out, b"\xff\xd9"))
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _SCAN:
            end = _scan_end(data, end)
        if end > len(data) or end < position + 4:
            break
        if _is_kept(marker, data[position + 4 : position + 9]):
            out.append(_without_thumbnail(marker, data[position:end]))
        position = end
    if data[position : position + 2] == b"\xff\xd9":
        return b"".join((*out, b"\xff\xd9"))
    raise _unreadable("JPEG")


def _is_kept(marker: int, start: bytes) -> bool:
    if 0xE0 <= marker <= 0xEF:
        wanted = _KEPT_APPS.get(marker)
        return wanted is not None and start.startswith(wanted)
    return marker in _KEPT_MARKERS


def _without_thumbnail(marker: int, segment: bytes) -> bytes:
    size = {0xE0: 14, 0xEE: 12}.get(marker)
    if size is None or len(segment) <= 4 + size:
        return segment
    content = bytearray(segment[4 : 4 + size])
    if marker == 0xE0:
        content[12:14] = b"\x00\x00"
    return segment[:2] + (2 + size).to_bytes(2, "big") + bytes(content)


def _scan_end(data: bytes, position: int) -> int:
    """Return where the entropy-coded data ends: at a marker that is no restart."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            raise _unreadable("JPEG")
        following = data[position + 1]
        if following and not 0xD0 <= following <= 0xD7 and following != 0xFF:
            return position
        position += 1 if following == 0xFF else 2


def bare_png(data: bytes) -> bytes:
    """Return a PNG with the chunks that its pixels need, and nothing behind these.

    Raises:
        DataError: its chunks or its pixels cannot be followed to their end.
    """
    out, position, pixels = [data[:8]], 8, zlib.decompressobj()
    is_palette = data[25:26] == bytes((_PALETTE,))
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if end > len(data):
            break
        if kind in _KEPT_CHUNKS or (kind == b"PLTE" and is_palette):
            out.append(data[position:end])
        if kind == b"IDAT" and not _ends_within(pixels, data[position + 8 : end - 4]):
            break
        if kind == b"IEND":
            if not pixels.eof or end - position != 12:
                break
            return b"".join(out)
        position = end
    raise _unreadable("PNG")


def _ends_within(pixels: zlib._Decompress, part: bytes) -> bool:
    """Feed compressed pixels; False where something stands behind their end."""
    try:
        pixels.decompress(part)
    except zlib.error:
        return False
    return not pixels.unused_data


def _unreadable(kind: str) -> DataError:
    return DataError(
        "E-RLDS-SCRUB-001",
        f"this {kind} cannot be followed to its end, so it is not exported",
    )
