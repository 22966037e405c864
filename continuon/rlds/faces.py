"""A finder of faces for `redact`, by OpenCV's frontal and profile cascades.

An aid, not a proof: it misses faces that are small, turned or covered, so an episode it
went over is redacted, but only a person clears it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuon.errors import MissingPackageError
from continuon.rlds.redact import Box, FindBoxes

__all__ = ["face_finder"]

_CASCADES = ("haarcascade_frontalface_default.xml", "haarcascade_profileface.xml")
_MIN_FACE_PX = 16
_MARGIN = 0.25
"""A detection is widened by this share: hair and ears tell people apart too."""


def face_finder() -> FindBoxes:
    """Return a function that finds faces in uint8 [height, width, 3].

    Raises:
        MissingPackageError: OpenCV or its cascades are not installed.
    """
    try:
        cv2: Any = importlib.import_module("cv2")
        folder = Path(cv2.data.haarcascades)
    except (ImportError, AttributeError) as error:
        raise MissingPackageError.for_extra(
            "opencv-python-headless", "faces", purpose="finding faces"
        ) from error
    cascades: list[Any] = [
        cv2.CascadeClassifier(str(folder / name)) for name in _CASCADES
    ]
    if any(cascade.empty() for cascade in cascades):
        raise MissingPackageError.for_extra(
            "opencv-python-headless", "faces", purpose="finding faces"
        )

    def find(pixels: NDArray[np.uint8]) -> list[Box]:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        smallest = (_MIN_FACE_PX, _MIN_FACE_PX)
        return [
            _widened(found, pixels.shape[1], pixels.shape[0])
            for cascade in cascades
            for found in cascade.detectMultiScale(grey, 1.1, 3, minSize=smallest)
        ]

    return find


def _widened(found: Sequence[int], columns: int, rows: int) -> Box:
    """Return (left, top, width, height) as a box with a margin, within the picture."""
    left, top, width, height = map(int, found)
    across, down = int(width * _MARGIN), int(height * _MARGIN)
    return Box(
        max(left - across, 0),
        max(top - down, 0),
        min(left + width + across, columns),
        min(top + height + down, rows),
    )
