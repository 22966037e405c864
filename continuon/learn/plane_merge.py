"""Merge the Memory Planes of several robots, and keep the merge only if it is no worse.

Three strategies. `keep` takes the memories and adapter of the robot with the most
ticks. `average` weighs the memories by ticks, and the adapters by ticks too, as the
changes that they make to each weight (factors cannot be averaged), cut back to their
rank. `distil` averages the memories and trains one adapter to answer on replayed
episodes as each robot's own adapter does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import attrs
import numpy as np

from continuon.errors import ContractError, UsageError
from continuon.learn.data import EpisodeArrays

if TYPE_CHECKING:
    from continuon.hope import Adapter, HopeConfig, MemoryPlane

__all__ = [
    "MergeReport",
    "Strategy",
    "average_adapters",
    "merge_judged",
    "plane_error",
]

Strategy = Literal["keep", "average", "distil"]
_DISTIL_STEPS = 100
_DISTIL_RATE = 3e-3


@attrs.frozen(kw_only=True)
class MergeReport:
    """What a merge did to the held-out error.

    Attributes:
        error_before: mean absolute action error with the plane that the robot has;
            error_after: with the merged one.
        kept: whether the merged plane became the newest version.
        version: the newest version after the merge.
    """

    strategy: str
    robots: tuple[str, ...]
    error_before: float
    error_after: float
    kept: bool
    version: int


def merge_judged(
    planes: Sequence[MemoryPlane],
    store: Path,
    *,
    params: Any,
    config: HopeConfig,
    held_out: Sequence[EpisodeArrays],
    strategy: Strategy = "average",
    replay: Sequence[EpisodeArrays] = (),
    max_rise: float = 0.0,
    seed: int = 0,
) -> MergeReport:
    """Merge into the store's newest plane, score, and go back if it got worse.

    Args:
        planes: of the other robots; the store's own newest plane always takes part.
        store: versions of this robot's plane, see `continuon.hope.plane_store`.
        params: of the network that wrote them all.
        config: of that network.
        held_out: episodes that no plane has learnt from.
        strategy: see the module.
        replay: episodes for `distil`.
        max_rise: of the held-out error that is still taken. NaN is never taken.
        seed: of `distil`.

    Raises:
        UsageError: E-LEARN-MERGE-001 for the strategy, -002 without replay.
        ContractError: E-HOPE-PLANE-003, planes of different networks; -007, of other
            parameters than these; -004, none.
    """
    from continuon.hope import (
        append_plane,
        check_base,
        latest_plane,
        params_digest,
        plane_versions,
    )

    if strategy not in get_args(Strategy):
        raise UsageError(
            "E-LEARN-MERGE-001",
            "there is no such way to merge planes",
            seen=strategy,
            allowed=", ".join(get_args(Strategy)),
        )
    own = latest_plane(store)
    if own is None:
        raise ContractError(
            "E-HOPE-PLANE-004",
            "the store has no plane to merge into",
            where=store,
            hint="`continuon memory keep` begins one, from recordings",
        )
    check_base(own, params_digest(params))
    merged = _merged(
        [own, *planes],
        strategy,
        params=params,
        config=config,
        replay=replay,
        seed=seed,
    )
    before = plane_error(params, config=config, plane=own, held_out=held_out)
    after = plane_error(params, config=config, plane=merged, held_out=held_out)
    kept = after <= before + max_rise
    version = append_plane(store, merged) if kept else plane_versions(store)[-1]
    return MergeReport(
        strategy=strategy,
        robots=merged.robots,
        error_before=before,
        error_after=after,
        kept=kept,
        version=version,
    )


def average_adapters(
    adapters: Sequence[Adapter], weights: Sequence[float], *, rank: int
) -> Adapter:
    """Return the rank-limited adapter nearest to the weighted mean of the changes.

    The best approximation of a matrix by one of lower rank keeps its largest singular
    values (Eckart and Young, 1936). A projection that one adapter lacks is unchanged
    there.
    """
    total = float(np.sum(weights))
    paths = sorted({path for adapter in adapters for path in adapter})
    merged: Adapter = {}
    for path in paths:
        change = sum(
            (weight / total) * np.asarray(a[path]["down"] @ a[path]["up"], np.float64)
            for a, weight in zip(adapters, weights, strict=True)
            if path in a
        )
        left, size, right = np.linalg.svd(np.asarray(change), full_matrices=False)
        root = np.sqrt(size[:rank])
        merged[path] = {
            "down": (left[:, :rank] * root).astype(np.float32),
            "up": (root[:, None] * right[:rank]).astype(np.float32),
        }
    return merged


def _merged(
    planes: Sequence[MemoryPlane],
    strategy: Strategy,
    *,
    params: Any,
    config: HopeConfig,
    replay: Sequence[EpisodeArrays],
    seed: int,
) -> MemoryPlane:
    from continuon.hope import merge_planes
    from continuon.hope.adapter import held_adapter

    if strategy == "keep":
        return merge_planes(planes, strategy="longest")
    whole = merge_planes(planes, strategy="average")
    having = [plane for plane in planes if plane.adapter]
    if not having:
        return whole
    # one beyond its bound is cut when it is used: what it does is what is averaged
    adapters = [held_adapter(params, p.adapter) for p in having if p.adapter]
    ticks = [float(max(plane.ticks, 1)) for plane in having]
    rank = max(part["up"].shape[0] for a in adapters for part in a.values())
    adapter = average_adapters(adapters, ticks, rank=rank)
    if strategy == "distil":
        adapter = _distilled(
            params, config, adapter, adapters, replay=replay, seed=seed
        )
    return attrs.evolve(whole, adapter=adapter)


def _distilled(
    params: Any,
    config: HopeConfig,
    start: Adapter,
    adapters: Sequence[Adapter],
    *,
    replay: Sequence[EpisodeArrays],
    seed: int,
) -> Adapter:
    """Train one adapter on what each robot's own would do on the replayed episodes."""
    from continuon.hope import attach_adapter
    from continuon.learn.mid_train import MidTask, mid_recipe, train_adapter
    from continuon.learn.rollout import predict

    if not replay:
        raise UsageError(
            "E-LEARN-MERGE-002",
            "distilling needs episodes to replay",
            hint="name some, or merge by average",
        )
    taught = []
    for adapter in adapters:
        told = predict(attach_adapter(params, adapter), config, replay)
        taught += [
            attrs.evolve(e, action=answer.action)
            for e, answer in zip(replay, told, strict=True)
        ]
    task = MidTask(
        params=params,
        config=config,
        adapter=start,
        episodes=tuple(taught),
        recipe=mid_recipe(config, batch_size=4, learning_rate=_DISTIL_RATE),
        max_steps=_DISTIL_STEPS,
        seed=seed,
        go_on=lambda: True,
    )
    distilled: Adapter = train_adapter(task).adapter
    return distilled


def plane_error(
    params: Any,
    *,
    config: HopeConfig,
    plane: MemoryPlane | None,
    held_out: Sequence[EpisodeArrays],
    adapter: Adapter | None = None,
) -> float:
    """Return the mean absolute action error with a plane's memories and adapter.

    Without a plane the memories are empty and the adapter is `adapter`.
    """
    from continuon.hope import attach_adapter
    from continuon.learn.rollout import predict

    attached = plane.adapter if plane is not None else adapter
    used = attach_adapter(params, attached) if attached else params
    told = predict(used, config, held_out, plane=plane)
    errors = [
        np.abs(t.action - e.action)[e.valid]
        for t, e in zip(told, held_out, strict=True)
    ]
    return float(np.concatenate(errors).mean(dtype=np.float64))
