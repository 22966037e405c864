"""Cars and tracks of `continuon.sim` in JAX, many at once: the same maths, float32."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from continuon.sim.car import CarParameters
from continuon.sim.track import make_track

POINTS = 1024
TRACKS = {"train": range(200, 216), "life": range(300, 316)}
STEP_S = 0.01
CAR = CarParameters()


class Scene(NamedTuple):
    """Which track [B] of `tracks`, and where on it [B], metres."""

    points: Any
    heading: Any
    length_m: Any
    start_m: Any


class Plant(NamedTuple):
    """The car, each [B]; sent [B, MOST_DELAY]; `place` [B, 3]: s, lateral, heading."""

    x: Any
    y: Any
    heading: Any
    speed: Any
    steering: Any
    motor: Any
    yaw_rate: Any
    command: Any
    s: Any
    lateral: Any
    sent: Any


@functools.lru_cache
def tracks(kind: str) -> tuple[Any, Any, Any]:
    """Return points [N, POINTS, 2], headings [N, POINTS] and lengths [N], metres."""
    drawn = [make_track(seed) for seed in TRACKS[kind]]
    points, heading = [], []
    for track in drawn:
        count = len(track.points_m)
        at = np.linspace(0.0, count, POINTS, endpoint=False)
        turned = np.unwrap(np.append(track.heading_rad, track.heading_rad[0]))
        closed = np.append(track.points_m, track.points_m[:1], 0)
        index = np.arange(count + 1)
        points.append(np.stack([np.interp(at, index, c) for c in closed.T], -1))
        heading.append(np.interp(at, index, turned))
    lengths = [track.length_m for track in drawn]
    return tuple(np.asarray(a, np.float32) for a in (points, heading, lengths))


def looked_up(scene: Scene, s: Any) -> tuple[Any, Any]:
    """Return the lane's middle [B, ..., 2] and heading at arc lengths [B, ...]."""
    place = s / scene.length_m.reshape(-1, *[1] * (s.ndim - 1)) % 1.0 * POINTS
    index = jnp.floor(place).astype(jnp.int32) % POINTS
    part = place - jnp.floor(place)
    row = jnp.arange(len(s)).reshape(-1, *[1] * (s.ndim - 1))
    a, b = scene.points[row, index], scene.points[row, (index + 1) % POINTS]
    return a + part[..., None] * (b - a), scene.heading[row, index]


def car_step(plant: Plant, target: Any, throttle: Any) -> Plant:
    """Return `continuon.sim.car.step` of `STEP_S`, for many cars."""
    error = jnp.clip(target, -1.0, 1.0) - plant.steering
    reach = CAR.steer_slew_per_s * STEP_S
    turn = jnp.where(
        jnp.abs(error) > CAR.steer_dead_band, jnp.clip(error, -reach, reach), 0.0
    )
    steering = plant.steering + turn
    wanted = jnp.where(jnp.abs(throttle) > CAR.throttle_dead_band, throttle, 0.0)
    lag = min(1.0, STEP_S / CAR.motor_lag_s)
    motor = plant.motor + (wanted - plant.motor) * lag
    pull = (CAR.top_speed_mps * motor - plant.speed) / CAR.speed_lag_s
    friction = CAR.rolling_mps2 * STEP_S
    speed = plant.speed + pull * STEP_S
    speed = jnp.where(
        jnp.abs(speed) <= friction, 0.0, speed - jnp.sign(speed) * friction
    )
    curvature = -jnp.tan(CAR.max_steer_rad * steering) / CAR.wheelbase_m
    limit = CAR.grip_mps2 / jnp.maximum(jnp.abs(speed), 0.1)
    yaw_rate = jnp.clip(speed * curvature, -limit, limit)
    middle = plant.heading + 0.5 * STEP_S * yaw_rate
    return plant._replace(
        x=plant.x + STEP_S * speed * jnp.cos(middle),
        y=plant.y + STEP_S * speed * jnp.sin(middle),
        heading=plant.heading + STEP_S * yaw_rate,
        speed=speed,
        steering=steering,
        motor=motor,
        yaw_rate=yaw_rate,
    )
