"""`continuon record`: a simulated expert drives, or a person does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from continuon.cli.options import check_at_least_one
from continuon.cli.render import Result
from continuon.errors import UsageError
from continuon.home import Home

__all__ = ["record"]

Driver = Literal["expert", "keyboard", "gamepad"]


def record(
    *,
    output_dir: Path | None = None,
    count: int = 16,
    duration_s: float = 8.0,
    rig: Literal["sim", "pi"] = "sim",
    driver: Driver | None = None,
    task: str = "follow the lane",
    tag: tuple[str, ...] = (),
    seed: int = 0,
    workers: int = 2,
) -> Result:
    """Record episodes: the simulated expert's, or a person's at the controls.

    A person drives the robot service that runs here, or one that is started for the
    time: r begins and ends an episode. Every episode is validated at once.

    Parameters
    ----------
    output_dir
        Where the expert's recordings go; default rlds/episodes below the home, which is
        where a person's always go.
    count
        How many episodes of this session the folder shall hold; a session is a rig, a
        seed and a length. Of a person's, how many to record.
    duration_s
        Length of each in seconds of the rig's clock; of a person's, the longest.
    rig
        The simulated rig, or the Pi's own.
    driver
        Who drives: the simulated rig's expert, or a person by keyboard or gamepad.
        Default the expert on the simulated rig, the keyboard on the Pi's.
    task
        What a person's episodes are about.
    tag
        A short word to find a person's episodes by; may be repeated.
    seed
        Fixes tracks, disturbances and sensor noise of the simulated rig.
    workers
        Processes that record at the same time; the expert only.
    """
    check_at_least_one(count=count, workers=workers)
    if not 0 < duration_s < math.inf:
        raise UsageError(
            "E-CLI-DURATION-001",
            "an episode's length is out of range",
            seen=duration_s,
            allowed="a finite number of seconds above 0",
        )
    driver = driver or ("keyboard" if rig == "pi" else "expert")
    if driver == "expert":
        target = output_dir or Home.from_environment().episodes
        return _expert(
            target,
            rig=rig,
            seed=seed,
            count=count,
            duration_s=duration_s,
            workers=workers,
        )
    if output_dir is not None:
        raise UsageError(
            "E-CLI-RECORD-001",
            "a person's episodes go where the robot service keeps them",
            seen=output_dir,
            allowed="rlds/episodes below CONTINUON_HOME",
            hint="leave --output-dir away, or set CONTINUON_HOME",
        )
    return _person(
        driver, rig=rig, count=count, duration_s=duration_s, task=task, tags=tag
    )


def _expert(target: Path, **settings: Any) -> Result:
    from continuon.cli.progress import Bar
    from continuon.pipeline.recording import record_episodes

    report = record_episodes(target, progress=Bar().update, **settings)
    lines = [f"{report.recorded} recorded, {report.kept} were there: {target}"]
    if report.others:
        lines.append(f"{report.others} of other sessions lie beside them")
    lines += [f"ended early: {text}" for text in report.ended_early]
    if report.archived is not None:
        lines.append(f"cut-off recordings were moved to {report.archived}")
    return Result(
        data=report,
        text="\n".join(lines),
        exit_code=3 if report.ended_early else 0,
    )


def _person(
    driver: Driver,
    *,
    rig: str,
    count: int,
    duration_s: float,
    task: str,
    tags: tuple[str, ...],
) -> Result:
    import sys

    from continuon.clock import SystemClock
    from continuon.robot.client import running_or_started
    from continuon.robot.handset import Gamepad, Keyboard
    from continuon.robot.person import record_by_hand

    home = Home.from_environment()
    handset = Keyboard() if driver == "keyboard" else Gamepad()

    def say(text: str) -> None:
        # The terminal is in raw mode, where a line feed alone does not return.
        sys.stderr.write(text + "\r\n")
        sys.stderr.flush()

    with running_or_started(home, rig) as client:
        say(f"{handset.help}; r begins and ends an episode")
        with handset:
            report = record_by_hand(
                client,
                handset,
                count=count,
                task=task,
                tags=tags,
                duration_s=duration_s,
                clock=SystemClock(),
                say=say,
            )
    whole = len(report.episodes) == report.good > 0
    return Result(
        data=report.as_dict(),
        text="\n".join(_line(episode) for episode in report.episodes)
        or "nothing was recorded",
        exit_code=0 if whole else 3,
    )


def _line(episode: dict[str, Any]) -> str:
    verdict = episode.get("verdict")
    word = "not judged" if verdict is None else "ok" if verdict["ok"] else "BAD"
    return f"{word:<4} {episode['episode_id']} {episode.get('end_reason', '')}"
