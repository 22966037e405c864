"""Encoded pictures of many steps as one array, at their own size or a smaller one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.rlds.depth_codecs import decode_depth, depth_size
from continuon.rlds.images import (
    colour_size,
    decode_colour_into,
    decode_colour_small,
)
from continuon.rlds.raw_depth import raw_counts
from continuon.rlds.wire import Buffer

__all__ = ["decode_colours", "decode_depths", "raw_depths"]


def decode_colours(
    blobs: Sequence[Buffer],
    out: NDArray[np.uint8] | None = None,
    *,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Return JPEGs or PNGs of one size as uint8 [n, height, width, 3], in `out`.

    With `size` (height, width) each is decoded as small as its codec can and then
    averaged to it: see `decode_colour_small`.

    Raises:
        DataError: one is damaged or of another size.
    """
    if not blobs:
        return np.empty((0, 0, 0, 3), np.uint8)
    width, height = colour_size(bytes(blobs[0]))
    if out is None:
        out = np.empty((len(blobs), *(size or (height, width)), 3), np.uint8)
    for row, blob in enumerate(blobs):
        data = bytes(blob)
        if size is None:
            decode_colour_into(data, out[row])
            continue
        if colour_size(data) != (width, height):
            raise _two_sizes(colour_size(data), (width, height))
        out[row] = decode_colour_small(data, height=size[0], width=size[1])
    return out


def decode_depths(
    blobs: Sequence[Buffer],
    out: NDArray[np.uint16] | None = None,
    *,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint16]:
    """Return depth pictures of one size as uint16 [n, height, width, 1], in `out`.

    With `size` (height, width) each pixel is that of the source under its middle: a
    count that was measured, never a mean over an edge or a hole.

    Raises:
        DataError: one is damaged or of another size.
    """
    if not blobs:
        return np.empty((0, 0, 0, 1), np.uint16)
    width, height = depth_size(bytes(blobs[0][:64]))
    if out is None:
        out = np.empty((len(blobs), *(size or (height, width)), 1), np.uint16)
    for row, blob in enumerate(blobs):
        depth = decode_depth(bytes(blob))
        if depth.shape != (height, width):
            raise _two_sizes(depth.shape, (height, width))
        _put_depth(depth, out[row, :, :, 0], size)
    return out


def raw_depths(
    blobs: Sequence[Buffer],
    out: NDArray[np.uint16] | None = None,
    *,
    shape: tuple[int, int],
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint16]:
    """Return bare depth pictures of `shape` (height, width) as `decode_depths` does.

    Raises:
        DataError: one has another count of bytes.
    """
    if out is None:
        out = np.empty((len(blobs), *(size or shape), 1), np.uint16)
    for row, blob in enumerate(blobs):
        _put_depth(raw_counts(blob, *shape), out[row, :, :, 0], size)
    return out


def _put_depth(
    depth: NDArray[np.uint16], out: NDArray[np.uint16], size: tuple[int, int] | None
) -> None:
    if size is not None:
        rows = _middles(depth.shape[0], size[0])
        columns = _middles(depth.shape[1], size[1])
        depth = depth[rows[:, None], columns]
    if depth.shape != out.shape:
        raise _two_sizes(depth.shape, out.shape)
    out[:] = depth


def _middles(length: int, count: int) -> NDArray[np.int64]:
    """Return int64 [count]: the pixel in which the middle of each span lies."""
    return (2 * np.arange(count, dtype=np.int64) + 1) * length // (2 * count)


def _two_sizes(seen: object, allowed: object) -> DataError:
    return DataError(
        "E-RLDS-STORE-002",
        "pictures of two sizes in one window",
        seen=seen,
        allowed=allowed,
    )
