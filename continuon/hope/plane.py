"""The Memory Plane: what one robot has learnt by itself, and no update overwrites.

It holds the Slow memories, the current adapter and figures of use. Taken from a state
at an episode's end, given back to a fresh state at the next one's start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import jax.numpy as jnp
import numpy as np

from continuon.errors import ContractError, DataError
from continuon.hope.adapter import Adapter
from continuon.hope.config import HopeConfig, digest
from continuon.hope.state import State
from continuon.tensorfile import read_tensors, write_tensors

__all__ = [
    "MemoryPlane",
    "load_plane",
    "merge_planes",
    "plane_of",
    "recall",
    "save_plane",
]

KIND = "memory-plane"
VERSION = 1
Array = np.ndarray[Any, Any]


@attrs.frozen(eq=False, kw_only=True)
class MemoryPlane:
    """One robot's own memory.

    Attributes:
        config_digest: of the network that wrote it.
        slow: by block, float32 [m, levels*d].
        adapter: the robot's current adapter, if it has one.
        ticks: control ticks that went into it, the weight in a merge.
        episodes: episodes that went into it.
        robots: whose experience it holds.
        parents: SHA-256 of the planes from which it was merged.
    """

    config_digest: str
    slow: dict[str, Array]
    adapter: Adapter | None = None
    ticks: int
    episodes: int
    robots: tuple[str, ...]
    parents: tuple[str, ...] = ()


def plane_of(
    config: HopeConfig,
    state: State,
    *,
    robot: str,
    before: MemoryPlane | None = None,
    adapter: Adapter | None = None,
) -> MemoryPlane:
    """Return the plane after an episode that ended in `state` (batch 1).

    Raises:
        ContractError: E-HOPE-PLANE-001, more than one robot in the batch, or a network
            without online memories; -002, a memory is not finite.
    """
    batch = state["prediction"].shape[0]
    if batch != 1 or not config.online:
        raise ContractError(
            "E-HOPE-PLANE-001",
            "a Memory Plane comes from one robot's state with online memories",
            seen=f"batch {batch}, online {config.online}",
            allowed="batch 1, online True",
        )
    slow = {
        name: np.asarray(block["slow"][0]) for name, block in state["blocks"].items()
    }
    if not all(np.isfinite(value).all() for value in slow.values()):
        raise ContractError("E-HOPE-PLANE-002", "a Slow memory is not finite")
    return MemoryPlane(
        config_digest=digest(config),
        slow=slow,
        adapter=adapter or (before.adapter if before else None),
        ticks=int(state["tick"]) + (before.ticks if before else 0),
        episodes=1 + (before.episodes if before else 0),
        robots=(robot,),
    )


def recall(plane: MemoryPlane, config: HopeConfig, state: State) -> State:
    """Return a fresh state, of any batch, that starts with the plane's memories.

    Raises:
        ContractError: E-HOPE-PLANE-003, the plane is of another network.
    """
    _same_network(plane, digest(config))
    blocks = {
        name: {
            **block,
            "slow": jnp.broadcast_to(plane.slow[name], block["slow"].shape),
        }
        for name, block in state["blocks"].items()
    }
    return {**state, "blocks": blocks}


def merge_planes(
    planes: Sequence[MemoryPlane],
    *,
    strategy: Literal["average", "longest"] = "average",
    parents: Sequence[str] = (),
) -> MemoryPlane:
    """Return one plane of several robots' with the same network.

    `average` weighs the Slow memories by their ticks; `longest` keeps those of the
    plane with the most ticks. Either way the adapter is that of the longest plane:
    factors of different adapters cannot be averaged.

    Raises:
        ContractError: E-HOPE-PLANE-003 for different networks, -004 for no planes.
    """
    if not planes:
        raise ContractError("E-HOPE-PLANE-004", "there are no planes to merge")
    for plane in planes:
        _same_network(plane, planes[0].config_digest)
    longest = max(planes, key=lambda plane: plane.ticks)
    slow = longest.slow
    if strategy == "average":
        ticks = np.array([max(plane.ticks, 1) for plane in planes], np.float64)
        weights = ticks / ticks.sum()
        slow = {
            name: np.sum(
                [w * p.slow[name] for w, p in zip(weights, planes, strict=True)], 0
            ).astype(np.float32)
            for name in longest.slow
        }
    robots = {robot for plane in planes for robot in plane.robots}
    return attrs.evolve(
        longest,
        slow=slow,
        ticks=sum(plane.ticks for plane in planes),
        episodes=sum(plane.episodes for plane in planes),
        robots=tuple(sorted(robots)),
        parents=tuple(parents),
    )


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
        "ticks": plane.ticks,
        "episodes": plane.episodes,
        "robots": plane.robots,
        "parents": plane.parents,
    }
    return write_tensors(path, tensors, document)


def load_plane(path: Path) -> MemoryPlane:
    """Read a plane.

    Raises:
        DataError: E-TENSOR-*, or E-HOPE-PLANE-005 for another kind of file.
    """
    file = read_tensors(path)
    facts = file.document
    if (facts.get("kind"), facts.get("version")) != (KIND, VERSION):
        raise DataError(
            "E-HOPE-PLANE-005",
            "this tensor file is no Memory Plane of a known version",
            where=path,
            seen=(facts.get("kind"), facts.get("version")),
            allowed=(KIND, VERSION),
        )
    return MemoryPlane(
        config_digest=facts["config_digest"],
        slow=_below(file.tensors, "slow/"),
        adapter=_adapter(_below(file.tensors, "adapter/")),
        ticks=facts["ticks"],
        episodes=facts["episodes"],
        robots=tuple(facts["robots"]),
        parents=tuple(facts["parents"]),
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


def _same_network(plane: MemoryPlane, config_digest: str) -> None:
    if plane.config_digest != config_digest:
        raise ContractError(
            "E-HOPE-PLANE-003",
            "the Memory Plane was written by a network of another config",
            seen=plane.config_digest,
            allowed=config_digest,
            hint="merge it where that network runs, or begin a plane for this one",
        )
