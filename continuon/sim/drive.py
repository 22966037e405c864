"""Drive a rig until it leaves the lane: the ground truth's own figures."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.rig.calibration import car_pulses_us
from continuon.rig.protocols import Frame, VectorSample
from continuon.sim.rig import SimRig

__all__ = ["Drive", "drive"]

Act = Callable[[Frame | None, VectorSample | None], NDArray[np.float32]]


@attrs.frozen(eq=False, kw_only=True)
class Drive:
    """What happened.

    Attributes:
        progress_m: along the centre line until the lane was left or the run ended.
        left_lane: whether the lane was left.
        duration_s: of the run.
        laps: progress in laps.
        lateral_rms_m: root mean square distance from the centre line.
        mean_speed_mps: progress by duration.
        path_m: float32 [T, 2], x and y at each control tick.
        track_seed: of the track.
    """

    progress_m: float
    left_lane: bool
    duration_s: float
    laps: float
    lateral_rms_m: float
    mean_speed_mps: float
    path_m: NDArray[np.float32]
    track_seed: int


def drive(
    rig: SimRig,
    act: Act,
    *,
    max_laps: float = 3.0,
    max_duration_s: float = 60.0,
    rate_hz: float = 50.0,
    look: bool = True,
) -> Drive:
    """Run a control loop in virtual time until off the lane, done, or out of time.

    Args:
        rig: fresh, at its start.
        act: takes the newest unseen frame and state (None when there is none) and
            returns float32 [steering, throttle]; `rig.expert()` in it teleoperates.
        max_laps: ends the run.
        max_duration_s: ends the run.
        rate_hz: of the loop.
        look: whether frames are drawn; False is much faster and gives None.
    """
    world, clock = rig.world, rig.clock
    start_ns = clock.monotonic_ns()
    period_ns = round(1e9 / rate_hz)
    path: list[tuple[float, float]] = []
    lateral: list[float] = []
    tick = 0
    while tick * period_ns < max_duration_s * 1e9:
        frame = rig.camera.poll() if look else None
        action = act(frame, rig.state.poll())
        rig.servos.set_pulses_us(car_pulses_us(action, rig.calibration))
        tick += 1
        clock.sleep_until_ns(start_ns + tick * period_ns)
        path.append(world.pose[:2])
        lateral.append(world.lateral_error_m)
        if not world.on_lane or world.laps >= max_laps:
            break
    duration_s = tick * period_ns / 1e9
    return Drive(
        progress_m=world.progress_m,
        left_lane=not world.on_lane,
        duration_s=duration_s,
        laps=world.laps,
        lateral_rms_m=float(np.sqrt(np.mean(np.square(lateral)))),
        mean_speed_mps=world.progress_m / duration_s,
        path_m=np.array(path, np.float32),
        track_seed=rig.track_seed,
    )
