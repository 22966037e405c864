"""HOPE beside its bounds and peers, side by side in one run; prints one JSON object.

    python -m continuon._specs.learn.bench [--short]

Two tables: one control step of the `pi5` preset by backend, over the time that reading
its parameters and moving its state must take on this machine; and one training update
of HOPE and of the peers of `peers.py`, by length. CPU time of one thread, the least of
several runs. (What they learn: `tasks.py`, `drift.py`.)
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from continuon import hope
from continuon._specs.learn.peers import Peer, hope_peer, peers, scalars
from continuon.edge import load_policy
from continuon.export import compile_checkpoint

TURN = 16
BACKENDS = ("litert", "litert-int8", "onnxruntime", "numpy")


def main() -> None:
    """Run the tables and print them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--no-step", action="store_true")
    asked = parser.parse_args()
    short = asked.short
    tables = {
        "short": short,
        "step": None if asked.no_step else step_table(ticks=100 if short else 400),
        "training": training_table((64,) if short else (64, 256, 1024), layers=2),
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


def least_by_turns(
    works: dict[str, Callable[[], Any]], *, ticks: int
) -> dict[str, float]:
    """Return the least CPU time of one call of each, seconds.

    They take turns, so a neighbour on a shared machine disturbs all alike; one turn is
    16 calls, as many as there are between two folds.
    """
    best = dict.fromkeys(works, float("inf"))
    for _ in range(max(2, ticks // 4)):
        for name, work in works.items():
            begun = time.process_time()
            for _ in range(TURN):
                work()
            best[name] = min(best[name], (time.process_time() - begun) / TURN)
    return best


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
        policies = {b: load_policy(folder / "pi5", backend=b) for b in BACKENDS}
        best = least_by_turns(
            {
                name: lambda policy=policy: policy.step(image)
                for name, policy in policies.items()
            },
            ticks=ticks,
        )
        for backend, policy in policies.items():
            width = 1 if backend.endswith("int8") else 4
            moved = width * report.parameters + 2 * policy.spec.state_bytes
            seconds = best[backend]
            rows[backend] = {
                "ms": 1e3 * seconds,
                "bound_ms": 1e3 * moved / rate,
                "over_bound": seconds * rate / moved,
            }
    return rows


def training_table(
    lengths: tuple[int, ...], *, layers: int, ticks_a_batch: int = 4096
) -> dict[str, Any]:
    """Return tokens a second of one update of each peer, CPU time of one thread.

    Every length gets batches of as many tokens, so a cost that is linear in T shows as
    a rate that does not fall with T.
    """
    made = peers(8, 2, layers=layers, online=True)
    made["hope_no_slow_writes"] = hope_peer(8, 2, layers=layers)
    rows: dict[str, Any] = {"ticks_a_batch": ticks_a_batch}
    for name, peer in made.items():
        params = peer.init(0)
        row: dict[str, Any] = {"parameters": scalars(params)}
        for ticks in lengths:
            rng = np.random.default_rng(ticks)
            shape = (ticks_a_batch // ticks, ticks)
            x = jnp.asarray(rng.standard_normal((*shape, 8)), jnp.float32)
            y = jnp.asarray(rng.uniform(-1, 1, (*shape, 2)), jnp.float32)
            begun = time.process_time()
            update = updater(peer, params)
            update(x, y)
            row[f"T{ticks}_compile_s"] = round(time.process_time() - begun, 1)
            seconds = least_s(lambda u=update, x=x, y=y: u(x, y), 4)
            row[f"T{ticks}_tokens_per_s"] = round(ticks_a_batch / seconds)
        rows[name] = row
        print(json.dumps({name: row}), file=sys.stderr, flush=True)
    return rows


def updater(peer: Peer, params: Any) -> Callable[[Any, Any], None]:
    """Return one Adam update of the squared error, compiled, that waits for its end."""
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    state = optimiser.init(params)

    @jax.jit
    def update(params: Any, state: Any, x: Any, y: Any) -> Any:
        def loss_of(candidate: Any) -> Any:
            return jnp.mean(jnp.square(peer.run(candidate, x) - y))

        change, state = optimiser.update(jax.grad(loss_of)(params), state, params)
        return optax.apply_updates(params, change), state

    def once(x: Any, y: Any) -> None:
        jax.block_until_ready(update(params, state, x, y))

    return once


if __name__ == "__main__":
    main()
