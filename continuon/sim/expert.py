"""A privileged driver that sees the ground truth: pure pursuit and a speed plan.

Pure pursuit (Coulter, CMU-RI-TR-92-01): curvature = 2 sin(alpha) / distance to a point
on the centre line ahead.
"""

from __future__ import annotations

import math
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.sim.car import CarParameters
from continuon.sim.track import Track, TrackPosition

__all__ = ["Expert", "GroundTruth"]


class GroundTruth(Protocol):
    """What the expert sees of a world."""

    @property
    def track(self) -> Track:
        """The track that is driven."""
        ...

    @property
    def parameters(self) -> CarParameters:
        """Figures of the car."""
        ...

    @property
    def pose(self) -> tuple[float, float, float]:
        """x_m, y_m, heading_rad."""
        ...

    @property
    def speed_mps(self) -> float:
        """Forward speed."""
        ...

    @property
    def position(self) -> TrackPosition:
        """Place relative to the centre line."""
        ...


@attrs.frozen(kw_only=True)
class Expert:
    """Drives the middle of the lane, slower in bends.

    Attributes:
        max_speed_mps: on straights.
        min_speed_mps: in the tightest bends.
        lateral_mps2: comfortable lateral acceleration; sets the speed in bends.
        lookahead_m, lookahead_s: pursuit distance = lookahead_m + lookahead_s * speed.
    """

    max_speed_mps: float = 1.5
    min_speed_mps: float = 0.7
    lateral_mps2: float = 1.1
    lookahead_m: float = 0.30
    lookahead_s: float = 0.30

    def action(self, world: GroundTruth) -> NDArray[np.float32]:
        """Return float32 [2]: steering (+1 full right) and throttle, both in -1..1."""
        track, car = world.track, world.parameters
        x, y, heading = world.pose
        speed = max(world.speed_mps, 0.0)
        ahead = self.lookahead_m + self.lookahead_s * speed
        goal_x, goal_y, _ = track.pose_at(world.position.s_m + ahead)
        distance = max(math.hypot(goal_x - x, goal_y - y), 0.1)
        alpha = math.atan2(goal_y - y, goal_x - x) - heading
        curvature = 2.0 * math.sin(alpha) / distance
        wheel = math.atan(curvature * car.wheelbase_m)
        steering = -wheel / car.max_steer_rad
        bend = track.max_curvature_ahead(world.position.s_m, 0.4 + 0.8 * speed)
        planned = math.sqrt(self.lateral_mps2 / max(bend, 1e-3))
        target = max(self.min_speed_mps, min(self.max_speed_mps, planned))
        hold = (target + car.rolling_mps2 * car.speed_lag_s) / car.top_speed_mps
        throttle = hold + 0.35 * (target - speed)
        return np.array(
            [max(-1.0, min(1.0, steering)), max(0.0, min(1.0, throttle))],
            dtype=np.float32,
        )
