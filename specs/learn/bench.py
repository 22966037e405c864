"""HOPE beside its bounds and peers, side by side in one run; prints one JSON object.

    python -m continuon._specs.learn.bench [--short]

Three tables: one control step of the `pi5` preset by backend, over the time that
reading its parameters and moving its state must take on this machine; one training step
over that of a GRU of equal size; and the tasks of `tasks.py`, parity and recall, beside
a GRU and attention. CPU time of one thread, the least of several runs.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import optax

from continuon import hope
from continuon._specs.learn import tasks
from continuon.edge import load_policy
from continuon.export import compile_checkpoint

BACKENDS = ("litert", "litert-int8", "onnxruntime", "numpy")


def main() -> None:
    """Run the tables and print them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    tables = {
        "short": short,
        "step": step_table(ticks=100 if short else 400),
        "training": training_table((64,) if short else (64, 256)),
        "tasks": tasks.table(seeds=1 if short else 3, steps=300 if short else 600),
    }
    print(json.dumps(tables, indent=1))


def least_s(work: Callable[[], Any], repeats: int) -> float:
    """Return the least CPU time of one call, seconds."""
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def bandwidth_bytes_per_s() -> float:
    """Return how fast one thread reads memory here: the sum of 256 MB."""
    block = np.ones(32 * 2**20, np.float64)
    return block.nbytes / least_s(block.sum, 5)


def step_table(*, ticks: int) -> dict[str, Any]:
    """Time the step of each backend over its memory-bandwidth bound.

    A step reads all its parameters and reads and writes its state.
    """
    config = hope.preset("pi5")
    rate = bandwidth_bytes_per_s()
    rows: dict[str, Any] = {"read_gb_per_s": rate / 1e9}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = folder / "pi5.hope"
        params = hope.init(0, config)
        hope.save_checkpoint(checkpoint, config, params, metadata={})
        report = compile_checkpoint(
            checkpoint, folder / "pi5", control_rate_hz=50.0, variants=("int8", "onnx")
        )
        rows["parameters"] = report.parameters
        image = np.full(config.image_shape, 128, np.uint8)
        for backend in BACKENDS:
            policy = load_policy(folder / "pi5", backend=backend)
            width = 1 if backend.endswith("int8") else 4
            moved = width * report.parameters + 2 * policy.spec.state_bytes

            def run(policy: Any = policy) -> None:
                for _ in range(ticks // 4):
                    policy.step(image)

            run()
            seconds = least_s(run, 4) / (ticks // 4)
            rows[backend] = {
                "ms": 1e3 * seconds,
                "bound_ms": 1e3 * moved / rate,
                "over_bound": seconds * rate / moved,
            }
    return rows


def gru(seed: int, inputs: int, width: int, outputs: int) -> dict[str, Any]:
    """Return parameters of a one-layer GRU (Cho et al., 2014) with linear ends."""
    rng = np.random.default_rng(seed)

    def dense(rows: int, columns: int) -> Any:
        values = rng.standard_normal((rows, columns)) / math.sqrt(rows)
        return jnp.asarray(values, jnp.float32)

    return {
        "in": dense(inputs, width),
        "x": dense(width, 3 * width),
        "h": dense(width, 3 * width),
        "out": dense(width, outputs),
    }


def run_gru(params: Any, x: Any) -> Any:
    """Return [B, T, outputs] for [B, T, inputs], from a zero state."""
    given = (x @ params["in"]) @ params["x"]

    def tick(state: Any, now: Any) -> Any:
        reset, update, new = jnp.split(now, 3, -1)
        own_reset, own_update, own_new = jnp.split(state @ params["h"], 3, -1)
        keep = jax.nn.sigmoid(update + own_update)
        fresh = jnp.tanh(new + jax.nn.sigmoid(reset + own_reset) * own_new)
        state = keep * state + (1.0 - keep) * fresh
        return state, state

    start = jnp.zeros((x.shape[0], params["h"].shape[0]))
    states = jax.lax.scan(tick, start, jnp.moveaxis(given, 1, 0))[1]
    return jnp.moveaxis(states, 0, 1) @ params["out"]


def blind(layers: int = 1) -> hope.HopeConfig:
    """Return a small HOPE that is fed one number a tick."""
    return hope.preset(
        "seed",
        image_height=0,
        image_width=0,
        proprio=("x",),
        action=("y",),
        layers=layers,
    )


def run_hope(config: hope.HopeConfig) -> Callable[[Any, Any], Any]:
    """Return a function like `run_gru`; the output is the head's action."""

    def run(params: Any, x: Any) -> Any:
        state = hope.init_state(config, x.shape[0])
        return hope.sequence(params, config, state, {"proprio": x}, remat=False)[
            1
        ].action

    return run


def fit(
    run: Any, params: Any, *, steps: int, make: Any, rate: float
) -> tuple[Any, Any]:
    """Minimise the squared error by Adam; return the parameters and one more step."""
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    @jax.jit
    def update(params: Any, state: Any, x: Any, y: Any) -> Any:
        def loss_of(candidate: Any) -> Any:
            return jnp.mean(jnp.square(run(candidate, x) - y))

        loss, slope = jax.value_and_grad(loss_of)(params)
        change, state = optimiser.update(slope, state, params)
        return optax.apply_updates(params, change), state, loss

    state = optimiser.init(params)
    for step in range(steps):
        params, state, _ = update(params, state, *make(step))

    def once() -> None:
        jax.block_until_ready(update(params, state, *make(0)))

    return params, once


def bits(ticks: int, seed: int) -> Callable[[int], Any]:
    """Return batches of random signs and their running product: parity."""

    def make(step: int) -> Any:
        rng = np.random.default_rng([seed, step, ticks])
        x = rng.choice(np.float32([-1.0, 1.0]), (16, ticks, 1))
        return x, np.cumprod(x, 1)

    return make


def models(seed: int) -> dict[str, tuple[Any, Any]]:
    """Return HOPE and a GRU of as many parameters."""
    config = attrs.evolve(blind(), online=False)
    params = hope.init(seed, config)
    count = hope.count_parameters(params)
    width = round((-2 + math.sqrt(4 + 24 * count)) / 12)
    return {
        "hope": (run_hope(config), params),
        "gru": (run_gru, gru(seed, 1, width, 1)),
    }


def training_table(lengths: tuple[int, ...]) -> dict[str, Any]:
    """Time one update of HOPE over one of the GRU, and say how many parameters."""
    rows = {}
    for ticks in lengths:
        times = {}
        for name, (run, params) in models(0).items():
            _, once = fit(run, params, steps=2, make=bits(ticks, 0), rate=1e-3)
            times[name] = 1e3 * least_s(once, 5)
            leaves = {k: v for k, v in params.items() if k != "frozen"}
            times[f"{name}_parameters"] = sum(v.size for v in jax.tree.leaves(leaves))
        rows[f"T{ticks}"] = {**times, "hope_over_gru": times["hope"] / times["gru"]}
    return rows


if __name__ == "__main__":
    main()
