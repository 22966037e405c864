"""A Memory Plane as a file: `*.plane`, a checked tensor file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from continuon.hope.adapter import Adapter
from continuon.hope.experience import as_document, from_document
from continuon.hope.plane import MemoryPlane
from continuon.tensorfile import read_kind, write_tensors

__all__ = ["load_plane", "save_plane"]

KIND = "memory-plane"
VERSION = 2
Array = np.ndarray[Any, Any]


def save_plane(path: Path, plane: MemoryPlane) -> str:
    """Write a plane atomically and return the file's SHA-256, hex."""
    tensors: dict[str, Any] = {
        f"slow/{name}": value for name, value in plane.slow.items()
    }
    for name, parts in (plane.adapter or {}).items():
        for part, value in parts.items():
            tensors[f"adapter/{name}:{part}"] = np.asarray(value)
    document = {
        "kind": KIND,
        "version": VERSION,
        "config_digest": plane.config_digest,
        "base_sha256": plane.base_sha256,
        "ticks": plane.ticks,
        "episodes": plane.episodes,
        "robots": plane.robots,
        "parents": plane.parents,
        "experience": as_document(plane.experience),
    }
    return write_tensors(path, tensors, document)


def load_plane(path: Path) -> MemoryPlane:
    """Read a plane.

    Raises:
        DataError: E-TENSOR-*, or E-HOPE-PLANE-005 for another kind of file.
    """
    file = read_kind(path, KIND, VERSION, code="E-HOPE-PLANE-005", what="Memory Plane")
    facts = file.document
    return MemoryPlane(
        config_digest=facts["config_digest"],
        base_sha256=facts["base_sha256"],
        slow=_below(file.tensors, "slow/"),
        adapter=_adapter(_below(file.tensors, "adapter/")),
        ticks=facts["ticks"],
        episodes=facts["episodes"],
        robots=tuple(facts["robots"]),
        parents=tuple(facts["parents"]),
        experience=from_document(facts["experience"]),
    )


def _below(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _adapter(flat: Mapping[str, Array]) -> Adapter | None:
    adapter: Adapter = {}
    for name, value in flat.items():
        projection, part = name.rsplit(":", 1)
        adapter.setdefault(projection, {})[part] = value
    return adapter or None
