"""The bench that steps a policy at 50 Hz, on a clock of the test's own."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("jax")

from continuon._specs.learn.pace import best_of, paced, told


class Clock:
    def __init__(self):
        self.now = 7.0
        self.begun = []

    def rest(self, seconds):
        self.now += seconds

    def step(self, seconds):
        self.begun.append(self.now)
        self.now += seconds


def test_steps_begin_at_their_ticks_and_an_overrun_is_not_made_up_for():
    clock, durations = Clock(), iter([0.001, 0.045, 0.002, 0.020, 0.001])
    times = paced(
        lambda: clock.step(next(durations)),
        ticks=5,
        now_s=lambda: clock.now,
        cpu_s=lambda: 0.5 * clock.now,
        rest_s=clock.rest,
    )
    np.testing.assert_allclose(times[:, 0], [1, 45, 2, 20, 1])
    np.testing.assert_allclose(times[:, 1], 0.5 * times[:, 0])
    begun = np.asarray(clock.begun) - 7.0
    np.testing.assert_allclose(begun, [0.0, 0.02, 0.08, 0.1, 0.12], atol=1e-9)


def test_one_slow_step_in_fifty_is_not_in_time_whatever_the_rest_do():
    quick = np.full((1000, 2), 0.7)
    slow = quick.copy()
    slow[::50, 0] = 6.0
    rows = {"a": told(quick, 0.35), "b": told(slow, 0.35), "c": told(quick / 2, 0.1)}
    assert rows["a"]["in_time"]
    assert not rows["b"]["in_time"]
    assert rows["b"]["p50_ms"] == pytest.approx(0.7)
    assert rows["a"]["cpu_p50_over_bound"] == pytest.approx(2.0)
    assert best_of(rows) == "c"
    assert best_of({"b": rows["b"]}) is None
    assert not told(np.array([[np.nan, 1.0], [1.0, 1.0]]), 1.0)["in_time"]
