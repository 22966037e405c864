"""A trained manipulation head as a file: `*.aina`, a checked tensor file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from continuon.hope.aina import AinaConfig
from continuon.hope.checkpoint import flatten, unflatten
from continuon.tensorfile import read_kind, write_tensors

__all__ = ["AinaCheckpoint", "load_aina", "save_aina"]

KIND = "hope-aina"
VERSION = 1


@attrs.frozen
class AinaCheckpoint:
    """A loaded head; `params` holds read-only numpy arrays."""

    config: AinaConfig
    params: dict[str, Any]
    metadata: dict[str, Any]
    sha256: str


def save_aina(
    path: Path, config: AinaConfig, params: Any, *, metadata: Mapping[str, Any]
) -> str:
    """Write a head atomically and return the file's SHA-256, hex."""
    document = {
        "kind": KIND,
        "version": VERSION,
        "config": attrs.asdict(config),
        "metadata": dict(metadata),
    }
    return write_tensors(path, flatten(params), document)


def load_aina(path: Path) -> AinaCheckpoint:
    """Read a head, bit for bit what was saved.

    Raises:
        DataError: E-TENSOR-*, or E-HOPE-AINA-003 for another kind of file.
    """
    file = read_kind(
        path, KIND, VERSION, code="E-HOPE-AINA-003", what="manipulation head"
    )
    return AinaCheckpoint(
        config=AinaConfig(**file.document["config"]),
        params=unflatten(file.tensors),
        metadata=file.document["metadata"],
        sha256=file.sha256,
    )
