"""16-bit grey PNG: a fast writer, and a reader of every legal file of that kind."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError
from continuon.rlds.png_file import read_samples, write_png

__all__ = ["DEPTH_KINDS", "decode_depth_png", "encode_depth_png"]

_ROOM = threading.local()
DEPTH_KINDS = frozenset({(16, 0)})
"""Bits and colour type of a depth image."""


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
    rows = _rows(height, 1 + 2 * width)
    rows[:, 1:] = (
        depth.astype(">u2", order="C").view(np.uint8).reshape(height, 2 * width)
    )
    return write_png(rows, width=width, bits=16, colour=0)


def _rows(height: int, width: int) -> NDArray[np.uint8]:
    """Return room for rows whose filter is none, the same again in each thread.

    Fresh memory of this size would be fetched from the system for every frame.
    """
    rows: NDArray[np.uint8] | None = getattr(_ROOM, "rows", None)
    if rows is None or rows.shape != (height, width):
        rows = _ROOM.rows = np.zeros((height, width), np.uint8)
    return rows


def decode_depth_png(data: bytes, *, native: bool = True) -> NDArray[np.uint16]:
    """Return a 16-bit grey PNG as uint16 [height, width], counts as stored.

    Without `native` its bytes stay in the file's order (the dtype says so), for those
    who copy it anyway: numpy then turns them as it copies.

    Raises:
        DataError: torn, damaged, or another kind of PNG than 16-bit grey.
    """
    samples, _, _ = read_samples(
        data, allowed=DEPTH_KINDS, wanted="16 bits, colour type 0 (grey)"
    )
    counts = samples.view(">u2")[..., 0]
    return counts.astype(np.uint16) if native else counts
