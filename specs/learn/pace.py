"""A policy stepped every 20 ms, as a robot steps it, and how late its worst step is.

    python -m continuon._specs.learn.pace [--seconds 60] [--preset pi5] [--fifo]

Each backend is stepped at 50 Hz, alone, in turns of ten seconds, so that a disturbance
of a shared machine meets all alike; between two steps the thread sleeps and its caches
cool, which a loop without pauses does not show. Wall time of one step: p50, p99, p99.9
and the worst, beside the time that reading its parameters and moving its state must
take here. `cpu_*` is the stepping thread's own time, without what a busy machine took
from it. `--fifo` steps with the priority that the robot's control process has. Prints
one JSON object; exit status 3 where a p99 is not below 5 ms of wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuon import hope
from continuon._specs.learn.bench import bandwidth_bytes_per_s
from continuon.edge import load_policy
from continuon.export import compile_checkpoint

BACKENDS = ("litert", "litert-int8", "litert-fp16", "onnxruntime", "numpy")
BYTES = {"litert-int8": 1}
"""Of a parameter where it is not 4, as the processor reads it."""
RATE_HZ = 50.0
LIMIT_MS = 5.0
TURN_S = 10.0
PRIORITY = 20


def paced(
    step: Callable[[], Any],
    *,
    ticks: int,
    rate_hz: float = RATE_HZ,
    now_s: Callable[[], float] = time.perf_counter,
    cpu_s: Callable[[], float] = time.thread_time,
    rest_s: Callable[[float], object] = time.sleep,
) -> NDArray[np.float64]:
    """Return the wall and the CPU time of each step [ticks, 2], ms.

    A step begins at its own tick. After one that overran its period the next begins at
    the tick that then comes: none is made up for.
    """
    times_ms, period = np.empty((ticks, 2)), 1.0 / rate_hz
    due = now_s()
    for tick in range(ticks):
        rest_s(max(0.0, due - now_s()))
        begun, begun_cpu = now_s(), cpu_s()
        step()
        ended_cpu, ended = cpu_s(), now_s()
        times_ms[tick] = 1e3 * (ended - begun), 1e3 * (ended_cpu - begun_cpu)
        due += period * max(1, int(np.ceil((ended - due) / period)))
    return times_ms


def told(times_ms: NDArray[np.float64], bound_ms: float) -> dict[str, Any]:
    """Return the quantiles of the steps, and whether the 99th percentile is in time."""
    (p50, cpu50), (p99, cpu99), (p999, cpu999) = np.percentile(
        times_ms, (50, 99, 99.9), axis=0
    ).tolist()
    return {
        "ticks": len(times_ms),
        "p50_ms": round(p50, 3),
        "p99_ms": round(p99, 3),
        "p999_ms": round(p999, 3),
        "max_ms": round(float(times_ms[:, 0].max()), 3),
        "cpu_p50_ms": round(cpu50, 3),
        "cpu_p99_ms": round(cpu99, 3),
        "cpu_p999_ms": round(cpu999, 3),
        "bound_ms": round(bound_ms, 3),
        "cpu_p50_over_bound": round(cpu50 / bound_ms, 2),
        "in_time": p99 < LIMIT_MS,
    }


def best_of(rows: dict[str, dict[str, Any]]) -> str | None:
    """Return the backend whose 99th percentile is least, of those in time."""
    able = {name: row["p99_ms"] for name, row in rows.items() if row["in_time"]}
    return min(able, key=lambda name: able[name]) if able else None


@contextmanager
def priority(*, fifo: bool) -> Iterator[None]:
    """Run with the control process's priority, where asked for; root may."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    if fifo:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def table(preset: str, *, seconds: float, fifo: bool = False) -> dict[str, Any]:
    """Return the figures of every backend."""
    config = hope.preset(preset)
    rate = bandwidth_bytes_per_s()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = folder / "policy.hope"
        hope.save_checkpoint(checkpoint, config, hope.init(0, config), metadata={})
        report = compile_checkpoint(
            checkpoint,
            folder / "policy",
            control_rate_hz=RATE_HZ,
            variants=("int8", "fp16", "onnx"),
        )
        image = np.full(config.image_shape, 128, np.uint8)
        policies = {b: load_policy(folder / "policy", backend=b) for b in BACKENDS}
        turn = round(min(TURN_S, seconds) * RATE_HZ)
        turns = max(1, round(seconds * RATE_HZ / turn))
        loads, seen = [os.getloadavg()[0]], {name: [] for name in policies}
        for _ in range(turns):
            for backend, policy in policies.items():
                with priority(fifo=fifo):
                    paced(lambda p=policy: p.step(image), ticks=2 * config.chunk)
                    times = paced(lambda p=policy: p.step(image), ticks=turn)
                seen[backend].append(times)
            loads.append(os.getloadavg()[0])
        rows = {}
        for backend, policy in policies.items():
            width = BYTES.get(backend, 4)
            moved = width * report.parameters + 2 * policy.spec.state_bytes
            rows[backend] = told(np.concatenate(seen[backend]), 1e3 * moved / rate)
    return {
        "preset": preset,
        "parameters": report.parameters,
        "rate_hz": RATE_HZ,
        "limit_p99_ms": LIMIT_MS,
        "fifo": fifo,
        "read_gb_per_s": round(rate / 1e9, 1),
        "load": [round(min(loads), 1), round(max(loads), 1)],
        "backends": rows,
        "best": best_of(rows),
    }


def main() -> int:
    """Print the figures; 3 where a backend is not in time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="pi5")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--fifo", action="store_true")
    parser.add_argument("--short", action="store_true")
    asked = parser.parse_args()
    seconds = 2.0 if asked.short else asked.seconds
    figures = table(asked.preset, seconds=seconds, fifo=asked.fifo)
    print(json.dumps(figures, indent=1))
    return 0 if all(row["in_time"] for row in figures["backends"].values()) else 3


if __name__ == "__main__":
    sys.exit(main())
