"""8-bit PNG as colour: what others store without loss, and what we store so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError
from continuon.rlds.png_file import damaged, read_samples, write_png

__all__ = ["COLOUR_KINDS", "decode_colour_png", "encode_colour_png"]

COLOUR_KINDS = frozenset({(8, 0), (8, 2), (8, 3), (8, 4), (8, 6)})
"""Bits and colour type: grey, colour, palette, grey with alpha, colour with alpha."""
_UP = 2


def encode_colour_png(rgb: NDArray[np.uint8]) -> bytes:
    """Return uint8 [height, width, 3] as a lossless PNG, each row filtered by `up`.

    Raises:
        ContractError: another dtype or shape.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ContractError(
            "E-RLDS-PNG-013",
            "a colour image is uint8 with axes row, column, channel",
            seen=f"{rgb.dtype} {rgb.shape}",
            allowed="uint8 [height, width, 3]",
        )
    height, width, _ = rgb.shape
    pixels = rgb.reshape(height, 3 * width)
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1:])
    return write_png(rows, width=width, bits=8, colour=2)


def decode_colour_png(data: bytes) -> NDArray[np.uint8]:
    """Return an 8-bit PNG as uint8 [height, width, 3]; transparency is left out.

    Raises:
        DataError: torn, damaged, or a PNG of another depth than 8 bits.
    """
    samples, colour, palette = read_samples(
        data, allowed=COLOUR_KINDS, wanted="8 bits a sample"
    )
    if colour == 3:
        table = np.frombuffer(palette, np.uint8)
        if table.size % 3 or int(samples.max()) >= table.size // 3:
            raise damaged("a pixel points past the palette", 14)
        return table.reshape(-1, 3)[samples[..., 0]]
    if colour in {0, 4}:
        return np.repeat(samples[..., :1], 3, axis=2)
    return np.ascontiguousarray(samples[..., :3])
