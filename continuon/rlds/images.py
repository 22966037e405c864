"""Pictures in and out of bytes, and the small picture that a policy sees."""

from __future__ import annotations

import struct
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError, DataError, MissingPackageError
from continuon.rlds.png8 import decode_colour_png, encode_colour_png
from continuon.rlds.png16 import decode_depth_png, encode_depth_png
from continuon.rlds.png_file import is_png, png_size

__all__ = [
    "colour_size",
    "decode_colour",
    "decode_colour_into",
    "decode_colour_png",
    "decode_colour_small",
    "decode_depth_png",
    "decode_jpeg",
    "encode_colour_png",
    "encode_depth_png",
    "encode_jpeg",
    "jpeg_size",
    "png_size",
    "policy_image",
]

_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})


def _simplejpeg() -> ModuleType:
    try:
        import simplejpeg
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "simplejpeg", "data", purpose="reading and writing JPEG"
        ) from error
    return simplejpeg  # type: ignore[no-any-return]


def decode_colour(data: bytes) -> NDArray[np.uint8]:
    """Return a JPEG or PNG, told by content, as uint8 [height, width, 3].

    Raises:
        DataError: neither, or not whole.
    """
    return decode_colour_png(data) if is_png(data) else decode_jpeg(data)


def decode_colour_into(data: bytes, out: NDArray[np.uint8]) -> None:
    """Decode a JPEG or PNG into `out`, uint8 [height, width, 3] without gaps.

    Raises:
        DataError: neither, not whole, or of another size.
    """
    size = colour_size(data)
    if size != (out.shape[1], out.shape[0]):
        raise DataError(
            "E-RLDS-IMAGE-003",
            "a picture of another size than the ones beside it",
            seen=size,
            allowed=(out.shape[1], out.shape[0]),
        )
    if is_png(data):
        out[:] = decode_colour_png(data)
    else:
        decode_jpeg(data, out=out)


def colour_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a JPEG or PNG from its header.

    Raises:
        DataError: neither.
    """
    return png_size(data) if is_png(data) else jpeg_size(data)


def decode_jpeg(
    data: bytes, *, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Return a JPEG as uint8 [height, width, 3], channels red, green, blue.

    With `out`, which has that shape and no gaps, the pixels are written there.

    Raises:
        DataError: the bytes are not a whole JPEG.
        MissingPackageError: simplejpeg is not installed.
    """
    return _decode_jpeg(data, buffer=out)


def decode_colour_small(data: bytes, *, height: int, width: int) -> NDArray[np.uint8]:
    """Return a JPEG or PNG as the small picture uint8 [height, width, 3].

    A JPEG is decoded at the least eighth of its size that still covers the result,
    which saves the inverse transform (a fifth to a third of the time; the entropy
    coding stays), and then averaged. It differs by a few counts from `policy_image` of
    the whole picture; of a PNG it is that.

    Raises:
        ContractError: the size is not positive.
        DataError: neither, or not whole.
    """
    columns, rows = colour_size(data)
    covered = 0 < height <= rows and 0 < width <= columns
    least = {"min_height": height, "min_width": width} if covered else {}
    pixels = decode_colour_png(data) if is_png(data) else _decode_jpeg(data, **least)
    return policy_image(pixels, height=height, width=width)


def _decode_jpeg(data: bytes, **options: Any) -> NDArray[np.uint8]:
    jpeg_size(data)
    if data.rstrip(b"\x00")[-2:] != b"\xff\xd9":
        raise DataError(
            "E-RLDS-JPEG-002",
            "this JPEG ends before its end marker",
            seen=data[-2:].hex(),
            allowed="ffd9",
        )
    package = _simplejpeg()  # its absence is a ValueError too, and no damage
    try:
        pixels: NDArray[np.uint8] = package.decode_jpeg(
            data, colorspace="RGB", **options
        )
    except ValueError as error:
        raise DataError(
            "E-RLDS-JPEG-003", f"this JPEG does not decode: {error}"
        ) from error
    return pixels


def encode_jpeg(rgb: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Return uint8 [height, width, 3] as a baseline JPEG, chroma 4:2:0.

    Raises:
        ContractError: another dtype or shape, or a quality outside 1..100.
        MissingPackageError: simplejpeg is not installed.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ContractError(
            "E-RLDS-JPEG-004",
            "a colour image is uint8 with axes row, column, channel",
            seen=f"{rgb.dtype} {rgb.shape}",
            allowed="uint8 [height, width, 3]",
        )
    if not 1 <= quality <= 100:
        raise ContractError(
            "E-RLDS-JPEG-005", "no such JPEG quality", seen=quality, allowed="1..100"
        )
    encoded: bytes = _simplejpeg().encode_jpeg(
        np.ascontiguousarray(rgb),
        quality=quality,
        colorspace="RGB",
        colorsubsampling="420",
        fastdct=True,
    )
    return encoded


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) from a JPEG's frame header, nothing decoded.

    Raises:
        DataError: not a JPEG, or torn before its frame header.
    """
    position = 2 if data[:2] == b"\xff\xd8" else len(data)
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _BARE_MARKERS:
            position += 2
        elif marker in _FRAME_MARKERS and position + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise DataError(
        "E-RLDS-JPEG-001",
        "no whole JPEG header",
        seen=f"{len(data)} bytes starting {data[:4].hex()}",
        allowed="ffd8 ... a frame header",
    )


def policy_image(
    rgb: NDArray[np.uint8], *, height: int, width: int
) -> NDArray[np.uint8]:
    """Return the box mean of an image: uint8 [height, width, 3].

    Each output pixel is the mean of the input area that it covers, input pixels on the
    border weighted by their covered fraction; halves round up. Any ratio works, also
    enlarging. The same input gives the same bytes on every machine: sums are integers
    where the ratio is, and float64 in a fixed order where it is not.

    Raises:
        ContractError: the input is no colour image or the size is not positive.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ContractError(
            "E-RLDS-IMAGE-001",
            "a policy sees colour images",
            seen=f"{rgb.dtype} {rgb.shape}",
            allowed="uint8 [height, width, 3]",
        )
    if height < 1 or width < 1:
        raise ContractError(
            "E-RLDS-IMAGE-002",
            "a policy image has a positive size",
            seen=(height, width),
        )
    rows, columns = rgb.shape[:2]
    if (rows, columns) == (height, width):
        return rgb.copy()
    if rows % height == 0 and columns % width == 0:
        tall, wide = rows // height, columns // width
        strips = rgb.reshape(height, tall, columns * 3).sum(axis=1, dtype=np.uint32)
        sums = strips.reshape(height, width, wide, 3).sum(axis=2, dtype=np.uint32)
        area = tall * wide
        rounded: NDArray[np.uint32] = (2 * sums + area) // (2 * area)
        return rounded.astype(np.uint8)
    down = _box_sum(rgb.astype(np.float64), height)
    both = _box_sum(down.transpose(1, 0, 2), width).transpose(1, 0, 2)
    mean: NDArray[np.float64] = both * (height * width / (rows * columns))
    return np.clip(np.floor(mean + 0.5), 0, 255).astype(np.uint8)


def _box_sum(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return sums over `size` equal spans of axis 0, ends by their covered fraction."""
    total = np.zeros((values.shape[0] + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=total[1:])
    edges = np.arange(size + 1) * values.shape[0]
    whole, part = edges // size, (edges % size) / size
    upper = np.minimum(whole + 1, values.shape[0])
    at_edge = total[whole] + part[:, None, None] * (total[upper] - total[whole])
    return np.diff(at_edge, axis=0)
