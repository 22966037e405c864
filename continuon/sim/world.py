"""The car on its track, stepped in fixed ticks, with its ground truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import attrs
import numpy as np

from continuon.sim.car import CarParameters, CarState, step
from continuon.sim.disturbance import Disturbance
from continuon.sim.track import Track, TrackPosition

__all__ = ["STEERING_CHANNEL", "THROTTLE_CHANNEL", "Start", "World", "draw_start"]

STEERING_CHANNEL = 1
THROTTLE_CHANNEL = 0
STEP_NS = 5_000_000
MIN_PULSE_US, MAX_PULSE_US = 800.0, 2200.0


@attrs.frozen(kw_only=True)
class Start:
    """Where a run begins: arc length, offset to the left, heading error (left +)."""

    s_m: float
    lateral_m: float = 0.0
    heading_error_rad: float = 0.0


def draw_start(track: Track, seed: int) -> Start:
    """Draw a start just before or in a bend, a little off the line."""
    rng = np.random.default_rng([seed, 0x57A])
    places = track.curve_starts_m()
    s_m = float(rng.choice(places)) if len(places) else 0.0
    return Start(
        s_m=s_m,
        lateral_m=float(rng.uniform(-0.04, 0.04)),
        heading_error_rad=float(rng.uniform(-0.06, 0.06)),
    )


class World:
    """Physics with ground truth. Pulses come from whatever drives the servo board.

    Args:
        track: what is driven.
        start: where the car is put, at rest.
        pulses_us: returns the pulse on each channel in microseconds; 0.0 is off.
        time_ns: host time at the start.
        disturbance: pushes on the steering; None is none.
        parameters: of the car.
    """

    def __init__(
        self,
        track: Track,
        start: Start,
        *,
        pulses_us: Callable[[], Mapping[int, float]],
        time_ns: int = 0,
        disturbance: Disturbance | None = None,
        parameters: CarParameters | None = None,
    ) -> None:
        self.track = track
        self.parameters = CarParameters() if parameters is None else parameters
        self.disturbance = Disturbance(0) if disturbance is None else disturbance
        self.time_ns = time_ns
        self.start_ns = time_ns
        self.progress_m = 0.0
        self.distance_m = 0.0
        self._pulses_us = pulses_us
        x, y, heading = track.pose_at(start.s_m, start.lateral_m)
        self.car = CarState(x_m=x, y_m=y, heading_rad=heading + start.heading_error_rad)
        self.position: TrackPosition = track.locate(x, y, near_s_m=start.s_m)

    def step(self) -> None:
        """Move 5 ms on."""
        pulses = self._pulses_us()
        steering = command_of(pulses.get(STEERING_CHANNEL, 0.0))
        throttle = command_of(pulses.get(THROTTLE_CHANNEL, 0.0))
        if steering is not None:
            steering += self.disturbance.steering_at(
                (self.time_ns - self.start_ns) / 1e9
            )
        before = self.car
        self.car = step(
            before,
            self.parameters,
            steering_target=steering,
            throttle=0.0 if throttle is None else throttle,
            dt_s=STEP_NS / 1e9,
        )
        self.time_ns += STEP_NS
        self.distance_m += math.hypot(
            self.car.x_m - before.x_m, self.car.y_m - before.y_m
        )
        if self.car.speed_mps != 0.0:
            self._relocate()

    @property
    def pose(self) -> tuple[float, float, float]:
        """Ground truth x_m, y_m, heading_rad."""
        return self.car.x_m, self.car.y_m, self.car.heading_rad

    @property
    def x_m(self) -> float:
        """Ground truth x."""
        return self.car.x_m

    @property
    def y_m(self) -> float:
        """Ground truth y."""
        return self.car.y_m

    @property
    def speed_mps(self) -> float:
        """Ground truth forward speed."""
        return self.car.speed_mps

    @property
    def yaw_rate_rad_s(self) -> float:
        """Ground truth yaw rate, counter-clockwise positive."""
        return self.car.yaw_rate_rad_s

    @property
    def steering_position(self) -> float:
        """Ground truth servo position, +1 full right."""
        return self.car.steering

    @property
    def lateral_error_m(self) -> float:
        """Distance from the centre line, positive to its left."""
        return self.position.lateral_m

    @property
    def heading_error_rad(self) -> float:
        """Heading against the track's direction, left positive, -pi..pi."""
        error = self.car.heading_rad - self.position.heading_rad
        return math.atan2(math.sin(error), math.cos(error))

    @property
    def on_lane(self) -> bool:
        """Whether the rear axle's middle is between the lane lines."""
        return abs(self.position.lateral_m) <= 0.5 * self.track.lane_width_m

    @property
    def laps(self) -> float:
        """Progress in laps; negative when driven backwards."""
        return self.progress_m / self.track.length_m

    def _relocate(self) -> None:
        before = self.position.s_m
        self.position = self.track.locate(self.car.x_m, self.car.y_m, near_s_m=before)
        length = self.track.length_m
        moved = self.position.s_m - before
        self.progress_m += (moved + 0.5 * length) % length - 0.5 * length


def command_of(pulse_us: float) -> float | None:
    """Return what a servo makes of a pulse: -1..1, or None for no valid pulse."""
    if not MIN_PULSE_US <= pulse_us <= MAX_PULSE_US:
        return None
    return max(-1.0, min(1.0, (pulse_us - 1500.0) / 500.0))
