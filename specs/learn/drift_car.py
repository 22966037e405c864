"""The drift world of the car: `continuon.sim`'s car on its tracks, steered by a line.

Twenty ticks a second at about 1.2 m/s; the policy steers and a speed plan holds the
throttle. In place of a picture it gets what a picture would tell in four of its rows:
the column of the lane's middle, through the pinhole of `continuon.sim.raycast`, with
noise; and speed and yaw rate. Hidden are the gain and trim of the steering, the
camera's tilt, and a slow or late actuator. The error is the distance from the middle of
the lane, metres.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp

from continuon._specs.learn.drift_tracks import (
    CAR,
    STEP_S,
    Plant,
    Scene,
    car_step,
    looked_up,
    tracks,
)
from continuon._specs.learn.drift_world import World
from continuon.sim.expert import Expert
from continuon.sim.raycast import CameraModel

ROWS_M = (0.4, 0.6, 0.9, 1.3)
"""How far ahead of the lens each row sees the ground while the camera is level."""
PROPRIO = ("row_0", "row_1", "row_2", "row_3", "speed_mps", "yaw_rate_rad_s")
NOISE = (0.005, 0.005, 0.005, 0.005, 0.01, 0.02)
TICK_S = 0.05
SPEED_MPS = 1.2
OFF_M, MOST_DELAY, FARTHEST_M = 0.6, 3, 4.0
LENS, DRIVER = CameraModel(), Expert()


class Body(NamedTuple):
    """What a policy is not told, each [B].

    gain, trim: of the steering, wheel = gain u + trim; tilt_rad: of the camera, upward;
    slow: share of the last command that stays from tick to tick; delay: int32 ticks.
    """

    gain: Any
    trim: Any
    tilt_rad: Any
    slow: Any
    delay: Any


@attrs.frozen(kw_only=True)
class Drift:
    """A condition of every car of a life; see `Body`."""

    name: str
    gain: float = 1.0
    trim: float = 0.0
    tilt_deg: float = 0.0
    slow: float = 0.0
    delay: int = 0


class Robots(NamedTuple):
    """What stays a car's own: a factor on its gain and its trim [B], the scene."""

    gain: Any
    trim: Any
    scene: Scene


def _uniform(key: Any, low: float, high: float, batch: int) -> Any:
    return jax.random.uniform(key, (batch,), minval=low, maxval=high)


def _scene(kind: str, key: Any, batch: int) -> Scene:
    points, heading, lengths = tracks(kind)
    keys = jax.random.split(key)
    chosen = jax.random.randint(keys[0], (batch,), 0, len(lengths))
    length = jnp.asarray(lengths)[chosen]
    start = jax.random.uniform(keys[1], (batch,)) * length
    return Scene(
        jnp.asarray(points)[chosen], jnp.asarray(heading)[chosen], length, start
    )


def draw_scene(key: Any, batch: int) -> Scene:
    """Return places on tracks to train on."""
    return _scene("train", key, batch)


def draw_body(key: Any, batch: int) -> Body:
    """Return bodies to train on: gain 0.7 to 1.4, trim up to 0.2, tilt to 1.5 deg."""
    keys = jax.random.split(key, 3)
    tilt = math.radians(1.5)
    return Body(
        _uniform(keys[0], 0.7, 1.4, batch),
        _uniform(keys[1], -0.2, 0.2, batch),
        _uniform(keys[2], -tilt, tilt, batch),
        jnp.zeros(batch),
        jnp.zeros(batch, jnp.int32),
    )


def draw_robots(seed: int, batch: int) -> Robots:
    """Return cars to live, on tracks that training never saw."""
    keys = jax.random.split(jax.random.key(seed), 3)
    gain, trim = _uniform(keys[0], 0.9, 1.1, batch), _uniform(keys[1], -0.1, 0.1, batch)
    return Robots(gain, trim, _scene("life", keys[2], batch))


def drifted(robots: Robots, drift: Drift) -> Body:
    """Return the cars' bodies in one condition."""
    ones = jnp.ones_like(robots.gain)
    return Body(
        robots.gain * drift.gain,
        robots.trim + drift.trim,
        math.radians(drift.tilt_deg) * ones,
        drift.slow * ones,
        jnp.full(ones.shape, drift.delay, jnp.int32),
    )


def begin(scene: Scene, key: Any = None) -> Plant:
    """Return cars at speed in the lane's middle, or about it."""
    place, heading = looked_up(scene, scene.start_m)
    zero = jnp.zeros_like(scene.start_m)
    off = zero if key is None else 0.05 * jax.random.normal(key, zero.shape)
    return Plant(
        x=place[:, 0] - off * jnp.sin(heading),
        y=place[:, 1] + off * jnp.cos(heading),
        heading=heading + off,
        speed=zero + SPEED_MPS,
        steering=zero,
        motor=zero + SPEED_MPS / CAR.top_speed_mps,
        yaw_rate=zero,
        command=zero,
        s=scene.start_m,
        lateral=off,
        sent=jnp.zeros((len(zero), MOST_DELAY)),
    )


def sense(plant: Plant, body: Body, scene: Scene, tick: Any, noise: Any) -> Any:
    """Return senses [B, 6] in the order of `PROPRIO`, and the plant.

    A row looks down by a fixed angle; a tilt upward makes it see farther. A row above
    the horizon sees `FARTHEST_M`.
    """
    del tick
    down = (
        jnp.arctan(LENS.height_m / jnp.asarray(ROWS_M))[None] - body.tilt_rad[:, None]
    )
    nearest = math.atan(LENS.height_m / FARTHEST_M)
    ahead = LENS.height_m / jnp.tan(jnp.maximum(down, nearest))
    place, _ = looked_up(scene, plant.s[:, None] + LENS.forward_m + ahead)
    dx, dy = place[..., 0] - plant.x[:, None], place[..., 1] - plant.y[:, None]
    cos, sin = jnp.cos(plant.heading)[:, None], jnp.sin(plant.heading)[:, None]
    left = dy * cos - dx * sin
    column = -left / ahead / LENS.half_view
    told = [jnp.clip(column, -1.0, 1.0), plant.speed[:, None], plant.yaw_rate[:, None]]
    return jnp.concatenate(told, -1) + jnp.asarray(NOISE) * noise, plant


def expert(plant: Plant, body: Body, scene: Scene, tick: Any) -> Any:
    """Return pure pursuit's steering [B, 1], knowing gain and trim."""
    del tick
    ahead = DRIVER.lookahead_m + DRIVER.lookahead_s * plant.speed
    goal, _ = looked_up(scene, plant.s + ahead)
    dx, dy = goal[:, 0] - plant.x, goal[:, 1] - plant.y
    away = jnp.maximum(jnp.hypot(dx, dy), 0.1)
    alpha = jnp.arctan2(dy, dx) - plant.heading
    wheel = jnp.arctan(2.0 * jnp.sin(alpha) / away * CAR.wheelbase_m)
    wished = -wheel / CAR.max_steer_rad
    return jnp.clip((wished - body.trim) / body.gain, -1.0, 1.0)[:, None]


def move(plant: Plant, body: Body, scene: Scene, action: Any) -> Plant:
    """Return the cars one tick later; who left the lane by far is put back on it."""
    line = jnp.concatenate([action, plant.sent], 1)
    acts = jnp.take_along_axis(line, body.delay[:, None], 1)[:, 0]
    command = body.slow * plant.command + (1.0 - body.slow) * acts
    hold = (SPEED_MPS + CAR.rolling_mps2 * CAR.speed_lag_s) / CAR.top_speed_mps
    throttle = jnp.clip(hold + 0.35 * (SPEED_MPS - plant.speed), 0.0, 1.0)
    target = body.gain * command + body.trim
    after = jax.lax.fori_loop(
        0,
        round(TICK_S / STEP_S),
        lambda _, car: car_step(car, target, throttle),
        plant,
    )
    s = after.s + TICK_S * after.speed
    for _ in range(2):
        place, heading = looked_up(scene, s)
        dx, dy = after.x - place[:, 0], after.y - place[:, 1]
        s = s + dx * jnp.cos(heading) + dy * jnp.sin(heading)
    place, heading = looked_up(scene, s)
    dx, dy = after.x - place[:, 0], after.y - place[:, 1]
    lateral = dy * jnp.cos(heading) - dx * jnp.sin(heading)
    off = jnp.abs(lateral) > OFF_M
    return after._replace(
        x=jnp.where(off, place[:, 0], after.x),
        y=jnp.where(off, place[:, 1], after.y),
        heading=jnp.where(off, heading, after.heading),
        s=s % scene.length_m,
        lateral=jnp.where(off, 0.0, lateral),
        command=command,
        sent=line[:, :-1],
    )


def distance(plant: Plant, scene: Scene, tick: Any) -> Any:
    """Return how far each car is from the lane's middle [B], metres."""
    del scene, tick
    return jnp.abs(plant.lateral)


TRACK = World(
    proprio=PROPRIO,
    action=("steering",),
    noise_size=len(PROPRIO),
    scene=draw_scene,
    body=draw_body,
    robots=draw_robots,
    drifted=drifted,
    begin=begin,
    sense=sense,
    expert=expert,
    move=move,
    distance=distance,
)
