"""Record many episodes, each on a rig of its own, over several processes.

Workers get factories by name and write one JSON line an episode, so that a worker's
death is seen and never taken for a result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import msgspec

from continuon.errors import BudgetError, error_from_dict
from continuon.rig.calibration import calibration_from_dict, car_pulses_us
from continuon.rlds.episode import EndReason
from continuon.rlds.layout import Opening
from continuon.robot.capture_episode import (
    EpisodeCapture,
    EpisodeNotes,
    planned_opening,
    record_episode,
)
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.kernel import SafetyLimits

__all__ = ["CaptureReport", "Job", "capture_episodes", "run_job", "wanted_opening"]


@attrs.frozen(kw_only=True)
class Job:
    """One episode to record, as values that cross a process border."""

    rig: Factory
    pilot: Factory
    directory: str
    episode_id: str
    duration_s: float
    rate_hz: float
    notes: EpisodeNotes
    lossless: bool
    limits: SafetyLimits | None = None


@attrs.frozen(kw_only=True)
class CaptureReport:
    """All episodes of a session, in the order asked for."""

    episodes: tuple[EpisodeCapture, ...]
    wall_s: float
    workers: int

    @property
    def complete(self) -> bool:
        """Whether every episode ended as planned, with nothing dropped."""
        planned = {EndReason.COMPLETE, EndReason.TIME_LIMIT}
        return all(
            episode.end_reason in planned and not any(episode.drops.values())
            for episode in self.episodes
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "episodes": [episode.as_dict() for episode in self.episodes],
            "wall_s": self.wall_s,
            "workers": self.workers,
            "complete": self.complete,
        }


def capture_episodes(
    rig_factory: Factory | Sequence[Factory],
    pilot_factory: Factory | Sequence[Factory],
    episodes_dir: Path,
    *,
    count: int,
    duration_s: float,
    rate_hz: float = 50.0,
    workers: int = 1,
    notes: EpisodeNotes | None = None,
    limits: SafetyLimits | None = None,
    prefix: str = "episode",
    lossless: bool = True,
    indexes: Sequence[int] | None = None,
    clock_s: Callable[[], float] | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, label: None,  # noqa: ARG005
) -> CaptureReport:
    """Record `count` episodes named `<prefix>-0000` and on.

    Args:
        rig_factory: builds the rig; or one factory an episode.
        pilot_factory: builds the pilot from the rig; or one an episode.
        episodes_dir: where the recordings will stand.
        count: how many.
        duration_s: length of each, seconds of the rig's clock.
        rate_hz: of the control loop.
        workers: processes; 1 records in this one.
        notes: what people say about the episodes.
        limits: the safety envelope; None takes the car's base rules.
        prefix: start of the episodes' names.
        indexes: record only these of the `count` episodes; None records all.
        lossless: wait for the disk in place of dropping; right for virtual time.
        clock_s: measures the session's own duration.
        progress: told after each episode: done, total, name.

    Raises:
        BudgetError: E-ROBOT-CAPTURE-003, a worker process died.
        ContinuonError: whatever stopped a recording.
    """
    from time import monotonic

    now_s = clock_s or monotonic
    began_s = now_s()
    jobs = [
        Job(
            rig=_nth(rig_factory, index),
            pilot=_nth(pilot_factory, index),
            directory=str(episodes_dir),
            episode_id=f"{prefix}-{index:04d}",
            duration_s=duration_s,
            rate_hz=rate_hz,
            notes=notes or EpisodeNotes(),
            lossless=lossless,
            limits=limits,
        )
        for index in (range(count) if indexes is None else indexes)
    ]
    if workers <= 1:
        captures = []
        for job in jobs:
            captures.append(run_job(job))
            progress(len(captures), len(jobs), job.episode_id)
    else:
        captures = _spread(jobs, max(1, min(workers, len(jobs))), progress)
    return CaptureReport(
        episodes=tuple(captures), wall_s=now_s() - began_s, workers=workers
    )


def run_job(job: Job) -> EpisodeCapture:
    """Record one episode in this process."""
    rig = job.rig.build()
    try:
        return record_episode(
            rig,
            job.pilot.build(rig),
            Path(job.directory),
            episode_id=job.episode_id,
            duration_s=job.duration_s,
            limits=_limits(job.limits, rig),
            pulses=partial(car_pulses_us, calibration=_calibration(rig)),
            notes=job.notes,
            rate_hz=job.rate_hz,
            lossless=job.lossless,
        )
    finally:
        rig.close()


def wanted_opening(
    rig_factory: Factory | Sequence[Factory],
    *,
    index: int,
    prefix: str = "episode",
    rate_hz: float = 50.0,
    notes: EpisodeNotes | None = None,
    limits: SafetyLimits | None = None,
) -> Opening:
    """Return with what `capture_episodes` would open episode `index`.

    The rig is built, asked for one frame, and closed; nothing is driven or written.

    Raises:
        HardwareError: it has no camera, or that gives no frame.
    """
    rig = _nth(rig_factory, index).build()
    try:
        return planned_opening(
            rig,
            episode_id=f"{prefix}-{index:04d}",
            limits=_limits(limits, rig),
            notes=notes,
            rate_hz=rate_hz,
        )
    finally:
        rig.close()


def _limits(limits: SafetyLimits | None, rig: Any) -> SafetyLimits:
    names = rig.state.names if rig.state is not None else ()
    return limits or car_limits(state_names=names)


def _calibration(rig: Any) -> Any:
    calibration = getattr(rig, "calibration", None)
    return calibration_from_dict({}) if calibration is None else calibration


def _nth(factory: Factory | Sequence[Factory], index: int) -> Factory:
    return factory if isinstance(factory, Factory) else factory[index]


def _spread(
    jobs: Sequence[Job], workers: int, progress: Callable[[int, int, str], None]
) -> list[EpisodeCapture]:
    done: dict[str, EpisodeCapture] = {}
    lock = threading.Lock()

    def took(capture: EpisodeCapture) -> None:
        with lock:
            done[capture.episode_id] = capture
            progress(len(done), len(jobs), capture.episode_id)

    with ThreadPoolExecutor(workers) as pool:
        shares = [jobs[start::workers] for start in range(workers)]
        for finished in [pool.submit(_work, share, took) for share in shares]:
            finished.result()
    return [done[job.episode_id] for job in jobs]


def _work(jobs: Sequence[Job], took: Callable[[EpisodeCapture], None]) -> None:
    """Run jobs in a process of their own, one line in and one out at a time."""
    program = [sys.executable, "-m", "continuon.robot.capture_worker"]
    command = [*program, str(os.getpid())]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for job in jobs:
            try:
                process.stdin.write(msgspec.json.encode(job) + b"\n")
                process.stdin.flush()
            except BrokenPipeError:
                raise _died(process, job) from None
            line = process.stdout.readline()
            if not line:
                raise _died(process, job)
            took(_answer(line))
        process.stdin.close()


def _answer(line: bytes) -> EpisodeCapture:
    answer: Mapping[str, Any] = json.loads(line)
    if "error" in answer:
        raise error_from_dict(answer["error"])
    return msgspec.convert(answer["episode"], EpisodeCapture, dec_hook=_path)


def _path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    msg = f"no such type: {kind}"
    raise NotImplementedError(msg)


def _died(process: subprocess.Popen[bytes], job: Job) -> BudgetError:
    return BudgetError(
        "E-ROBOT-CAPTURE-003",
        "a recording process died",
        where=job.episode_id,
        seen=f"exit status {process.wait()}",
        hint="its own message stands above; -9 is most often a lack of memory: "
        "use fewer workers",
        exit_code=1,
    )
