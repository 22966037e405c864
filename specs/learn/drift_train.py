"""Train policies of the drift world: several seeds and learning rates side by side.

States of the policy's own making, actions of an expert that knows the body (Ross et
al., 2011: DAgger); the body may change once in an episode.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import optax

from continuon._specs.learn.drift_models import Model
from continuon._specs.learn.drift_world import World
from continuon.hope.checkpoint import flatten, unflatten
from continuon.tensorfile import read_tensors, write_tensors

UPDATES, KEPT = 2, 0.8
"""Updates by the same episodes; what a running mean keeps from tick to tick."""


@attrs.frozen(kw_only=True)
class Training:
    """How much a policy is trained, and by what.

    Attributes:
        iterations: of new episodes and `UPDATES` updates by them.
        ticks, batch: of the episodes; ticks a multiple of 16.
        slow: what the error's running mean weighs beside the error.
    """

    iterations: int
    ticks: int = 256
    batch: int = 32
    slow: float = 1.0


class Rows(NamedTuple):
    """Episodes [B, T, ...]: senses, previous and taught actions; distances [B, T]."""

    senses: Any
    previous: Any
    label: Any
    distance: Any


def collect(
    world: World, model: Model, params: Any, key: Any, *, batch: int, ticks: int
) -> Rows:
    """Return episodes; in four of ten the expert's noisy action is what acts."""
    keys = jax.random.split(key, 9)
    first, other = world.body(keys[0], batch), world.body(keys[1], batch)
    scene = world.scene(keys[2], batch)
    change = jax.random.randint(keys[3], (batch,), 20, ticks - 30)
    never = jax.random.uniform(keys[4], (batch,)) > 0.6
    change = jnp.where(never, ticks, change)
    teacher = (jax.random.uniform(keys[5], (batch,)) < 0.4)[:, None]
    size = len(world.action)
    noise = jax.random.normal(keys[6], (ticks, batch, world.noise_size))
    stray = 0.3 * jax.random.normal(keys[7], (ticks, batch, size))

    def tick(carry: Any, now: Any) -> Any:
        state, plant, previous = carry
        index, seen_noise, strayed = now
        late = index >= change

        def chosen(a: Any, b: Any) -> Any:
            return jnp.where(late.reshape(-1, *[1] * (a.ndim - 1)), b, a)

        body = jax.tree.map(chosen, first, other)
        senses, plant = world.sense(plant, body, scene, index, seen_noise)
        state, action, _ = model.step(params, state, senses, previous)
        label = world.expert(plant, body, scene, index)
        acted = jnp.clip(jnp.where(teacher, label + strayed, action), -1.0, 1.0)
        row = Rows(senses, previous, label, world.distance(plant, scene, index))
        return (state, world.move(plant, body, scene, acted), acted), row

    plant = world.begin(scene, keys[8])
    start = (model.start(batch), plant, jnp.zeros((batch, size)))
    rows = jax.lax.scan(tick, start, (jnp.arange(ticks), noise, stray))[1]
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), rows)


def imitation(model: Model, params: Any, rows: Rows, slow: float = 0.0) -> Any:
    """Return the action error plus a tenth of the squared error of the next senses."""
    return imitated(model.sequence(params, rows.senses, rows.previous), rows, slow)


def imitated(told: tuple[Any, Any], rows: Rows, slow: float = 0.0) -> Any:
    """Return the same of actions and expectations that a model told.

    `slow` weighs the error's running mean: an error that lasts moves the robot, one
    that the next tick takes back hardly does.
    """
    action, ahead = told
    error = action - rows.label
    loss = jnp.mean(jnp.abs(error)) + slow * jnp.mean(jnp.abs(running_mean(error)))
    return loss + 0.1 * jnp.mean((ahead[:, :-1] - rows.senses[:, 1:]) ** 2)


def running_mean(values: Any) -> Any:
    """Return m[t] = KEPT m[t-1] + (1 - KEPT) values[t] of [B, T, ...], m[-1] = 0."""

    def joined(a: Any, b: Any) -> Any:
        return a[0] * b[0], a[1] * b[0] + b[1]

    kept = jnp.full_like(values, KEPT)
    parts = (kept, (1.0 - KEPT) * values)
    return jax.lax.associative_scan(joined, parts, axis=1)[1]


def stacked(trees: list[Any]) -> Any:
    """Return one tree whose leaves have a leading axis of lanes."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def train(
    world: World, model: Model, lanes: list[tuple[int, float]], how: Training
) -> Any:
    """Return parameters, leaves [lane, ...]; a lane is a seed and a learning rate.

    Adam under a global norm of 1, warmed up over 20 updates, then a cosine to 1e-5.
    A lane's episodes follow from its seed alone.
    """
    updates = how.iterations * UPDATES
    warm = min(20, updates // 2)
    shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, warm, updates, 0.003)
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(),
        optax.scale_by_schedule(shape),
    )

    def update(params: Any, state: Any, rows: Rows, rate: Any) -> Any:
        slope = jax.grad(lambda p: imitation(model, p, rows, how.slow))(params)
        change, state = optimiser.update(slope, state, params)
        return jax.tree.map(lambda p, c: p - rate * c, params, change), state

    def iterate(params: Any, state: Any, seed: Any, rate: Any, index: Any) -> Any:
        key = jax.random.fold_in(jax.random.key(seed + 1), index)
        rows = collect(world, model, params, key, batch=how.batch, ticks=how.ticks)

        def again(_: Any, held: Any) -> Any:
            return update(*held, rows, rate)

        # a loop, not two calls: the gradient is compiled once
        held: Any = jax.lax.fori_loop(0, UPDATES, again, (params, state))
        return held

    run = jax.jit(jax.vmap(iterate, in_axes=(0, 0, 0, 0, None)))
    params = stacked([model.init(seed) for seed, _ in lanes])
    state = jax.vmap(optimiser.init)(params)
    seeds = jnp.asarray([seed for seed, _ in lanes])
    rates = jnp.asarray([rate for _, rate in lanes], jnp.float32)
    for index in range(how.iterations):
        params, state = run(params, state, seeds, rates, index)
    return params


def lane_path(folder: Path, name: str, seed: int, rate: float) -> Path:
    """Return where a lane's parameters are kept."""
    return folder / f"{name}-{seed}-{rate:g}.tensors"


def trained(
    name: str,
    world: World,
    model: Model,
    lanes: list[tuple[int, float]],
    *,
    how: Training,
    folder: Path,
) -> Any:
    """Return parameters [lane, ...]; lanes that `folder` holds are read from there."""
    sizes = f"{how.iterations}x{how.batch}x{how.ticks}-{how.slow:g}"
    paths = [lane_path(folder, f"{name}-{sizes}", *lane) for lane in lanes]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    if missing:
        asked = [lanes[index] for index in missing]
        made = train(world, model, asked, how)
        folder.mkdir(parents=True, exist_ok=True)
        for place, index in enumerate(missing):
            lane = jax.tree.map(lambda leaf, at=place: np.asarray(leaf[at]), made)
            write_tensors(paths[index], flatten(lane), {})
    held = [unflatten(read_tensors(path).tensors) for path in paths]
    return stacked(held)
