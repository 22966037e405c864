"""Tokens of a picture on the robot: a trained codebook's encoder in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from continuon.edge.convolution import Convolution
from continuon.tensorfile import read_kind

__all__ = ["Tokeniser"]

_VERSION = 1
"""Of the files that are read here."""
Array = np.ndarray[Any, Any]


class Tokeniser:
    """A codebook's encoder; `id` is the digest of the file that it was read from."""

    def __init__(self, tensors: dict[str, Array], *, id: str) -> None:  # noqa: A002
        self.id = id
        self._convolutions = [
            Convolution(
                tensors[f"convolutions/{index}/kernel"],
                tensors[f"convolutions/{index}/bias"],
            )
            for index in range(2)
        ]
        self._codes = tensors["codes"]
        self._squares = np.sum(self._codes * self._codes, -1)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a codebook's file.

        Raises:
            DataError: it is torn or altered, or E-EDGE-VQ-001, no codebook
                of a known version.
        """
        file = read_kind(
            path, "hope-codebook", _VERSION, code="E-EDGE-VQ-001", what="codebook"
        )
        return cls(file.tensors, id=file.sha256)

    def __call__(self, image: Array) -> Array:
        """Return int32 [rows, columns] for a uint8 image [h, w, 3]."""
        x = image.astype(np.float32) * np.float32(1 / 255) - np.float32(0.5)
        x = self._convolutions[0](x)
        x = self._convolutions[1](x * (0.5 * (np.tanh(0.5 * x) + 1.0)))
        far = self._squares - 2.0 * x @ self._codes.T
        return np.asarray(np.argmin(far, -1), np.int32)
