"""`continuon memory keep`, `show` and `rollback`: the life of one Memory Plane."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from continuon.cli.render import Result
from continuon.environment import read_environment
from continuon.home import Home

if TYPE_CHECKING:
    from continuon.hope import MemoryPlane

__all__ = ["keep", "rollback", "show"]


def keep(
    *,
    checkpoint: Path | None = None,
    rlds_dir: Path | None = None,
    store: Path | None = None,
    robot: str | None = None,
    holdout: float = 0.25,
    max_rise: float = 0.0,
) -> Result:
    """Take the latest episodes into the Memory Plane; 3 if it got worse and was not.

    The network lives through each new episode once more, and what its Slow levels hold
    then is kept. Nothing is trained. Persons' newest episodes judge; what a policy
    drove is taken in, and judges nothing.

    Parameters
    ----------
    checkpoint
        The network that drives; default the active bundle's weights, without a bundle
        trainer/checkpoints/slow/policy.hope.
    rlds_dir
        Recordings; default rlds/episodes below the home.
    store
        Versions of this robot's plane; default memory/plane below the home.
    robot
        Its name; default this machine's.
    holdout
        Share of the persons' episodes that judge.
    max_rise
        Of the held-out error that is still taken.
    """
    read_environment().require_jax()
    from continuon.hope import load_checkpoint
    from continuon.hope.adapter_store import current_adapter
    from continuon.learn.data import split_by_time
    from continuon.learn.mid_episodes import latest_episodes
    from continuon.learn.plane_keep import keep_judged
    from continuon.pipeline.adapters import base_weights

    home = Home.from_environment()
    source = checkpoint or base_weights(home)
    base = load_checkpoint(source or home.checkpoints / "slow" / "policy.hope")
    latest = latest_episodes(
        rlds_dir or home.episodes, base.config, check=lambda: None, with_own=True
    )
    shown = [e for e in latest.episodes if e.episode_id not in latest.driven]
    _, held_out = split_by_time(shown, holdout)
    judges = {episode.episode_id for episode in held_out}
    loaded = current_adapter(home.adapters, base.config, base_sha256=base.sha256)
    report = keep_judged(
        store or home.memory,
        base=base,
        robot=robot or socket.gethostname(),
        episodes=[e for e in latest.episodes if e.episode_id not in judges],
        held_out=held_out,
        adapter=None if loaded is None else loaded.adapter,
        max_rise=max_rise,
    )
    data = attrs.asdict(report) | {"left_out": list(latest.left_out)}
    done = report.kept or not report.taken
    return Result(
        data=data,
        text="\n".join([*_told(data), *latest.left_out]),
        exit_code=0 if done else 3,
    )


def _told(report: dict[str, Any]) -> list[str]:
    count, version = len(report["taken"]), report["version"]
    newest = (
        f"version {version} is the newest" if version else "there is no version yet"
    )
    short = report["short"]
    lines = [f"too short to go in: {', '.join(short)}"] if short else []
    if not count:
        return [f"no {'other ' if short else ''}episode is new; {newest}", *lines]
    begun = ", begun for these parameters" if report["begun"] else ""
    done = "taken in" if report["kept"] else "not taken in"
    before, after = report["error_before"], report["error_after"]
    told = f"{count} episodes {done}{begun}: held-out error {before:.4f} -> {after:.4f}"
    return [f"{told}; {newest}", *lines]


def show(*, store: Path | None = None) -> Result:
    """List the versions of the Memory Plane, the newest last, with figures of use.

    Parameters
    ----------
    store
        Versions of this robot's plane; default memory/plane below the home.
    """
    from continuon.hope import plane_at, plane_versions

    folder = store or Home.from_environment().memory
    rows = [_row(n, plane_at(folder, n)) for n in plane_versions(folder)]
    lines = [
        f"{row['version']}  {row['episodes']} episodes, {row['ticks']:,} ticks of "
        f"{', '.join(row['robots'])}; level writes {row['writes']}, memory "
        f"{[round(v, 4) for v in row['memory_rms']]}, surprise {row['surprise']:.4f}"
        f"{', with an adapter' if row['adapter'] else ''}; parameters "
        f"{row['base_sha256'][:12]}"
        for row in rows
    ]
    return Result(
        data={"store": str(folder), "versions": rows},
        text="\n".join(lines) or f"no Memory Plane yet in {folder}",
    )


def rollback(number: int, *, store: Path | None = None) -> Result:
    """Make an older version the newest, by writing it again; nothing is deleted.

    Parameters
    ----------
    number
        Of the version.
    store
        Versions of this robot's plane; default memory/plane below the home.
    """
    from continuon.hope import roll_back_plane

    folder = store or Home.from_environment().memory
    newest = roll_back_plane(folder, number)
    return Result(
        data={"store": str(folder), "restored": number, "version": newest},
        text=f"version {number} is the newest again, as version {newest}",
    )


def _row(version: int, plane: MemoryPlane) -> dict[str, Any]:
    lived = plane.experience
    return {
        "version": version,
        "base_sha256": plane.base_sha256,
        "config_digest": plane.config_digest,
        "robots": list(plane.robots),
        "parents": list(plane.parents),
        "episodes": plane.episodes,
        "ticks": plane.ticks,
        "adapter": plane.adapter is not None,
        "writes": list(lived.writes),
        "memory_rms": list(plane.rms),
        "surprise": lived.surprise,
        "buffer": [attrs.asdict(entry) for entry in lived.buffer],
    }
