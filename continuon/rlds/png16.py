"""16-bit grey PNG: a fast writer, and a reader of every legal file of that kind.

W3C PNG specification (third edition): section 5 chunks, 7 to 9 filters, 8 interlace.
"""

from __future__ import annotations

import importlib
import struct
import zlib
from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError, DataError
from continuon.rlds.checksum import crc32

__all__ = ["decode_depth_png", "encode_depth_png", "png_size"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PIXELS = 1 << 26
_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
"""First row, first column, row step, column step of each interlace pass."""


def encode_depth_png(depth: NDArray[np.uint16]) -> bytes:
    """Return uint16 [height, width] as a lossless 16-bit grey PNG.

    Rows are not filtered: on depth images deflate level 1 alone is both faster and
    about as small as with the `up` or `sub` filter.

    Raises:
        ContractError: not uint16, not two axes, or empty.
    """
    if depth.dtype != np.uint16 or depth.ndim != 2 or depth.size == 0:
        raise ContractError(
            "E-RLDS-PNG-001",
            "a depth image is uint16 with axes row, column",
            seen=f"{depth.dtype} {depth.shape}",
            allowed="uint16 [height, width]",
        )
    height, width = depth.shape
    rows = np.empty((height, 1 + 2 * width), np.uint8)
    rows[:, 0] = 0
    rows[:, 1:] = depth.astype(">u2").view(np.uint8).reshape(height, 2 * width)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    body = _deflate(rows.reshape(-1).data)
    return b"".join(
        (_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", body), _chunk(b"IEND"))
    )


def _deflate(rows: memoryview) -> bytes:
    """Deflate with ISA-L where it is installed: a third of zlib's time, same format."""
    engine = _isal()
    if engine is None:
        return zlib.compress(rows, 1)
    packed: bytes = engine.compress(rows, 1)
    return packed


@cache
def _isal() -> ModuleType | None:
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return None


def _chunk(kind: bytes, data: bytes = b"") -> bytes:
    crc = crc32(data, crc32(kind))
    return b"".join((len(data).to_bytes(4, "big"), kind, data, crc.to_bytes(4, "big")))


def png_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) from a PNG's header, nothing decoded.

    Raises:
        DataError: not a PNG.
    """
    if data[:8] != _SIGNATURE or data[12:16] != b"IHDR" or len(data) < 33:
        raise _damaged("it does not start as a PNG", 2)
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def decode_depth_png(data: bytes) -> NDArray[np.uint16]:
    """Return a 16-bit grey PNG as uint16 [height, width], counts as stored.

    All filters, interlaced or not, any number of IDAT chunks; every CRC is checked.

    Raises:
        DataError: torn, damaged, or another kind of PNG than 16-bit grey.
    """
    header, body = _read_chunks(bytes(data))
    width, height, bits, colour, compression, filters, interlace = header
    if (bits, colour) != (16, 0):
        raise DataError(
            "E-RLDS-PNG-003",
            "this PNG holds another kind of pixel",
            seen=f"{bits} bits, colour type {colour}",
            allowed="16 bits, colour type 0 (grey)",
        )
    if compression or filters or interlace > 1:
        raise _damaged("unknown compression, filter or interlace method", 4)
    if not 0 < width * height <= _MAX_PIXELS:
        raise _damaged(f"{width} x {height} pixels", 5)
    passes = _passes(width, height) if interlace else [(0, 0, 1, 1, height, width)]
    raw = _inflate(body, sum(h * (1 + 2 * w) for *_, h, w in passes))
    out = np.empty((height, width), np.uint16)
    start = 0
    for row, column, row_step, column_step, h, w in passes:
        size = h * (1 + 2 * w)
        lines = raw[start : start + size].reshape(h, 1 + 2 * w)
        start += size
        pixels = _unfilter(lines).reshape(h, w, 2).view(">u2")[..., 0]
        out[row::row_step, column::column_step] = pixels
    return out


def _read_chunks(data: bytes) -> tuple[tuple[int, ...], bytes]:
    if data[:8] != _SIGNATURE:
        raise _damaged("it does not start as a PNG", 2)
    position, header, body, ended = 8, None, [], False
    while not ended:
        if position + 12 > len(data):
            raise _damaged("it ends before its last chunk", 6)
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length
        if end > len(data):
            raise _damaged("it ends inside a chunk", 6)
        kind = data[position + 4 : position + 8]
        content = data[position + 8 : end - 4]
        if (
            crc32(data[position + 4 : end - 4]).to_bytes(4, "big")
            != data[end - 4 : end]
        ):
            raise _damaged(f"the CRC of a {kind!r} chunk is wrong", 7)
        if header is None and kind != b"IHDR":
            raise _damaged("its first chunk is not IHDR", 8)
        if kind == b"IHDR":
            if header is not None or length != 13:
                raise _damaged("its IHDR is repeated or of the wrong length", 8)
            header = struct.unpack(">IIBBBBB", content)
        elif kind == b"IDAT":
            body.append(content)
        elif not kind[0] & 0x20 and kind not in {b"IEND", b"PLTE"}:
            raise _damaged(f"it needs the unknown chunk {kind!r}", 9)
        ended = kind == b"IEND"
        position = end
    if header is None or not body:
        raise _damaged("it holds no pixels", 8)
    return header, b"".join(body)


def _passes(width: int, height: int) -> list[tuple[int, int, int, int, int, int]]:
    sized = []
    for row, column, row_step, column_step in _ADAM7:
        h = (height - row + row_step - 1) // row_step
        w = (width - column + column_step - 1) // column_step
        if h > 0 and w > 0:
            sized.append((row, column, row_step, column_step, h, w))
    return sized


def _inflate(body: bytes, size: int) -> NDArray[np.uint8]:
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(body, size + 1)
        if len(raw) == size and not inflater.eof:
            raw += inflater.decompress(inflater.unconsumed_tail, 1)
    except zlib.error as error:
        raise _damaged(f"its pixels do not inflate: {error}", 10) from error
    if len(raw) != size or not inflater.eof:
        raise _damaged(f"it holds {len(raw)} bytes of rows where {size} belong", 11)
    return np.frombuffer(raw, np.uint8)


def _unfilter(lines: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo the row filters; lines is uint8 [rows, 1 + bytes], the filter type first."""
    kinds, pixels = lines[:, 0], lines[:, 1:]
    highest = int(kinds.max())
    if highest > 4:
        raise _damaged(f"unknown row filter {highest}", 12)
    if highest == 0:
        return np.ascontiguousarray(pixels)
    if highest <= 2:
        return _unfilter_sums(kinds, pixels)
    return _unfilter_waves(kinds, pixels)


def _unfilter_sums(
    kinds: NDArray[np.uint8], pixels: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    out = pixels.copy()
    rows, width = out.shape
    left = kinds == 1
    pairs = out[left].reshape(-1, width // 2, 2)
    out[left] = np.cumsum(pairs, axis=1, dtype=np.uint8).reshape(-1, width)
    for row in np.flatnonzero(kinds == 2):
        if row:
            out[row] += out[row - 1]
    return out.reshape(rows, width)


def _unfilter_waves(
    kinds: NDArray[np.uint8], pixels: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Undo any mix of filters, one anti-diagonal at a time.

    A sample needs its left, upper and upper-left neighbours, all of which lie on the
    two diagonals before its own, so each diagonal is one vector operation.
    """
    rows, width = pixels.shape
    columns = width // 2
    coded = pixels.reshape(rows, columns, 2)
    out = np.zeros((rows + 1, columns + 1, 2), np.int16)
    kind_of_row = kinds.astype(np.intp)
    for diagonal in range(rows + columns - 1):
        r = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        c = diagonal - r
        left, up, corner = out[r + 1, c], out[r, c + 1], out[r, c]
        estimate = left + up - corner
        off_left = np.abs(estimate - left)
        off_up = np.abs(estimate - up)
        off_corner = np.abs(estimate - corner)
        paeth = np.where(
            (off_left <= off_up) & (off_left <= off_corner),
            left,
            np.where(off_up <= off_corner, up, corner),
        )
        guesses = np.stack((np.zeros_like(left), left, up, (left + up) >> 1, paeth))
        guess = guesses[kind_of_row[r], np.arange(r.size)]
        out[r + 1, c + 1] = (coded[r, c] + guess) & 0xFF
    return np.ascontiguousarray(out[1:, 1:].astype(np.uint8)).reshape(rows, width)


def _damaged(why: str, number: int) -> DataError:
    return DataError(f"E-RLDS-PNG-{number:03d}", f"damaged PNG: {why}")
