"""Closed loop in the simulated world: how far a policy drives before leaving the lane.

Both policies get the same starts on tracks that no episode was recorded on, the same
sensors and the same clamp. A floor on the throttle, equal for both, keeps a policy from
standing still in its lane for ever and calling that driving.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.edge import load_policy
from continuon.edge.policy import Backend
from continuon.pipeline.phase import Progress, quiet
from continuon.rig.protocols import Frame, VectorSample
from continuon.robot.observing import Observer, Senses

__all__ = [
    "LIMIT_LAPS",
    "DriveReport",
    "Place",
    "Run",
    "compare",
    "drive_policy",
    "held_out_places",
]

CAMERA_WIDTH_PX, CAMERA_HEIGHT_PX = 160, 120
THROTTLE_FLOOR = 0.15
LIMIT_LAPS = 1.5
LIMIT_S = 45.0
HELD_OUT_SEED = 1_000_003


@attrs.frozen
class Place:
    """Where a run begins: a track, and a share of its length in 0..1."""

    track_seed: int
    along: float


@attrs.frozen(kw_only=True)
class Run:
    """One run of one policy from one place.

    Attributes:
        distance_m: progress along the track's centre line before leaving the lane.
        lateral_rms_m: root mean square distance from the lane's centre until then.
        stayed: whether the run ended at its limit and not off the lane.
        path: driven (x, y) in metres, about ten points a second.
    """

    place: Place
    distance_m: float
    lateral_rms_m: float
    stayed: bool
    path: tuple[tuple[float, float], ...]


@attrs.frozen(kw_only=True)
class DriveReport:
    """Two policies from the same places."""

    before: tuple[Run, ...]
    after: tuple[Run, ...]

    @property
    def distance_ratio(self) -> float:
        """Mean distance of the deployed policy over that of the seed."""
        seed = float(np.mean([run.distance_m for run in self.before]))
        new = float(np.mean([run.distance_m for run in self.after]))
        return new / max(seed, 0.1)


def held_out_places(seed: int, count: int) -> tuple[Place, ...]:
    """Return places on tracks whose seeds no recording uses, two a track."""
    return tuple(
        Place(HELD_OUT_SEED + 97 * seed + index // 2, 0.5 * (index % 2))
        for index in range(count)
    )


class _Driver:
    """Turns frames and state samples into actions, one policy step a fresh frame."""

    def __init__(self, policy: Any, state_names: Sequence[str], told: str) -> None:
        self._policy = policy
        self._observer = Observer(policy.spec)
        self._action: NDArray[np.float32] = np.zeros(2, np.float32)
        names = tuple(state_names)
        still = VectorSample(
            values=np.zeros(len(names), np.float32),
            capture_ns=0,
            device_ns=0,
            sequence=0,
        )
        self._senses = Senses(
            now_ns=0, frame=None, state=still, state_names=names, instruction=told
        )

    def __call__(
        self, frame: Frame | None, sample: VectorSample | None
    ) -> NDArray[np.float32]:
        if sample is not None:
            self._senses = attrs.evolve(self._senses, state=sample)
        seen = None if frame is None else self._observer(frame, self._senses)
        if seen is not None:
            action = self._policy.step(seen.image, seen.proprio, **seen.more).action
            if np.all(np.isfinite(action)):
                self._action = np.clip(action, -1.0, 1.0).astype(np.float32)
                self._action[1] = max(float(self._action[1]), THROTTLE_FLOOR)
        return self._action


def drive_policy(
    artifacts: Path, backend: Backend, place: Place, *, seed: int, told: str = ""
) -> Run:
    """Run one policy from one place until it leaves the lane or reaches the limit.

    `told` is its instruction, where it listens to one.
    """
    from continuon.sim import SimRig, drive

    policy = load_policy(artifacts, backend=backend)
    policy.reset()
    rig = SimRig(
        seed,
        width=CAMERA_WIDTH_PX,
        height=CAMERA_HEIGHT_PX,
        track_seed=place.track_seed,
        start=place.along,
        depth=policy.spec.depth_height > 0,
    )
    try:
        driver = _Driver(policy, rig.state.names, told)
        driven = drive(rig, driver, max_laps=LIMIT_LAPS, max_duration_s=LIMIT_S)
    finally:
        rig.close()
    return Run(
        place=place,
        distance_m=max(0.0, driven.progress_m),
        lateral_rms_m=driven.lateral_rms_m,
        stayed=not driven.left_lane,
        path=tuple((float(x), float(y)) for x, y in driven.path_m[::5]),
    )


def compare(
    before: Path,
    after: Path,
    *,
    places: Sequence[Place],
    seed: int,
    told: str = "",
    workers: int = 1,
    backend: Backend = "litert",
    progress: Progress = quiet,
) -> DriveReport:
    """Drive both policies from every place, `workers` runs at a time."""
    jobs = [(path, place) for path in (before, after) for place in places]
    runs: list[Run] = []

    def done(run: Run) -> None:
        runs.append(run)
        progress(len(runs), len(jobs), "driving held-out tracks")

    if workers <= 1:
        for path, place in jobs:
            done(drive_policy(path, backend, place, seed=seed, told=told))
    else:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            futures = [
                pool.submit(drive_policy, path, backend, place, seed=seed, told=told)
                for path, place in jobs
            ]
            for future in futures:
                done(future.result())
    half = len(places)
    return DriveReport(before=tuple(runs[:half]), after=tuple(runs[half:]))
