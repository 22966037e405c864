"""Held-out episodes as the export room takes them: what judges a smaller artifact."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from continuon.export import TaskEpisode
    from continuon.hope import HopeConfig

__all__ = ["MAX_TICKS", "task_episodes"]

MAX_TICKS = 1_000
"""Scored at most: about four seconds of work for two artifacts."""


def task_episodes(
    path: Path, config: HopeConfig, *, ids: Collection[str] | None = None
) -> tuple[TaskEpisode, ...]:
    """Return held-out episodes, cut to a thousand ticks together.

    Args:
        path: recordings, or a TFDS directory.
        config: of the policy.
        ids: of those that were held out; None takes the last fifth by time, which is
            what training holds out.

    Raises:
        DataError: nothing can be read there, or what the policy senses is not there.
        ContractError: E-LEARN-FIT-001, the episodes are of another robot.
    """
    from continuon.export import TaskEpisode
    from continuon.learn.data import load_arrays, split_by_time
    from continuon.learn.rollout import check_config
    from continuon.learn.senses import Senses

    arrays = load_arrays(
        path,
        image_height=config.image_height or 1,
        image_width=config.image_width or 1,
        proprio=config.proprio,
        senses=Senses.of(config),
    )
    if ids is None:
        _, held_out = split_by_time(arrays)
    else:
        held_out = tuple(a for a in arrays if a.episode_id in ids)
    check_config(config, held_out)
    found: list[TaskEpisode] = []
    left = MAX_TICKS
    for episode in held_out:
        inputs: dict[str, Any] = {}
        if config.has_image:
            inputs["image"] = episode.images[:left]
        if config.proprio:
            inputs["proprio"] = episode.proprio[:left]
        inputs |= {name: value[:left] for name, value in episode.extra.items()}
        made = TaskEpisode(
            inputs=inputs, action=episode.action[:left], valid=episode.valid[:left]
        )
        if made.valid.any():
            found.append(made)
        left -= len(made.action)
        if left <= 0:
            break
    return tuple(found)
