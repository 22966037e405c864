"""Tokens of a picture on the robot: a trained codebook's encoder in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from continuon.edge.convolution import Convolution
from continuon.errors import DataError
from continuon.tensorfile import read_tensors

__all__ = ["Tokeniser"]

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
            DataError: it is torn or altered, or E-EDGE-VQ-001, no codebook.
        """
        file = read_tensors(path)
        if file.document.get("kind") != "hope-codebook":
            raise DataError(
                "E-EDGE-VQ-001",
                "this tensor file holds no codebook",
                where=path,
                seen=file.document.get("kind"),
                allowed="hope-codebook",
            )
        return cls(file.tensors, id=file.sha256)

    def __call__(self, image: Array) -> Array:
        """Return int32 [rows, columns] for a uint8 image [h, w, 3]."""
        x = image.astype(np.float32) * np.float32(1 / 255) - np.float32(0.5)
        x = self._convolutions[0](x)
        x = self._convolutions[1](x * (0.5 * (np.tanh(0.5 * x) + 1.0)))
        far = self._squares - 2.0 * x @ self._codes.T
        return np.asarray(np.argmin(far, -1), np.int32)
