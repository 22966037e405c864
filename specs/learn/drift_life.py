"""A life: one condition of the body after another, told to nobody, nothing learned."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import numpy as np

from continuon._specs.learn.drift_models import Model
from continuon._specs.learn.drift_point import Drift
from continuon._specs.learn.drift_world import World

PHASE = 384
VALIDATION, TEST = 1077, 77
"""Seeds of robots: those that choose rates and gates, and those that are reported."""

HOME = Drift(name="A")
ROTATIONS = (
    HOME,
    Drift(name="B", angle_deg=-40.0),
    Drift(name="unseen", angle_deg=110.0),
    Drift(name="A again"),
)
TUNING = attrs.evolve(ROTATIONS[2], angle_deg=90.0)


def there_and_back(drift: Drift) -> tuple[Drift, ...]:
    """Return the life A, one drift, A again."""
    return HOME, drift, attrs.evolve(HOME, name="A again")


def repeating(times: int) -> tuple[Drift, ...]:
    """Return A and the unseen rotation, B, in turn."""
    pair = (HOME, attrs.evolve(ROTATIONS[2], name="B"))
    return tuple(
        attrs.evolve(drift, name=f"{drift.name}{turn + 1}")
        for turn in range(times)
        for drift in pair
    )


LIVES: dict[str, tuple[Drift, ...]] = {
    "rotation": ROTATIONS,
    "rotation, 90 degrees": (*ROTATIONS[:2], TUNING, ROTATIONS[3]),
    "rotation, 130 degrees": (
        *ROTATIONS[:2],
        attrs.evolve(TUNING, angle_deg=130.0),
        ROTATIONS[3],
    ),
    "payload: half the push": there_and_back(Drift(name="payload", gain=0.5)),
    "payload: half the push, inertia": there_and_back(
        Drift(name="payload", gain=0.5, lag=0.9)
    ),
    "latency: 1 tick": there_and_back(Drift(name="late", delay=1)),
    "latency: 2 ticks": there_and_back(Drift(name="late", delay=2)),
    "latency: 3 ticks": there_and_back(Drift(name="late", delay=3)),
    "sensor bias: rate": there_and_back(Drift(name="biased", rate_bias=0.3)),
    "sensor bias: place": there_and_back(Drift(name="biased", place_bias=0.1)),
    "A-B-A-B": repeating(3),
}
"""Lives by name; each begins at home, a rotation of 40 degrees that training holds."""


class Seen(NamedTuple):
    """Ticks of a life [..., B, ...].

    senses, previous: what the policy got; action: what it did; ahead: the next senses
    as it expected them; distance [..., B]: the truth.
    """

    senses: Any
    previous: Any
    action: Any
    ahead: Any
    distance: Any


class Carry(NamedTuple):
    """Everything that goes from tick to tick."""

    state: Any
    plant: Any
    previous: Any


def at_home(world: World, model: Model, scene: Any, batch: int) -> Carry:
    """Return a fresh start."""
    none = jnp.zeros((batch, len(world.action)))
    return Carry(model.start(batch), world.begin(scene, None), none)


def ticker(world: World, model: Model) -> Any:
    """Return a function that lives one tick.

    It takes the policy's parameters, the scene and the body, the carry, and the tick's
    number with the sensors' noise [B, noise_size]; it returns the carry and `Seen`.
    """

    def live_tick(params: Any, around: Any, carry: Carry, now: Any) -> Any:
        (scene, body), (tick, noise) = around, now
        senses, plant = world.sense(carry.plant, body, scene, tick, noise)
        state, told, ahead = model.step(params, carry.state, senses, carry.previous)
        action = jnp.clip(told, -1.0, 1.0)
        away = world.distance(plant, scene, tick)
        row = Seen(senses, carry.previous, action, ahead, away)
        return Carry(state, world.move(plant, body, scene, action), action), row

    return live_tick


def conditions(world: World, robots: Any, drifts: Sequence[Any]) -> Any:
    """Return bodies with a leading axis of phases."""
    bodies = [world.drifted(robots, drift) for drift in drifts]
    return jax.tree.map(lambda *parts: jnp.stack(parts), *bodies)


def sensor_noise(world: World, seed: int, ticks: int, batch: int) -> Any:
    """Return [ticks, batch, noise_size]: the same noise whoever lives."""
    key = jax.random.key(seed + 1)
    return jax.random.normal(key, (ticks, batch, world.noise_size))


def lives(
    world: World,
    model: Model,
    params: Any,
    drifts: Sequence[Any],
    *,
    robots: int,
    seed: int,
) -> Seen:
    """Return distance [seed, robot, phase, tick] and the rest [..., tick, value].

    Args:
        world: that is lived in.
        model: of all.
        params: leaves [training seed, ...]; none of them changes.
        drifts: the phases.
        robots: how many.
        seed: of the robots, `VALIDATION` or `TEST`.
    """
    drawn, count = world.robots(seed, robots), PHASE * len(drifts)
    noise = sensor_noise(world, seed, count, robots)
    bodies = conditions(world, drawn, drifts)
    rows = _lived(world, model, count)(params, drawn, bodies, noise)
    return _folded(rows, len(drifts))


@functools.lru_cache(maxsize=8)
def _lived(world: World, model: Model, count: int) -> Any:
    """Return the compiled life of that many ticks, whatever drifts in it."""
    live_tick = ticker(world, model)

    def one(params: Any, robots: Any, bodies: Any, noise: Any) -> Seen:
        def tick(carry: Carry, now: Any) -> Any:
            body = jax.tree.map(lambda part: part[now[0] // PHASE], bodies)
            return live_tick(params, (robots.scene, body), carry, now)

        start = at_home(world, model, robots.scene, noise.shape[1])
        rows: Seen = jax.lax.scan(tick, start, (jnp.arange(count), noise))[1]
        return rows

    return jax.jit(jax.vmap(one, in_axes=(0, None, None, None)))


def _folded(rows: Seen, phases: int) -> Seen:
    """Return [seed, tick, robot, ...] as [seed, robot, phase, tick, ...]."""

    def fold(leaf: Any) -> Any:
        values = np.moveaxis(np.asarray(leaf), 1, 2)
        return values.reshape(*values.shape[:2], phases, PHASE, *values.shape[3:])

    return jax.tree.map(fold, rows)


def surprise(rows: Seen) -> Any:
    """Return the squared error of the rate as expected [..., tick - 1]."""
    error = rows.ahead[..., :-1, -2:] - rows.senses[..., 1:, -2:]
    return np.mean(error**2, -1)
