"""Recording sessions: which tracks, which pushes, and where the recordings stand."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import attrs

from continuon.pipeline.phase import Progress, quiet
from continuon.robot.capture import CaptureReport, capture_episodes
from continuon.robot.capture_episode import EpisodeCapture
from continuon.robot.factory import Factory

__all__ = ["RecordReport", "archive", "record_episodes"]

TRACK_SEED = 100
DISTURBANCE = 0.45
EPISODES_A_TRACK = 2


@attrs.frozen(kw_only=True)
class RecordReport:
    """What a session added to a folder.

    Attributes:
        recorded: episodes recorded now; kept: episodes that were there already.
        ended_early: ids of episodes that did not last as asked, with the reason.
    """

    directory: Path
    recorded: int
    kept: int
    ended_early: tuple[str, ...]
    drops: int
    wall_s: float


def record_episodes(
    target: Path,
    *,
    rig: str,
    seed: int,
    count: int,
    duration_s: float,
    workers: int,
    progress: Progress = quiet,
) -> RecordReport:
    """Record until `target` holds the session's episodes; what is there is kept.

    On the simulated rig each pair of episodes has a track of its own, the car is pushed
    off its line now and then, and the expert's intention is what is recorded. A session
    of other settings that lies in `target` is moved to an archive beside it.

    Raises:
        UsageError: a real rig has no expert; a person records there by teleoperation.
        BudgetError: a recording process died.
    """
    prefix = f"{rig}-s{seed}-{duration_s:g}s".replace(".", "p")
    names = [f"{prefix}-{index:04d}.mcap" for index in range(count)]
    present = sorted(path.name for path in target.glob("*.mcap"))
    if present == names:
        return RecordReport(
            directory=target,
            recorded=0,
            kept=count,
            ended_early=(),
            drops=0,
            wall_s=0.0,
        )
    fresh = target.with_name(f"{target.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    report = capture_episodes(
        _rigs(rig, seed, count),
        Factory(target="continuon.robot.pilots:ExpertPilot"),
        fresh,
        count=count,
        duration_s=duration_s,
        workers=workers,
        prefix=prefix,
        progress=progress,
    )
    archive(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh.rename(target)
    return _summary(target, report)


def archive(target: Path) -> None:
    """Move what lies in `target` out of the way, if anything; nothing is deleted."""
    if not target.exists():
        return
    if not any(target.iterdir()):
        target.rmdir()
        return
    number = 1
    while (folder := target.parent / "archive" / f"{number:04d}").exists():
        number += 1
    folder.parent.mkdir(parents=True, exist_ok=True)
    target.rename(folder)


def _rigs(rig: str, seed: int, count: int) -> Sequence[Factory] | Factory:
    if rig == "pi":
        return Factory(target="continuon.rig.pi:PiRig")
    return [
        Factory(
            target="continuon.sim:SimRig",
            kwargs={
                "seed": 1000 * seed + index,
                "track_seed": TRACK_SEED + 1000 * seed + index // EPISODES_A_TRACK,
                "start": (index % EPISODES_A_TRACK) / EPISODES_A_TRACK,
                "disturbance": DISTURBANCE,
            },
        )
        for index in range(count)
    ]


def _summary(target: Path, report: CaptureReport) -> RecordReport:
    def early(episode: EpisodeCapture) -> bool:
        return str(episode.end_reason) not in ("complete", "time_limit")

    return RecordReport(
        directory=target,
        recorded=len(report.episodes),
        kept=0,
        ended_early=tuple(
            f"{episode.episode_id}: {episode.end_reason}"
            for episode in report.episodes
            if early(episode)
        ),
        drops=sum(sum(episode.drops.values()) for episode in report.episodes),
        wall_s=report.wall_s,
    )
