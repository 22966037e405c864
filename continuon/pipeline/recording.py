"""Recording sessions: which tracks, which pushes, and where the recordings stand."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import attrs

from continuon.errors import DataError
from continuon.pipeline.phase import Progress, quiet
from continuon.rlds.episode import EndReason
from continuon.rlds.recording import open_recording, opening_of
from continuon.rlds.setup import check_same_setup
from continuon.robot.capture import capture_episodes, wanted_opening
from continuon.robot.capture_episode import EpisodeCapture
from continuon.robot.factory import Factory

__all__ = ["RecordReport", "archive", "record_episodes", "session_prefix"]

TRACK_SEED = 100
DISTURBANCE = 0.45
EPISODES_A_TRACK = 2
STATE_RATE_HZ = 50.0
PLANNED = (EndReason.COMPLETE, EndReason.TIME_LIMIT)


@attrs.frozen(kw_only=True)
class RecordReport:
    """What a session added to a folder.

    Attributes:
        recorded: episodes recorded now; kept: of this session, there already.
        others: of other sessions, in the same folder.
        archived: where recordings that could not stay were moved; None if none were.
        ended_early: ids of episodes that did not last as asked, with the reason.
    """

    directory: Path
    recorded: int
    kept: int
    others: int
    archived: Path | None
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
    alone: bool = False,
    progress: Progress = quiet,
) -> RecordReport:
    """Record until `target` holds the session's episodes, each of them whole.

    A whole episode of this session is kept, also one of a session that was killed. One
    that ended before its time, or cannot be read, is moved to an archive beside the
    folder and recorded again. On the
    simulated rig each pair of episodes has a track of its own, the car is pushed off
    its line now and then, and the expert's intention is what is recorded.

    Recordings of other sessions stay beside them; with `alone` they are archived, so
    that the folder holds what was asked for and nothing else.

    Raises:
        DataError: the session was begun with another setup; nothing was recorded or
            moved.
        UsageError: a real rig has no expert: a person records there by teleoperation.
        BudgetError: a recording process died.
    """
    prefix = session_prefix(rig, seed, duration_s)
    names = [f"{prefix}-{index:04d}.mcap" for index in range(count)]
    rigs = _rigs(rig, seed, count)
    fresh = target.with_name(f"{target.name}.part")
    _check_setup(rigs, [target, fresh], names, prefix)
    there = sorted(target.glob("*.mcap"))
    others = [path for path in there if not path.name.startswith(f"{prefix}-")]
    extra = [] if not alone else [p for p in there if p.name not in names]
    left = _adopt(fresh, target, names)
    broken = [path for path in there if path.name in names and not _is_whole(path)]
    archived = _archive([*extra, *broken, *left], target)
    missing = [
        index for index, name in enumerate(names) if not (target / name).exists()
    ]
    episodes: tuple[EpisodeCapture, ...] = ()
    wall_s = 0.0
    if missing:
        report = capture_episodes(
            rigs,
            Factory(target="continuon.robot.pilots:ExpertPilot"),
            fresh,
            count=count,
            indexes=missing,
            duration_s=duration_s,
            workers=workers,
            prefix=prefix,
            progress=progress,
        )
        episodes, wall_s = report.episodes, report.wall_s
        target.mkdir(parents=True, exist_ok=True)
        for episode in episodes:
            episode.path.rename(target / episode.path.name)
        shutil.rmtree(fresh, ignore_errors=True)
    return RecordReport(
        directory=target,
        recorded=len(episodes),
        kept=count - len(missing),
        others=0 if alone else len(others),
        archived=archived,
        ended_early=tuple(
            f"{episode.episode_id}: {episode.end_reason}"
            for episode in episodes
            if episode.end_reason not in PLANNED
        ),
        drops=sum(sum(episode.drops.values()) for episode in episodes),
        wall_s=wall_s,
    )


def session_prefix(rig: str, seed: int, duration_s: float) -> str:
    """Return how the names of a session's episodes begin."""
    return f"{rig}-s{seed}-{duration_s:g}s".replace(".", "p")


def _check_setup(
    rigs: Sequence[Factory] | Factory,
    folders: Sequence[Path],
    names: Sequence[str],
    prefix: str,
) -> None:
    """Refuse to add to whole episodes of a setup that is not the one at hand.

    Raises:
        DataError: names what differs.
    """
    begun = {
        path.name: path
        for path in (folder / name for folder in folders for name in names)
        if path.is_file() and _is_whole(path)
    }
    missing = [index for index, name in enumerate(names) if name not in begun]
    if not begun or not missing:
        return
    wanted = wanted_opening(rigs, index=missing[0], prefix=prefix)
    for path in begun.values():
        check_same_setup(opening_of(path), wanted, where=path)


def _adopt(fresh: Path, target: Path, names: Sequence[str]) -> list[Path]:
    """Take over the whole episodes of a session that was killed; return the rest."""
    rest = []
    for path in sorted(fresh.glob("*")):
        if path.name in names and not (target / path.name).exists() and _is_whole(path):
            target.mkdir(parents=True, exist_ok=True)
            path.rename(target / path.name)
        else:
            rest.append(path)
    return rest


def _is_whole(path: Path) -> bool:
    try:
        with open_recording(path) as recording:
            return recording.end_reason in PLANNED
    except DataError:
        return False


def _archive(paths: Sequence[Path], target: Path) -> Path | None:
    """Move recordings to a folder of their own; nothing is ever deleted."""
    if not paths:
        return None
    folder = _next_archive(target)
    folder.mkdir(parents=True)
    for path in paths:
        path.rename(folder / path.name)
    return folder


def _next_archive(target: Path) -> Path:
    number = 1
    while (folder := target.parent / "archive" / f"{number:04d}").exists():
        number += 1
    return folder


def archive(target: Path) -> None:
    """Move what lies in `target` out of the way, if anything; nothing is deleted."""
    if not target.exists():
        return
    if not any(target.iterdir()):
        target.rmdir()
        return
    folder = _next_archive(target)
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
                "state_rate_hz": STATE_RATE_HZ,
            },
        )
        for index in range(count)
    ]
