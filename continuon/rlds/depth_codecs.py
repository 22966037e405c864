"""How depth is stored, by codec: the one place that knows all of them.

A picture tells its codec by its first bytes, so whoever reads asks here and needs no
stream table; whoever writes names one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.rlds.depth_lz4 import (
    decode_depth_lz4,
    depth_lz4_size,
    encode_depth_lz4,
    is_depth_lz4,
)
from continuon.rlds.png16 import decode_depth_png, encode_depth_png
from continuon.rlds.png_file import is_png, png_size
from continuon.rlds.vocabulary import Codec

__all__ = [
    "DEPTH_CODECS",
    "DepthCodec",
    "decode_depth",
    "depth_codec_of",
    "depth_pngs",
    "depth_size",
    "encode_depth",
]


@attrs.frozen
class DepthCodec:
    """One way to store uint16 [height, width] without loss.

    Attributes:
        is_mine: tells it by the first bytes.
        size: (width, height) from the first 64 bytes.
        encode, decode: there and back; what is damaged is a `DataError`.
    """

    is_mine: Callable[[bytes], bool]
    size: Callable[[bytes], tuple[int, int]]
    encode: Callable[[NDArray[np.uint16]], bytes]
    decode: Callable[[bytes], NDArray[np.uint16]]


def _png_counts(data: bytes) -> NDArray[np.uint16]:
    return decode_depth_png(data, native=False)


DEPTH_CODECS: Mapping[Codec, DepthCodec] = {
    Codec.PNG16: DepthCodec(is_png, png_size, encode_depth_png, _png_counts),
    Codec.DEPTH_LZ4: DepthCodec(
        is_depth_lz4, depth_lz4_size, encode_depth_lz4, decode_depth_lz4
    ),
}


def depth_codec_of(data: bytes) -> Codec:
    """Return the codec of an encoded depth picture.

    Raises:
        DataError: E-RLDS-DEPTH-010, it is none that is known.
    """
    for codec, known in DEPTH_CODECS.items():
        if known.is_mine(data):
            return codec
    raise DataError(
        "E-RLDS-DEPTH-010",
        "a depth picture is of a codec that is not known here",
        seen=f"{len(data)} bytes from {bytes(data[:8]).hex()}",
        allowed=", ".join(DEPTH_CODECS),
        hint="a newer version of continuon may have written it",
    )


def depth_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a depth picture from its first 64 bytes.

    Raises:
        DataError: of no known codec, or not whole.
    """
    return DEPTH_CODECS[depth_codec_of(data)].size(data)


def decode_depth(data: bytes) -> NDArray[np.uint16]:
    """Return a depth picture as uint16 [height, width], counts as stored.

    The byte order may be the file's, as the dtype says: whoever copies turns it.

    Raises:
        DataError: of no known codec, torn or damaged.
        MissingPackageError: what decodes it is not installed.
    """
    return DEPTH_CODECS[depth_codec_of(data)].decode(data)


def encode_depth(depth: NDArray[np.uint16], codec: Codec) -> bytes:
    """Return uint16 [height, width] by a codec, without loss.

    Raises:
        ContractError: not uint16, not two axes, or empty.
        MissingPackageError: what encodes it is not installed.
    """
    return DEPTH_CODECS[codec].encode(depth)


def depth_pngs(pictures: Sequence[bytes]) -> Sequence[bytes]:
    """Return depth pictures as PNGs: the same ones where they are, else made on access.

    Raises:
        DataError: the first is of no known codec.
    """
    if not len(pictures) or depth_codec_of(bytes(pictures[0])) is Codec.PNG16:
        return pictures
    return _Pngs(pictures)


class _Pngs(Sequence[bytes]):
    def __init__(self, pictures: Sequence[bytes]) -> None:
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Pngs(self._pictures[index])
        counts = decode_depth(bytes(self._pictures[index]))
        return encode_depth_png(counts.astype(np.uint16))
