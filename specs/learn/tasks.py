"""Two published tasks at small scale: parity, and recall of several pairs (MQAR).

    python -m continuon._specs.learn.tasks [--short]

Parity (Grazzi et al., 2024): the running product of random signs, scored at the trained
length and at four times that; chance 0.5. MQAR (Arora et al., 2023: Zoology): 4 of 16
keys each with one of 16 values, then keys again, in any order, between blanks; chance
1/16. HOPE with magnitude-keeping and with unit keys, a GRU and a causal transformer of
as many parameters, trained alike by Adam. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import optax

from continuon import hope

TRAINED, BATCH = 32, 16
KEYS, PAIRS, RECALL_TICKS = 16, 4, 32
BLANK = 2 * KEYS
LOGIT = 8.0
Run = Callable[[Any, Any], Any]
Task = Callable[[int, int], tuple[Any, Any, Any]]


def parity(ticks: int) -> Task:
    """Return batches by seed and step: signs [B, T, 1], which sign, where it counts."""

    def make(seed: int, step: int) -> tuple[Any, Any, Any]:
        rng = np.random.default_rng([seed, step, ticks])
        x = rng.choice(np.float32([-1.0, 1.0]), (BATCH, ticks, 1))
        return x, (np.cumprod(x[..., 0], 1) > 0).astype(int), np.ones(x.shape[:2])

    return make


def recall(seed: int, step: int) -> tuple[Any, Any, Any]:
    """Return tokens as one-hot [B, T, 33], the value [B, T] and where one is asked."""
    rng = np.random.default_rng([seed, step])
    tokens = np.full((BATCH, RECALL_TICKS), BLANK)
    values, asked = np.zeros_like(tokens), np.zeros(tokens.shape)
    for row in range(BATCH):
        keys = rng.permutation(KEYS)[:PAIRS]
        told = rng.integers(0, KEYS, PAIRS)
        tokens[row, 0 : 2 * PAIRS : 2] = keys
        tokens[row, 1 : 2 * PAIRS : 2] = KEYS + told
        places = 2 * PAIRS + rng.permutation(RECALL_TICKS - 2 * PAIRS)[:PAIRS]
        tokens[row, places], values[row, places] = keys, told
        asked[row, places] = 1.0
    return np.eye(BLANK + 1, dtype=np.float32)[tokens], values, asked


def hope_model(
    seed: int, inputs: int, outputs: int, *, unit_keys: bool
) -> tuple[Run, Any]:
    """Return a one-layer HOPE whose actions are the logits, and its parameters."""
    config = hope.preset(
        "seed",
        image_height=0,
        image_width=0,
        proprio=tuple(f"x{index}" for index in range(inputs)),
        action=tuple(f"y{index}" for index in range(outputs)),
        online=False,
    )
    config = attrs.evolve(config, unit_keys=unit_keys)

    def run(params: Any, x: Any) -> Any:
        state = hope.init_state(config, x.shape[0])
        obs = {"proprio": x}
        return hope.sequence(params, config, state, obs, remat=False)[1].action

    return run, hope.init(seed, config)


def _dense(rng: Any, rows: int, columns: int) -> Any:
    values = rng.standard_normal((rows, columns)) / math.sqrt(rows)
    return jnp.asarray(values, jnp.float32)


def gru_model(seed: int, inputs: int, outputs: int, width: int) -> tuple[Run, Any]:
    """Return a one-layer GRU (Cho et al., 2014) with linear ends."""
    rng = np.random.default_rng(seed)
    params = {
        "in": _dense(rng, inputs, width),
        "x": _dense(rng, width, 3 * width),
        "h": _dense(rng, width, 3 * width),
        "out": _dense(rng, width, outputs),
    }

    def run(params: Any, x: Any) -> Any:
        def tick(state: Any, now: Any) -> Any:
            reset, keep, new = jnp.split(now, 3, -1)
            own = jnp.split(state @ params["h"], 3, -1)
            keep = jax.nn.sigmoid(keep + own[1])
            fresh = jnp.tanh(new + jax.nn.sigmoid(reset + own[0]) * own[2])
            state = keep * state + (1.0 - keep) * fresh
            return state, state

        given = jnp.moveaxis((x @ params["in"]) @ params["x"], 1, 0)
        states = jax.lax.scan(tick, jnp.zeros((x.shape[0], width)), given)[1]
        return jnp.tanh(jnp.moveaxis(states, 0, 1) @ params["out"])

    return run, params


def attention_model(
    seed: int, inputs: int, outputs: int, width: int
) -> tuple[Run, Any]:
    """Return two causal layers (Vaswani et al., 2017), two heads, sine positions."""
    rng = np.random.default_rng(seed)
    heads = 2
    layer = lambda: {  # noqa: E731
        "qkv": _dense(rng, width, 3 * width),
        "mix": 0.5 * _dense(rng, width, width),
        "up": _dense(rng, width, 2 * width),
        "down": 0.5 * _dense(rng, 2 * width, width),
    }
    params = {
        "in": _dense(rng, inputs, width),
        "layers": [layer(), layer()],
        "out": _dense(rng, width, outputs),
    }

    def run(params: Any, x: Any) -> Any:
        rows, ticks = x.shape[:2]
        rate = 100.0 ** (-np.arange(width // 2) / (width // 2))
        angle = np.arange(ticks)[:, None] * rate
        x = x @ params["in"] + np.concatenate([np.sin(angle), np.cos(angle)], -1)
        past = np.tril(np.ones((ticks, ticks), bool))
        for held in params["layers"]:
            qkv = (_normed(x) @ held["qkv"]).reshape(rows, ticks, 3, heads, -1)
            query, key, value = jnp.moveaxis(qkv, 2, 0)
            score = jnp.einsum("bqhd,bkhd->bhqk", query, key)
            score = jnp.where(past, score / math.sqrt(width // heads), -1e9)
            read = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(score, -1), value)
            x = x + read.reshape(rows, ticks, width) @ held["mix"]
            x = x + jax.nn.silu(_normed(x) @ held["up"]) @ held["down"]
        return jnp.tanh(_normed(x) @ params["out"])

    return run, params


def _normed(x: Any) -> Any:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def scalars(params: Any) -> int:
    """Return the number of trained parameters."""
    return sum(v.size for k, v in _flat(params) if "frozen" not in k)


def _flat(params: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def models(seed: int, inputs: int, outputs: int) -> dict[str, tuple[Run, Any]]:
    """Return all four, of about as many parameters."""
    ours = {
        name: hope_model(seed, inputs, outputs, unit_keys=unit)
        for name, unit in (("hope", False), ("hope_unit_keys", True))
    }
    count = scalars(ours["hope"][1])

    def nearest(make: Any) -> tuple[Run, Any]:
        def off(width: int) -> int:
            return abs(scalars(make(seed, inputs, outputs, width)[1]) - count)

        return make(seed, inputs, outputs, min(range(16, 96, 4), key=off))

    return {**ours, "gru": nearest(gru_model), "attention": nearest(attention_model)}


def fit(
    run: Run, params: Any, task: Task, *, seed: int, steps: int, rate: float
) -> Any:
    """Return parameters after that many Adam steps on the cross entropy."""
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    @jax.jit
    def update(params: Any, state: Any, x: Any, y: Any, weight: Any) -> Any:
        def loss_of(candidate: Any) -> Any:
            logits = LOGIT * run(candidate, x)
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return jnp.sum(loss * weight) / jnp.sum(weight)

        slope = jax.grad(loss_of)(params)
        change, state = optimiser.update(slope, state, params)
        return optax.apply_updates(params, change), state

    state = optimiser.init(params)
    for step in range(steps):
        params, state = update(params, state, *task(seed, step))
    return params


def score(run: Run, params: Any, task: Task) -> float:
    """Return the share of right answers over four batches that were not trained on."""
    right = asked = 0.0
    for step in range(4):
        x, y, weight = task(10_000, step)
        told = np.asarray(run(params, x)).argmax(-1)
        right, asked = right + ((told == y) * weight).sum(), asked + weight.sum()
    return round(float(right / asked), 4)


def table(*, seeds: int, steps: int) -> dict[str, Any]:
    """Return the scores of each model, one for each seed."""
    rows: dict[str, Any] = {"steps": steps, "parameters": {}}
    for seed in range(seeds):
        for name, (run, params) in models(seed, 1, 2).items():
            task = parity(TRAINED)
            fitted = fit(run, params, task, seed=seed, steps=steps, rate=3e-3)
            for ticks in (TRAINED, 4 * TRAINED):
                told = score(run, fitted, parity(ticks))
                rows.setdefault(f"parity_T{ticks}", {}).setdefault(name, []).append(
                    told
                )
            rows["parameters"][name] = scalars(params)
        for name, (run, params) in models(seed, BLANK + 1, KEYS).items():
            fitted = fit(run, params, recall, seed=seed, steps=2 * steps, rate=3e-3)
            told = score(run, fitted, recall)
            rows.setdefault("mqar", {}).setdefault(name, []).append(told)
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    made = table(seeds=1 if short else 3, steps=300 if short else 600)
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
