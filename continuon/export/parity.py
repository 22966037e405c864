"""How far each artifact is from JAX, measured through the backend that will run it.

The room `edge` owns the backends. It is loaded by name here, at the end, as a
separate judge: compiling itself needs nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["backend_errors", "scaled_error"]


def backend_errors(directory: Path, backends: Sequence[str]) -> dict[str, float]:
    """Return the error over the golden ticks, by each artifact's own measure."""
    edge: Any = import_module("continuon.edge")
    return {
        backend: edge.check_golden(
            edge.load_policy(directory, backend=backend), directory
        ).max_abs_error
        for backend in backends
    }


def scaled_error(seen: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Return the largest error as a share of max(1, largest |expected|)."""
    errors = [
        np.max(np.abs(seen[key] - right)) / max(1.0, np.abs(right).max())
        for key, right in expected.items()
    ]
    return float(np.max(errors))
