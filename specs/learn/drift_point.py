"""The drift world: a point that follows a moving place through actuators it must guess.

Velocity v <- lag v + (1 - lag)(map u + bias), place x <- x + 0.1 v, ten ticks a second,
walls at 1.5; `u` reaches the actuators `delay` ticks late. Sensed are the place (with
noise), the error from where to be, how fast that moves, and a rate sensor; nothing of
the body. Arrays are float32 with a leading axis of robots [B] unless said otherwise.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp

from continuon._specs.learn.drift_world import World

PROPRIO = ("x", "y", "error_x", "error_y", "rate_x", "rate_y", "moved_x", "moved_y")
ACTIONS = ("x", "y")
DT_S, NOISE, WALL = 0.1, 0.003, 1.5
LAG = 0.7
LIMIT_RAD = math.pi / 3
MOST_DELAY = 3


class Body(NamedTuple):
    """What a policy is not told.

    map [B, 2, 2], bias [B, 2]: of the actuators; lag [B, 1], in [0, 1); delay [B],
    int32 ticks, at most `MOST_DELAY`; rate_bias, place_bias [B, 2]: of the sensors.
    """

    map: Any
    bias: Any
    lag: Any
    delay: Any
    rate_bias: Any
    place_bias: Any


class Waves(NamedTuple):
    """Where to be: the sum of two sines an axis, each leaf [B, 2, 2]."""

    frequency: Any
    phase: Any
    size: Any


@attrs.frozen(kw_only=True)
class Drift:
    """A body's condition, applied to every robot of a life.

    Attributes:
        name: of the phase in tables.
        angle_deg: rotation of the actuators.
        gain: factor on what they do (a payload makes it smaller).
        lag: share of the velocity that stays from tick to tick (inertia).
        delay: ticks until an action acts.
        rate_bias, place_bias: added to each component of the rate and place sensors.
    """

    name: str
    angle_deg: float = 40.0
    gain: float = 1.0
    lag: float = LAG
    delay: int = 0
    rate_bias: float = 0.0
    place_bias: float = 0.0


class Robots(NamedTuple):
    """What stays a robot's own while its body drifts: gains, bias [B, 2], the scene."""

    gain: Any
    bias: Any
    scene: Waves


def turned(angle_rad: Any, gain: Any) -> Any:
    """Return maps [B, 2, 2] from angles [B] and gains [B, 2]."""
    cos, sin = jnp.cos(angle_rad), jnp.sin(angle_rad)
    rows = [jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)]
    return jnp.stack(rows, -2) * gain[:, None, :]


def _uniform(key: Any, low: float, high: float, *shape: int) -> Any:
    return jax.random.uniform(key, shape, minval=low, maxval=high)


def draw_waves(key: Any, batch: int) -> Waves:
    """Return where to be for `batch` robots."""
    keys = jax.random.split(key, 3)
    return Waves(
        _uniform(keys[0], 0.3, 0.9, batch, 2, 2),
        _uniform(keys[1], 0.0, 2.0 * math.pi, batch, 2, 2),
        _uniform(keys[2], 0.15, 0.3, batch, 2, 2),
    )


def draw_robots(seed: int, batch: int) -> Robots:
    """Return robots to live: gains 0.8 to 1.2, bias up to 0.15."""
    keys = jax.random.split(jax.random.key(seed), 3)
    return Robots(
        _uniform(keys[0], 0.8, 1.2, batch, 2),
        _uniform(keys[1], -0.15, 0.15, batch, 2),
        draw_waves(keys[2], batch),
    )


def draw_body(key: Any, batch: int) -> Body:
    """Return bodies to train on: turned up to 60 degrees, gains 0.7 to 1.4, no more.

    Payload, delay and biased sensors are kinds of change that training never holds.
    """
    keys = jax.random.split(key, 3)
    angle = _uniform(keys[0], -LIMIT_RAD, LIMIT_RAD, batch)
    gain = _uniform(keys[1], 0.7, 1.4, batch, 2)
    bias = _uniform(keys[2], -0.2, 0.2, batch, 2)
    zero = jnp.zeros((batch, 2))
    lag, delay = jnp.full((batch, 1), LAG), jnp.zeros(batch, jnp.int32)
    return Body(turned(angle, gain), bias, lag, delay, zero, zero)


def drifted(robots: Robots, drift: Drift) -> Body:
    """Return the robots' bodies in one condition."""
    batch = len(robots.gain)
    angle = jnp.full(batch, math.radians(drift.angle_deg))
    ones = jnp.ones((batch, 2))
    return Body(
        turned(angle, robots.gain * drift.gain),
        robots.bias,
        jnp.full((batch, 1), drift.lag),
        jnp.full(batch, drift.delay, jnp.int32),
        drift.rate_bias * ones,
        drift.place_bias * ones,
    )


def wanted_place(waves: Waves, tick: Any) -> tuple[Any, Any]:
    """Return where to be and how fast that moves, each [B, 2]."""
    at = waves.frequency * tick * DT_S + waves.phase
    place = jnp.sum(waves.size * jnp.sin(at), -1)
    return place, jnp.sum(waves.size * waves.frequency * jnp.cos(at), -1)


class Plant(NamedTuple):
    """The world between two ticks: x, v, seen [B, 2]; sent [B, MOST_DELAY, 2]."""

    x: Any
    v: Any
    seen: Any
    sent: Any


def begin(scene: Waves, key: Any = None) -> Plant:
    """Return the world before the first tick, at rest where to be or about there."""
    x = wanted_place(scene, 0.0)[0]
    if key is not None:
        x = x + 0.2 * jax.random.normal(key, x.shape)
    zero = jnp.zeros_like(x)
    return Plant(x, zero, x, jnp.zeros((len(x), MOST_DELAY, 2)))


def sense(plant: Plant, body: Body, scene: Waves, tick: Any, noise: Any) -> Any:
    """Return senses [B, 8] in the order of `PROPRIO`, and the plant that was seen."""
    place, rate = wanted_place(scene, tick)
    seen = plant.x + NOISE * noise + body.place_bias
    moved = (seen - plant.seen) / DT_S + body.rate_bias
    moved = jnp.where(tick > 0, moved, 0.0)
    senses = jnp.concatenate([seen, 3.0 * (place - seen), rate, moved], -1)
    return senses, plant._replace(seen=seen)


def expert(plant: Plant, body: Body, scene: Waves, tick: Any) -> Any:
    """Return the action [B, 2] of one who knows the map, the bias and the lag."""
    place, rate = wanted_place(scene, tick)
    wished = rate + 2.0 * (place - plant.x)
    drive = (wished - body.lag * plant.v) / (1.0 - body.lag) - body.bias
    solved = jnp.linalg.solve(body.map, drive[..., None])[..., 0]
    return jnp.clip(solved, -1.0, 1.0)


def move(plant: Plant, body: Body, scene: Waves, action: Any) -> Plant:
    """Return the world one tick later; `action` [B, 2] in [-1, 1]."""
    del scene
    line = jnp.concatenate([action[:, None], plant.sent], 1)
    acts = jnp.take_along_axis(line, body.delay[:, None, None], 1)[:, 0]
    push = jnp.einsum("bij,bj->bi", body.map, acts) + body.bias
    v = body.lag * plant.v + (1.0 - body.lag) * push
    x = jnp.clip(plant.x + DT_S * v, -WALL, WALL)
    return Plant(x, (x - plant.x) / DT_S, plant.seen, line[:, :-1])


def distance(plant: Plant, scene: Waves, tick: Any) -> Any:
    """Return how far each robot truly is from where to be [B]."""
    return jnp.linalg.norm(plant.x - wanted_place(scene, tick)[0], axis=-1)


POINT = World(
    proprio=PROPRIO,
    action=ACTIONS,
    noise_size=2,
    scene=draw_waves,
    body=draw_body,
    robots=draw_robots,
    drifted=drifted,
    begin=begin,
    sense=sense,
    expert=expert,
    move=move,
    distance=distance,
)
