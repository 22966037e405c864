"""The drift life: a body that changes under a policy which is told nothing of it.

    python -m continuon._specs.learn.drift [--short]

A point follows a moving reference; its two actuators act through a hidden map (a
rotation, gains, a bias). A policy is trained on rotations up to 60 degrees which may
change once in an episode, with the actions of an expert that knows the map, on states
of its own making (Ross et al., 2011: DAgger). Then it lives: rotation A, B, one that it
never saw, A again, 384 ticks each. No parameter changes and nothing but the senses is
given: what adapts is its state. The error is the distance from the reference.

HOPE, a GRU of as many parameters (residual, with an MLP in each layer) and an MLP of as
many without memory, which cannot adapt, are trained alike. One JSON object is printed.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import optax

from continuon import hope

TICKS, PHASE, TAIL = 128, 384, 128
NOISE = 0.003
LIMIT_RAD = math.pi / 3
GOOD = 0.1
PHASES = {"A": 40.0, "B": -40.0, "unseen": 110.0, "A again": 40.0}
PROPRIO = ("x", "y", "error_x", "error_y", "rate_x", "rate_y", "moved_x", "moved_y")


class Plant(NamedTuple):
    """Actuator map [B, 2, 2], bias [B, 2]; reference: three [B, 2, 2] of two waves."""

    map: Any
    bias: Any
    frequency: Any
    phase: Any
    size: Any


class Model(NamedTuple):
    """Fresh parameters by seed, a fresh state by batch, and the two evaluations."""

    init: Callable[[int], Any]
    start: Callable[[int], Any]
    step: Callable[[Any, Any, Any, Any], tuple[Any, Any, Any]]
    sequence: Callable[[Any, Any, Any], tuple[Any, Any]]


def turned(angle_rad: Any, gain: Any) -> Any:
    """Return maps [B, 2, 2] from angles [B] and gains [B, 2]."""
    cos, sin = jnp.cos(angle_rad), jnp.sin(angle_rad)
    rows = [jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)]
    return jnp.stack(rows, -2) * gain[:, None, :]


def plant(key: Any, batch: int, angle_rad: Any = None) -> Plant:
    """Return random plants; the angle too, up to 60 degrees, where none is given."""
    keys = iter(jax.random.split(key, 6))

    def uniform(low: float, high: float, *shape: int) -> Any:
        drawn = jax.random.uniform(next(keys), (batch, *shape))
        return low + (high - low) * drawn

    angle = uniform(-LIMIT_RAD, LIMIT_RAD)
    narrow = angle_rad is not None
    gain = uniform(0.8, 1.2, 2) if narrow else uniform(0.7, 1.4, 2)
    bias = uniform(-0.15, 0.15, 2) if narrow else uniform(-0.2, 0.2, 2)
    used = jnp.full(batch, angle_rad) if narrow else angle
    waves = (
        uniform(0.3, 0.9, 2, 2),
        uniform(0.0, 6.28, 2, 2),
        uniform(0.15, 0.3, 2, 2),
    )
    return Plant(turned(used, gain), bias, *waves)


def reference(p: Plant, tick: Any) -> tuple[Any, Any]:
    """Return where to be and how fast that moves, each [B, 2]."""
    at = p.frequency * tick * 0.1 + p.phase
    place = jnp.sum(p.size * jnp.sin(at), -1)
    return place, jnp.sum(p.size * p.frequency * jnp.cos(at), -1)


def control(model: Model, params: Any, p: Plant, carry: Any, inputs: Any) -> Any:
    """Run one tick; `teacher` [B, 1]: where the expert's noisy action is applied."""
    state, x, v, seen_before, previous = carry
    tick, key, teacher = inputs
    noise, stray = jax.random.split(key)
    seen = x + NOISE * jax.random.normal(noise, x.shape)
    moved = jnp.where(tick > 0, (seen - seen_before) / 0.1, 0.0)
    place, rate = reference(p, tick)
    senses = jnp.concatenate([seen, 3.0 * (place - seen), rate, moved], -1)
    state, action, _ = model.step(params, state, senses, previous)
    wanted = ((rate + 2.0 * (place - x)) - 0.7 * v) / 0.3 - p.bias
    label = jnp.clip(jnp.linalg.solve(p.map, wanted[..., None])[..., 0], -1.0, 1.0)
    taught = label + 0.3 * jax.random.normal(stray, label.shape)
    applied = jnp.clip(jnp.where(teacher, taught, action), -1.0, 1.0)
    v = 0.7 * v + 0.3 * (jnp.einsum("bij,bj->bi", p.map, applied) + p.bias)
    after = jnp.clip(x + 0.1 * v, -1.5, 1.5)
    distance = jnp.sqrt(jnp.sum((x - place) ** 2, -1))
    v = (after - x) / 0.1
    return (state, after, v, seen, applied), (senses, previous, label, distance)


def begin(model: Model, p: Plant, offset: Any) -> Any:
    """Return the carry before the first tick."""
    x = reference(p, 0.0)[0] + offset
    zero = jnp.zeros_like(x)
    return model.start(len(x)), x, zero, x, zero


def collect(model: Model, params: Any, key: Any, batch: int) -> Any:
    """Return senses, previous actions, labels, distances of episodes [B, T, ...]."""
    keys = jax.random.split(key, 7)
    first, other = plant(keys[0], batch), plant(keys[1], batch)
    never = jax.random.uniform(keys[2], (batch,)) > 0.6
    change = jax.random.randint(keys[3], (batch,), 20, TICKS - 30)
    change = jnp.where(never, TICKS, change)
    teacher = (jax.random.uniform(keys[4], (batch,)) < 0.4)[:, None]
    offset = 0.2 * jax.random.normal(keys[5], (batch, 2))

    def tick(carry: Any, inputs: Any) -> Any:
        early = inputs[0] < change
        now = first._replace(
            map=jnp.where(early[:, None, None], first.map, other.map),
            bias=jnp.where(early[:, None], first.bias, other.bias),
        )
        return control(model, params, now, carry, (*inputs, teacher))

    times = (jnp.arange(TICKS), jax.random.split(keys[6], TICKS))
    rows = jax.lax.scan(tick, begin(model, first, offset), times)[1]
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), rows)


def train(model: Model, seed: int, *, iterations: int, rate: float) -> Any:
    """Return trained parameters."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, 20, iterations * 2, 1e-5)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def loss(params: Any, senses: Any, previous: Any, label: Any) -> Any:
        action, ahead = model.sequence(params, senses, previous)
        error = jnp.mean(jnp.abs(action - label))
        return error + 0.1 * jnp.mean((ahead[:, :-1] - senses[:, 1:]) ** 2)

    @jax.jit
    def iterate(params: Any, state: Any, key: Any) -> Any:
        senses, previous, label, _ = collect(model, params, key, 16)
        for _ in range(2):
            slope = jax.grad(loss)(params, senses, previous, label)
            change, state = optimiser.update(slope, state, params)
            params = optax.apply_updates(params, change)
        return params, state

    params = model.init(seed)
    state = optimiser.init(params)
    for index in range(iterations):
        key = jax.random.fold_in(jax.random.key(seed + 1), index)
        params, state = iterate(params, state, key)
    return params


def live(model: Model, params: Any, *, robots: int) -> np.ndarray[Any, Any]:
    """Return distances [robots, phase, tick] of one life without any learning."""
    key = jax.random.key(77)
    lives = [plant(key, robots, math.radians(angle)) for angle in PHASES.values()]
    maps = jnp.stack([p.map for p in lives])

    def tick(carry: Any, inputs: Any) -> Any:
        now = lives[0]._replace(map=maps[inputs[0] // PHASE])
        return control(model, params, now, carry, (*inputs, False))

    count = PHASE * len(PHASES)
    times = (jnp.arange(count), jax.random.split(jax.random.key(78), count))
    run = jax.jit(lambda: jax.lax.scan(tick, begin(model, lives[0], 0.0), times)[1][3])
    return np.asarray(run()).T.reshape(robots, len(PHASES), PHASE)


def hope_model() -> tuple[Model, int]:
    """Return a small HOPE, and how many parameters it trains."""
    config = hope.preset(
        "seed",
        image_height=0,
        image_width=0,
        proprio=PROPRIO,
        action=("x", "y"),
        use_previous_action=True,
        layers=2,
    )
    # the frozen target is a projection of the senses: told by a head of their own here,
    # so that all models are asked for the same
    config = attrs.evolve(config, latent=len(PROPRIO))

    def observed(senses: Any, previous: Any) -> dict[str, Any]:
        return {"proprio": senses, "previous_action": previous}

    def init(seed: int) -> Any:
        params = hope.init(seed, config)
        eye = jnp.eye(len(PROPRIO))
        return {**params, "frozen": {"projection": eye}}

    def step(params: Any, state: Any, senses: Any, previous: Any) -> Any:
        state, out = hope.step(params, config, state, observed(senses, previous))
        return state, out.action, out.prediction

    def sequence(params: Any, senses: Any, previous: Any) -> Any:
        state = hope.init_state(config, senses.shape[0])
        obs = observed(senses, previous)
        out = hope.sequence(params, config, state, obs, remat=False)[1]
        return out.action, out.prediction

    model = Model(init, lambda batch: hope.init_state(config, batch), step, sequence)
    return model, hope.count_parameters(hope.init(0, config))


def plain_model(width: int, *, recurrent: bool) -> Model:
    """Return two residual layers, each an MLP behind a GRU cell or behind nothing."""
    inputs, senses_count = len(PROPRIO) + 2, len(PROPRIO)
    layers = 2

    def init(seed: int) -> Any:
        rng = np.random.default_rng(seed)

        def dense(rows: int, columns: int, gain: float = 1.0) -> Any:
            values = rng.standard_normal((rows, columns)) * gain / math.sqrt(rows)
            return jnp.asarray(values, jnp.float32)

        blocks = []
        for _ in range(layers):
            block = {
                "up": dense(width, 2 * width),
                "down": dense(2 * width, width, 0.5),
            }
            if recurrent:
                block |= {
                    "x": dense(width, 3 * width),
                    "h": dense(width, 3 * width),
                    "bias": jnp.zeros(3 * width),
                }
            blocks.append(block)
        return {
            "in": dense(inputs, width),
            "blocks": blocks,
            "action": dense(width, 2, 0.5),
            "ahead": dense(width, senses_count, 0.1),
        }

    def start(batch: int) -> Any:
        return [jnp.zeros((batch, width if recurrent else 0)) for _ in range(layers)]

    def step(params: Any, state: Any, senses: Any, previous: Any) -> Any:
        x, after = jnp.concatenate([senses, previous], -1) @ params["in"], []
        for block, held in zip(params["blocks"], state, strict=True):
            hidden = held
            if recurrent:
                keep, reset, new = jnp.split(x @ block["x"], 3, -1)
                turned = jnp.split(held @ block["h"] + block["bias"], 3, -1)
                keep = jax.nn.sigmoid(keep + turned[0])
                fresh = jnp.tanh(new + jax.nn.sigmoid(reset + turned[1]) * turned[2])
                hidden = (1.0 - keep) * fresh + keep * held
                x = x + hidden
            after.append(hidden)
            x = x + jax.nn.silu(x @ block["up"]) @ block["down"]
        return after, jnp.tanh(x @ params["action"]), x @ params["ahead"]

    def sequence(params: Any, senses: Any, previous: Any) -> Any:
        def tick(state: Any, now: Any) -> Any:
            state, action, ahead = step(params, state, *now)
            return state, (action, ahead)

        now = (jnp.moveaxis(senses, 1, 0), jnp.moveaxis(previous, 1, 0))
        rows = jax.lax.scan(tick, start(senses.shape[0]), now)[1]
        return jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), rows)

    return Model(init, start, step, sequence)


def sized(count: int, *, recurrent: bool) -> Model:
    """Return the plain model whose parameters come nearest to `count`."""

    def off(width: int) -> int:
        return abs(_scalars(plain_model(width, recurrent=recurrent).init(0)) - count)

    return plain_model(min(range(8, 160, 2), key=off), recurrent=recurrent)


def _scalars(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def summary(lives: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return figures of distances [seed, robot, phase, tick]: mean and each seed."""
    rows = {}
    for index, name in enumerate(PHASES):
        now = lives[:, :, index]
        smooth = np.apply_along_axis(
            lambda a: np.convolve(a, np.ones(16) / 16, "valid"), -1, now
        )
        reached = smooth < GOOD
        ticks = np.where(reached.any(-1), reached.argmax(-1), PHASE)
        tails = np.median(now[..., -TAIL:].mean(-1), -1)
        rows[name] = {
            "tail_median": [round(float(value), 4) for value in tails],
            "first_64": round(float(now[..., :64].mean()), 4),
            "ticks_to_good": int(np.median(ticks)),
            "never_good": round(float((~reached.any(-1)).mean()), 3),
        }
    return rows


def main() -> None:
    """Train and live; print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=0)
    asked = parser.parse_args()
    iterations = asked.iterations or (150 if asked.short else 400)
    ours, count = hope_model()
    models = {
        "hope": ours,
        "gru": sized(count, recurrent=True),
        "mlp": sized(count, recurrent=False),
    }
    table: dict[str, Any] = {"iterations": iterations, "parameters": {"hope": count}}
    for name, model in models.items():
        if name != "hope":
            table["parameters"][name] = _scalars(model.init(0))
        lives = []
        for seed in range(asked.seeds):
            params = train(model, seed, iterations=iterations, rate=3e-3)
            lives.append(live(model, params, robots=16))
        table[name] = summary(np.stack(lives))
        print(json.dumps({name: table[name]}), flush=True)
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
