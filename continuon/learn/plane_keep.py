"""Take the robot's latest episodes into its Memory Plane, if it gets no worse by them.

Each episode is lived through once more by the network that drives: fed as recorded, it
begins with the plane's memories and leaves its own. Nothing is trained. A plane that
other parameters wrote means nothing to these: one is begun anew from the recordings
that are there, and the old one stays in the store as the version it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.learn.data import EpisodeArrays
from continuon.learn.plane_merge import plane_error

if TYPE_CHECKING:
    from continuon.hope import Adapter, Checkpoint, HopeConfig, MemoryPlane

__all__ = ["KeepReport", "keep_judged", "live_through"]


@attrs.frozen(kw_only=True)
class KeepReport:
    """What the episodes did to the held-out error.

    Attributes:
        taken: ids of the episodes that went in.
        short: ids of those without one whole chunk, which went in nowhere.
        begun: whether the plane was begun for these parameters.
        error_before: mean absolute action error with the plane that the robot has, or
            with none; error_after: with the new one. None where nothing was new.
        kept: whether the new one became the newest version.
        version: the newest version; 0 for none.
    """

    taken: tuple[str, ...]
    short: tuple[str, ...]
    begun: bool
    error_before: float | None
    error_after: float | None
    kept: bool
    version: int


def keep_judged(
    store: Path,
    *,
    base: Checkpoint,
    robot: str,
    episodes: Sequence[EpisodeArrays],
    held_out: Sequence[EpisodeArrays],
    adapter: Adapter | None = None,
    max_rise: float = 0.0,
) -> KeepReport:
    """Take in what is new, score, and leave the store as it was if it got worse.

    Args:
        store: versions of this robot's plane, see `continuon.hope.plane_store`.
        base: the network that drives.
        robot: its name.
        episodes: oldest first; those that went in before are passed over.
        held_out: episodes that judge, none of which goes in.
        adapter: in use on that network, if one is.
        max_rise: of the held-out error that is still taken. NaN is never taken.

    Raises:
        DataError: E-LEARN-KEEP-001, no valid step to judge by.
        ContractError: E-HOPE-PLANE-001, the network has no online memories; -002, a
            memory is not finite; E-LEARN-FIT-001, the episodes do not fit it.
    """
    from continuon.hope import append_plane, latest_plane, params_digest, plane_versions

    if not any(episode.valid.any() for episode in held_out):
        raise DataError(
            "E-LEARN-KEEP-001",
            "there is no valid step to judge a Memory Plane by",
            seen=f"{len(held_out)} held-out episodes",
            hint="record more: `continuon record --count N`",
        )
    digest = params_digest(base.params)
    newest = latest_plane(store)
    own = newest if newest is not None and newest.base_sha256 == digest else None
    fresh = [e for e in episodes if own is None or not own.experience.has(e.episode_id)]
    short = tuple(e.episode_id for e in fresh if len(e) < base.config.chunk)
    fresh = [e for e in fresh if len(e) >= base.config.chunk]
    version = max(plane_versions(store), default=0)
    report = KeepReport(
        taken=tuple(e.episode_id for e in fresh),
        short=short,
        begun=own is None,
        error_before=None,
        error_after=None,
        kept=False,
        version=version,
    )
    if not fresh:
        return report
    plane = own
    for episode in fresh:
        plane = live_through(
            base, episode, robot=robot, before=plane, adapter=adapter, digest=digest
        )
    assert plane is not None
    # both with the adapter that is in use now: the memories alone are judged
    plane = attrs.evolve(plane, adapter=adapter)
    own = None if own is None else attrs.evolve(own, adapter=adapter)
    before, after = (
        plane_error(
            base.params,
            config=base.config,
            plane=one,
            held_out=held_out,
            adapter=adapter,
        )
        for one in (own, plane)
    )
    kept = after <= before + max_rise
    return attrs.evolve(
        report,
        error_before=before,
        error_after=after,
        kept=kept,
        version=append_plane(store, plane) if kept else version,
    )


def live_through(
    base: Checkpoint,
    episode: EpisodeArrays,
    *,
    robot: str,
    digest: str,
    before: MemoryPlane | None = None,
    adapter: Adapter | None = None,
) -> MemoryPlane:
    """Return the plane after one episode, fed as it was recorded.

    The ticks of its last, unfinished chunk do not count. A previous action is the one
    that was really applied.

    Raises:
        ContractError: as `keep_judged`.
    """
    from continuon.hope import attach_adapter, init_state, plane_of, recall
    from continuon.learn.rollout import check_config

    config = base.config
    check_config(config, [episode])
    params = attach_adapter(base.params, adapter) if adapter else base.params
    state = init_state(config, 1)
    if before is not None:
        state = recall(before, config, state)
    seen = _fed(config, episode)
    surprises: list[NDArray[np.float32]] = []
    for start in range(0, len(episode) - config.chunk + 1, config.chunk):
        rows = slice(start, start + config.chunk)
        part = {name: value[None, rows] for name, value in seen.items()}
        state, surprise = _chunk(params, config, state, part)
        surprises.append(np.asarray(surprise[0]))
    return plane_of(
        config,
        state,
        robot=robot,
        base_sha256=digest,
        episode_id=episode.episode_id,
        surprise=float(np.concatenate(surprises).mean(dtype=np.float64)),
        before=before,
        adapter=adapter,
    )


def _fed(config: HopeConfig, episode: EpisodeArrays) -> dict[str, NDArray[Any]]:
    given: dict[str, NDArray[Any]] = {
        "image": episode.images,
        "proprio": episode.proprio,
        **episode.extra,
        "previous_action": np.concatenate(
            (np.zeros_like(episode.action[:1]), episode.action[:-1])
        ),
    }
    return {name: given[name] for name in config.observation_names}


@partial(jax.jit, static_argnums=1)
def _chunk(params: Any, config: HopeConfig, state: Any, seen: Any) -> Any:
    from continuon.hope import sequence

    given = {name: jnp.asarray(value) for name, value in seen.items()}
    state, out = sequence(params, config, state, given, remat=False)
    return state, out.surprise
