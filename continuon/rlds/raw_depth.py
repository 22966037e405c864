"""Depth as bare counts: three times a PNG's bytes on the disk, a tenth of its time.

In a TFDS directory such a column is a `Tensor` of uint16 encoded as `bytes`, each step
the little-endian counts of one picture, row by row. Stock tensorflow-datasets reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.rlds.depth_codecs import decode_depth
from continuon.rlds.png16 import encode_depth_png
from continuon.rlds.wire import Buffer

__all__ = ["RawDepths", "counts_of", "is_raw_depth", "raw_counts"]


def is_raw_depth(tensor: Mapping[str, Any]) -> bool:
    """Return whether a tensor feature of `features.json` holds such pictures."""
    shape = tensor.get("shape", {}).get("dimensions", ())
    kind = (tensor.get("dtype"), tensor.get("encoding"))
    return kind == ("uint16", "bytes") and len(shape) == 3 and int(shape[2]) == 1


def counts_of(picture: bytes) -> bytes:
    """Return the counts of a depth picture of any codec, little-endian, row by row.

    Raises:
        DataError: of no known codec, torn or damaged.
    """
    return decode_depth(picture).astype("<u2").tobytes()


def raw_counts(blob: Buffer, height: int, width: int) -> NDArray[np.uint16]:
    """Return a view of one picture, uint16 [height, width].

    Raises:
        DataError: E-RLDS-DEPTH-001, other bytes than such a picture has.
    """
    if len(blob) != 2 * height * width:
        raise DataError(
            "E-RLDS-DEPTH-001",
            "a bare depth picture has another size than features.json says",
            seen=f"{len(blob)} bytes",
            allowed=f"{2 * height * width}: {height} rows of {width} counts",
        )
    return np.frombuffer(blob, "<u2").reshape(height, width)


class RawDepths(Sequence[bytes]):
    """Bare pictures in a mapped shard, each made a depth PNG when it is asked for.

    Args:
        views: of the pictures.
        size: height and width.
    """

    def __init__(self, views: Sequence[memoryview], size: tuple[int, int]) -> None:
        self._views = views
        self._size = size

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return RawDepths(self._views[index], self._size)
        return encode_depth_png(self.counts(index))

    def counts(self, index: int) -> NDArray[np.uint16]:
        """Return one picture, uint16 [height, width].

        Raises:
            DataError: it has another size than the data set's.
        """
        return raw_counts(self._views[index], *self._size)
