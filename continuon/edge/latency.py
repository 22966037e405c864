"""Wall time of one policy step, measured here and now."""

from __future__ import annotations

import time

import numpy as np

from continuon.edge.policy import Policy

__all__ = ["measure_latency"]


def measure_latency(
    policy: Policy, *, ticks: int = 300, warmup: int = 20
) -> dict[str, float]:
    """Step on a constant grey image and zeros elsewhere; the policy is reset after.

    Returns:
        `ticks`, and p50_ms, p99_ms, p999_ms, max_ms of the wall time of `step`.
    """
    sensed = {
        name: np.full(tensor.shape, 128 if name == "image" else 0, tensor.dtype)
        for name, tensor in policy.spec.senses.items()
    }
    policy.reset()
    for _ in range(warmup):
        policy.step(**sensed)
    times_ms = np.empty(ticks)
    for tick in range(ticks):
        start_ns = time.perf_counter_ns()
        policy.step(**sensed)
        times_ms[tick] = (time.perf_counter_ns() - start_ns) / 1e6
    policy.reset()
    p50, p99, p999 = np.percentile(times_ms, [50, 99, 99.9])
    return {
        "ticks": float(ticks),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "p999_ms": float(p999),
        "max_ms": float(times_ms.max()),
    }
