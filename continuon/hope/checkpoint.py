"""One file with config, parameters and metadata: `*.hope`, a checked tensor file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from continuon.hope.config import HopeConfig, config_from_dict
from continuon.tensorfile import read_kind, write_tensors

__all__ = [
    "Checkpoint",
    "flatten",
    "joined_origin",
    "load_checkpoint",
    "params_digest",
    "save_checkpoint",
    "unflatten",
]

KIND = "hope-checkpoint"
VERSION = 1


@attrs.frozen
class Checkpoint:
    """A loaded checkpoint; `params` holds read-only numpy arrays."""

    config: HopeConfig
    params: dict[str, Any]
    metadata: dict[str, Any]
    sha256: str


def save_checkpoint(
    path: Path, config: HopeConfig, params: Any, *, metadata: Mapping[str, Any]
) -> str:
    """Write a checkpoint atomically.

    Returns:
        The SHA-256 of the file, hex.
    """
    document = {
        "kind": KIND,
        "version": VERSION,
        "config": config.as_dict(),
        "metadata": dict(metadata),
    }
    return write_tensors(path, flatten(params), document)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, bit for bit what was saved.

    Raises:
        DataError: E-TENSOR-* if the file is absent, torn or altered, and
            E-HOPE-CKPT-001 if it is another kind of file.
        ContractError: E-HOPE-CONFIG-* if this version cannot hold its config.
    """
    file = read_kind(
        path, KIND, VERSION, code="E-HOPE-CKPT-001", what="HOPE checkpoint"
    )
    return Checkpoint(
        config=config_from_dict(file.document["config"]),
        params=unflatten(file.tensors),
        metadata=file.document["metadata"],
        sha256=file.sha256,
    )


def joined_origin(*origins: str | None) -> str | None:
    """Return the labels, joined by `+`, of all that was learnt from; None for none."""
    labels = {label for origin in origins if origin for label in origin.split("+")}
    return "+".join(sorted(labels)) or None


def params_digest(params: Any) -> str:
    """Return the SHA-256, hex, of the parameters alone, whichever file holds them."""
    total = hashlib.sha256()
    for name, leaf in sorted(flatten(params).items()):
        total.update(f"{name} {leaf.dtype.str} {leaf.shape}\n".encode())
        total.update(np.ascontiguousarray(leaf).tobytes())
    return total.hexdigest()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested dicts by their path, `/` between the names."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flatten(value, f"{prefix}{name}/")
        else:
            leaves[f"{prefix}{name}"] = np.asarray(value)
    return leaves


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested dicts that `flatten` took apart."""
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        *branches, name = path.split("/")
        node = tree
        for branch in branches:
            node = node.setdefault(branch, {})
        node[name] = value
    return tree
