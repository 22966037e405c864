"""A hook over the pictures that leave: what somebody finds in them is made unreadable.

A finder gets the decoded colour picture and returns boxes. Their pixels become coarse
squares in the colour picture and unknown (0) in the depth picture nearest in time, and
only pictures with a box are encoded again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.rlds.depth_codecs import decode_depth, depth_codec_of, encode_depth
from continuon.rlds.images import (
    decode_colour,
    encode_colour_png,
    encode_jpeg,
)
from continuon.rlds.png_file import is_png

__all__ = ["Box", "FindBoxes", "Redactor", "pixelate"]

_SQUARES = 6
"""A box is left with this many squares along its longer side: too few for a face."""


@attrs.frozen
class Box:
    """A rectangle of pixels: left and top inside, right and bottom outside."""

    left: int
    top: int
    right: int
    bottom: int


FindBoxes = Callable[[NDArray[np.uint8]], Sequence[Box]]


@attrs.frozen
class Redactor:
    """Applies a finder to pictures; the boxes are given back to be used on depth."""

    find: FindBoxes

    def colour(self, blob: bytes) -> tuple[bytes, tuple[Box, ...], tuple[int, int]]:
        """Return the picture without what was found, the boxes, and (width, height)."""
        pixels = decode_colour(blob)
        boxes = tuple(self.find(pixels))
        size = (pixels.shape[1], pixels.shape[0])
        if not boxes:
            return blob, boxes, size
        hidden = pixels.copy()
        for box in boxes:
            pixelate(hidden, box)
        encode = encode_colour_png if is_png(blob) else encode_jpeg
        return encode(hidden), boxes, size

    def depth(self, blob: bytes, boxes: Sequence[Box], size: tuple[int, int]) -> bytes:
        """Return a depth picture with the boxes unknown; `size` is the colour's."""
        if not boxes:
            return blob
        depth = decode_depth(blob).astype(np.uint16)
        across, down = depth.shape[1] / size[0], depth.shape[0] / size[1]
        for box in boxes:
            rows = slice(int(box.top * down), int(np.ceil(box.bottom * down)))
            columns = slice(int(box.left * across), int(np.ceil(box.right * across)))
            depth[rows, columns] = 0
        return encode_depth(depth, depth_codec_of(blob))


def pixelate(pixels: NDArray[np.uint8], box: Box) -> None:
    """Replace a box of uint8 [height, width, 3] by the means of coarse squares."""
    top, left = max(box.top, 0), max(box.left, 0)
    part = pixels[top : max(box.bottom, top), left : max(box.right, left)]
    if not part.size:
        return
    side = max(1, -(-max(part.shape[:2]) // _SQUARES))
    for row in range(0, part.shape[0], side):
        for column in range(0, part.shape[1], side):
            square = part[row : row + side, column : column + side]
            square[:] = square.reshape(-1, 3).mean(axis=0).astype(np.uint8)
