"""Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685) on named projections.

An adapter is a tree of its own: for each projection's path `down` [in, r] and `up`
[r, out]. `up` starts at zero, so a fresh adapter changes nothing. However it was
trained, |down up|_F is held below `bound` times |weight|_F when it is used.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np

from continuon.errors import ContractError
from continuon.hope.checkpoint import flatten, unflatten
from continuon.hope.config import HopeConfig, digest
from continuon.hope.parameters import Params
from continuon.hope.projection import LowRank
from continuon.tensorfile import read_kind, write_tensors

__all__ = [
    "ADAPTED",
    "Adapter",
    "attach_adapter",
    "held_adapter",
    "init_adapter",
    "load_adapter",
    "merge_adapter",
    "save_adapter",
]

ADAPTED = (
    "blocks/*/fast/qkv",
    "blocks/*/fast/out",
    "blocks/*/mid/inputs",
    "blocks/*/mid/out",
    "blocks/*/slow/levels/*/up",
    "blocks/*/slow/levels/*/down",
    "heads/action",
)
"""Patterns of the projections that the Mid loop adapts unless told otherwise."""

_PROJECTED = ("/qkv", "/out", "/inputs", "/up", "/down", "heads/action")
KIND = "hope-adapter"
VERSION = 1
Adapter = dict[str, dict[str, Any]]


def init_adapter(
    seed: int, params: Params, *, rank: int = 4, patterns: Sequence[str] = ADAPTED
) -> Adapter:
    """Return an adapter that changes nothing yet.

    Raises:
        ContractError: E-HOPE-LORA-001, a pattern names no matrix that can be adapted.
    """
    rng = np.random.default_rng(seed)
    weights = flatten(params)
    adapter: Adapter = {}
    for pattern in patterns:
        paths = [
            path
            for path in fnmatch.filter(weights, pattern)
            if path.endswith(_PROJECTED) and not path.startswith("frozen/")
        ]
        if not paths:
            raise ContractError(
                "E-HOPE-LORA-001",
                "the pattern names no projection of this network",
                seen=pattern,
                allowed=", ".join(ADAPTED),
            )
        for path in paths:
            rows, columns = weights[path].shape
            down = rng.standard_normal((rows, rank)) / math.sqrt(rows)
            adapter[path] = {
                "down": jnp.asarray(down, jnp.float32),
                "up": jnp.zeros((rank, columns), jnp.float32),
            }
    return adapter


def attach_adapter(params: Params, adapter: Adapter, *, bound: float = 0.5) -> Params:
    """Return parameters whose adapted weights are `LowRank`; `step` takes them.

    Raises:
        ContractError: E-HOPE-LORA-002, the adapter is not for this network. Nothing
            is dropped silently.
    """
    return _adapted(params, adapter, bound, LowRank)


def merge_adapter(params: Params, adapter: Adapter, *, bound: float = 0.5) -> Params:
    """Return plain parameters with the adapter added to its weights.

    Raises:
        ContractError: as `attach_adapter`.
    """
    return _adapted(params, adapter, bound, lambda base, down, up: base + down @ up)


def held_adapter(params: Params, adapter: Adapter, *, bound: float = 0.5) -> Adapter:
    """Return the adapter with factors whose product is the change that it makes.

    Raises:
        ContractError: as `attach_adapter`.
    """
    used = _leaves(attach_adapter(params, adapter, bound=bound))
    return {path: {"down": used[path].down, "up": used[path].up} for path in adapter}


def save_adapter(
    path: Path, config: HopeConfig, adapter: Adapter, *, metadata: Mapping[str, Any]
) -> str:
    """Write an adapter atomically and return the file's SHA-256, hex."""
    document = {
        "kind": KIND,
        "version": VERSION,
        "config_digest": digest(config),
        "metadata": dict(metadata),
    }
    tensors = {
        f"{name}:{part}": np.asarray(value)
        for name, parts in adapter.items()
        for part, value in parts.items()
    }
    return write_tensors(path, tensors, document)


@attrs.frozen
class LoadedAdapter:
    """An adapter as it was saved."""

    adapter: Adapter
    metadata: dict[str, Any]
    sha256: str


def load_adapter(path: Path, config: HopeConfig) -> LoadedAdapter:
    """Read an adapter.

    Raises:
        DataError: E-TENSOR-*, or E-HOPE-LORA-003 for another kind of file.
        ContractError: E-HOPE-LORA-004, it was made for a network of another config.
    """
    file = read_kind(path, KIND, VERSION, code="E-HOPE-LORA-003", what="adapter")
    if file.document["config_digest"] != digest(config):
        raise ContractError(
            "E-HOPE-LORA-004",
            "the adapter was made for a network of another config",
            where=path,
            seen=file.document["config_digest"],
            allowed=digest(config),
            hint="learn one for this network: `continuon mid run`",
        )
    adapter: Adapter = {}
    for name, value in file.tensors.items():
        projection, part = name.rsplit(":", 1)
        adapter.setdefault(projection, {})[part] = value
    return LoadedAdapter(adapter, file.document["metadata"], file.sha256)


def _adapted(params: Params, adapter: Adapter, bound: float, join: Any) -> Params:
    leaves = _leaves(params)
    for path, parts in adapter.items():
        down, up = parts["down"], parts["up"]
        base = leaves.get(path)
        if base is None or base.shape != (down.shape[0], up.shape[1]):
            raise ContractError(
                "E-HOPE-LORA-002",
                "the adapter does not fit this network",
                where=path,
                seen=f"{list(down.shape)} by {list(up.shape)}",
                allowed="no such projection" if base is None else list(base.shape),
            )
        leaves[path] = join(base, down, up * _scale(base, down, up, bound))
    return unflatten(leaves)


def _scale(base: Any, down: Any, up: Any, bound: float) -> jax.Array:
    """Return the factor, at most 1, that keeps |down up|_F within the bound."""
    square = jnp.sum((down.T @ down) * (up @ up.T))
    # the floor is the limit itself, so that a fresh adapter's gradient is finite
    limit = jnp.maximum(bound * bound * jnp.sum(base * base), 1e-20)
    return jnp.sqrt(limit) * jax.lax.rsqrt(jnp.maximum(square, limit))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= _leaves(value, f"{prefix}{name}/")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves
