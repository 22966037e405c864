"""What the world model predicts: a frozen, random view of the next observation.

The target must not be trained, or the prediction collapses to a constant. It is a
fixed random projection of the grey image, box-averaged to at most 6 x 8 cells, and
of the proprioception. The projection is a constant derived from the config.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np

from continuon.hope.config import HopeConfig

__all__ = ["box_mean_matrix", "frozen_target"]

_CELLS = (6, 8)
_GAIN = 4.0


def box_mean_matrix(cells: int, pixels: int) -> np.ndarray[Any, Any]:
    """Return float32 [cells, pixels]: row i averages the i-th equal span of pixels.

    A pixel that straddles two spans counts by its overlap with each.
    """
    edges = np.linspace(0.0, pixels, cells + 1)
    left = np.arange(pixels)[None]
    lower = np.maximum(left, edges[:-1, None])
    upper = np.minimum(left + 1, edges[1:, None])
    weights = np.maximum(upper - lower, 0.0) * cells / pixels
    return np.asarray(weights, np.float32)


def frozen_target(config: HopeConfig) -> dict[str, np.ndarray[Any, Any]]:
    """Return the constants of the target, float32.

    `rows` [6, h] and `columns` [w, 8] average the grey image (fewer where the image
    is smaller), `projection` [cells + P, latent] maps cells and proprio to the latent.
    """
    sources = len(config.proprio)
    constants = {}
    if config.has_image:
        rows = min(_CELLS[0], config.image_height)
        columns = min(_CELLS[1], config.image_width)
        constants["rows"] = box_mean_matrix(rows, config.image_height)
        constants["columns"] = box_mean_matrix(columns, config.image_width).T.copy()
        sources += rows * columns
    facts = [config.image_shape, config.proprio, config.latent]
    seed = hashlib.sha256(json.dumps(facts).encode()).digest()
    rng = np.random.default_rng(np.frombuffer(seed, np.uint32))
    scale = _GAIN / math.sqrt(sources)
    projection = rng.standard_normal((sources, config.latent)) * scale
    constants["projection"] = projection.astype(np.float32)
    return constants
