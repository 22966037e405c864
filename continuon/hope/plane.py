"""The Memory Plane: what one robot has learnt by itself, and no update overwrites.

It holds the Slow memories, the current adapter, an episodic buffer and figures of use.
Taken from a state at an episode's end, given back to a fresh state at the next one's
start. What the memories mean is said by the parameters that wrote them: it belongs to
these and to no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import attrs
import jax.numpy as jnp
import numpy as np

from continuon.errors import ContractError
from continuon.hope.adapter import Adapter
from continuon.hope.config import HopeConfig, digest
from continuon.hope.experience import NOTHING, Experience, Lived, joined, lived
from continuon.hope.state import State

__all__ = [
    "MemoryPlane",
    "check_base",
    "merge_planes",
    "plane_of",
    "recall",
]

Array = np.ndarray[Any, Any]


@attrs.frozen(eq=False, kw_only=True)
class MemoryPlane:
    """One robot's own memory.

    Attributes:
        config_digest: of the network that wrote it.
        base_sha256: of its parameters, see `continuon.hope.checkpoint.params_digest`.
        slow: by block, float32 [m, levels*d].
        adapter: the robot's current adapter, if it has one.
        ticks: control ticks that went into it, the weight in a merge.
        episodes: episodes that went into it.
        robots: whose experience it holds.
        parents: SHA-256 of the planes from which it was merged.
        experience: the episodic buffer, and figures of use.
    """

    config_digest: str
    base_sha256: str
    slow: dict[str, Array]
    adapter: Adapter | None = None
    ticks: int
    episodes: int
    robots: tuple[str, ...]
    parents: tuple[str, ...] = ()
    experience: Experience = NOTHING

    @property
    def rms(self) -> tuple[float, ...]:
        """Root mean square of each Slow level's memory, over all blocks."""
        levels = max(len(self.experience.writes), 1)
        parts = [np.split(block, levels, axis=1) for block in self.slow.values()]
        squares = [[float(np.mean(np.square(p))) for p in block] for block in parts]
        return tuple(np.sqrt(np.mean(squares, axis=0)).tolist())


def plane_of(
    config: HopeConfig,
    state: State,
    *,
    robot: str,
    base_sha256: str,
    episode_id: str,
    surprise: float,
    before: MemoryPlane | None = None,
    adapter: Adapter | None = None,
) -> MemoryPlane:
    """Return the plane after an episode that ended in `state` (batch 1).

    Args:
        config: of the network.
        state: in which the episode ended.
        robot: whose it is.
        base_sha256: of the network's parameters.
        episode_id: of the episode.
        surprise: mean over its ticks.
        before: the plane with which it began.
        adapter: in use meanwhile; None keeps that of `before`.

    Raises:
        ContractError: E-HOPE-PLANE-001, more than one robot in the batch, or a network
            without online memories; -002, a memory or the surprise is not finite;
            -007, `before` is of other parameters.
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
    finite = np.isfinite(surprise) and all(np.isfinite(v).all() for v in slow.values())
    if not finite:
        raise ContractError(
            "E-HOPE-PLANE-002",
            "a Slow memory or the surprise is not finite",
            where=episode_id,
        )
    if before is not None:
        check_base(before, base_sha256)
    ticks = int(state["tick"])
    return MemoryPlane(
        config_digest=digest(config),
        base_sha256=base_sha256,
        slow=slow,
        adapter=adapter or (before.adapter if before else None),
        ticks=ticks + (before.ticks if before else 0),
        episodes=1 + (before.episodes if before else 0),
        robots=tuple(sorted({robot, *(before.robots if before else ())})),
        parents=before.parents if before else (),
        experience=lived(
            before.experience if before else NOTHING,
            Lived(episode_id=episode_id, ticks=ticks, surprise=float(surprise)),
            periods=config.periods,
        ),
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
        ContractError: E-HOPE-PLANE-003 for different networks, -007 for different
            parameters, -004 for no planes.
    """
    if not planes:
        raise ContractError("E-HOPE-PLANE-004", "there are no planes to merge")
    for plane in planes:
        _same_network(plane, planes[0].config_digest)
        check_base(plane, planes[0].base_sha256)
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
        experience=joined([plane.experience for plane in planes]),
    )


def check_base(plane: MemoryPlane, base_sha256: str) -> None:
    """Refuse a plane whose memories other parameters wrote.

    Raises:
        ContractError: E-HOPE-PLANE-007, they did.
    """
    if plane.base_sha256 != base_sha256:
        raise ContractError(
            "E-HOPE-PLANE-007",
            "the Memory Plane was written by other parameters, which gave it its sense",
            seen=plane.base_sha256,
            allowed=base_sha256,
            hint="`continuon memory keep` begins one for these, from recordings",
        )


def _same_network(plane: MemoryPlane, config_digest: str) -> None:
    if plane.config_digest != config_digest:
        raise ContractError(
            "E-HOPE-PLANE-003",
            "the Memory Plane was written by a network of another config",
            seen=plane.config_digest,
            allowed=config_digest,
            hint="merge it where that network runs, or begin a plane for this one",
        )
