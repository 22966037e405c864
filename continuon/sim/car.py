"""A small car: kinematic bicycle, slewing steering servo, lagging speed controller.

Steering +1 is full right, so positive steering turns clockwise (negative yaw rate).
"""

from __future__ import annotations

import math

import attrs

__all__ = ["CarParameters", "CarState", "glide", "step"]


@attrs.frozen(kw_only=True)
class CarParameters:
    """Figures of a 1:10 car.

    Attributes:
        wheelbase_m: between the axles.
        max_steer_rad: wheel angle at full steering.
        steer_slew_per_s: how fast the servo moves, in steering units (-1..1).
        steer_dead_band: the servo ignores smaller errors, in steering units.
        motor_lag_s: time constant of the speed controller.
        speed_lag_s: time constant of the car's mass against its motor.
        top_speed_mps: without friction, at full throttle.
        throttle_dead_band: the controller ignores smaller commands.
        rolling_mps2: deceleration by rolling friction.
        grip_mps2: lateral acceleration at which the tyres let go.
    """

    wheelbase_m: float = 0.26
    max_steer_rad: float = math.radians(26.0)
    steer_slew_per_s: float = 8.0
    steer_dead_band: float = 0.01
    motor_lag_s: float = 0.10
    speed_lag_s: float = 0.35
    top_speed_mps: float = 4.0
    throttle_dead_band: float = 0.04
    rolling_mps2: float = 0.3
    grip_mps2: float = 6.0


@attrs.frozen(kw_only=True)
class CarState:
    """Where the car is and how it moves.

    Attributes:
        x_m, y_m: middle of the rear axle.
        heading_rad: counter-clockwise from x, unwrapped.
        speed_mps: forward positive.
        steering: servo position, -1 (full left) to 1 (full right).
        motor: speed controller's output, -1 to 1.
        yaw_rate_rad_s: counter-clockwise positive.
    """

    x_m: float
    y_m: float
    heading_rad: float
    speed_mps: float = 0.0
    steering: float = 0.0
    motor: float = 0.0
    yaw_rate_rad_s: float = 0.0


def glide(state: CarState, dt_s: float) -> CarState:
    """Return the state `dt_s` later with speed and yaw rate held (for exposures)."""
    mid = state.heading_rad + 0.5 * dt_s * state.yaw_rate_rad_s
    return attrs.evolve(
        state,
        x_m=state.x_m + dt_s * state.speed_mps * math.cos(mid),
        y_m=state.y_m + dt_s * state.speed_mps * math.sin(mid),
        heading_rad=state.heading_rad + dt_s * state.yaw_rate_rad_s,
    )


def step(
    state: CarState,
    parameters: CarParameters,
    *,
    steering_target: float | None,
    throttle: float,
    dt_s: float,
) -> CarState:
    """Return the state `dt_s` later.

    Args:
        state: now.
        parameters: of the car.
        steering_target: -1..1, or None when the servo gets no pulse and stays.
        throttle: -1..1.
        dt_s: at most about 10 ms.
    """
    p = parameters
    steering = state.steering
    if steering_target is not None:
        error = max(-1.0, min(1.0, steering_target)) - steering
        if abs(error) > p.steer_dead_band:
            reach = p.steer_slew_per_s * dt_s
            steering += max(-reach, min(reach, error))
    wanted = throttle if abs(throttle) > p.throttle_dead_band else 0.0
    motor = state.motor + (wanted - state.motor) * min(1.0, dt_s / p.motor_lag_s)
    pull = (p.top_speed_mps * motor - state.speed_mps) / p.speed_lag_s
    friction = p.rolling_mps2 * dt_s
    speed = state.speed_mps + pull * dt_s
    speed = 0.0 if abs(speed) <= friction else speed - math.copysign(friction, speed)
    curvature = -math.tan(p.max_steer_rad * steering) / p.wheelbase_m
    yaw_rate = speed * curvature
    limit = p.grip_mps2 / max(abs(speed), 0.1)
    yaw_rate = max(-limit, min(limit, yaw_rate))
    moved = glide(attrs.evolve(state, speed_mps=speed, yaw_rate_rad_s=yaw_rate), dt_s)
    return attrs.evolve(moved, steering=steering, motor=motor)
