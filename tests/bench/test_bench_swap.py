"""A loop through a swap beside the same loop without one, at 50 and 200 Hz.

Missed periods and lateness are taken over equal spans of one run: a quiet one, and one
in which a policy is loaded, checked, watched and switched to. What counts is the
difference, since a busy machine misses periods of its own.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("litert_converter")

from continuon import hope
from continuon._specs.edge.examples import compile_from
from continuon.clock import SystemClock
from continuon.robot.control import ControlHandle
from continuon.robot.control_config import ControlConfig
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.guard_handle import GuardHandle
from continuon.robot.shadow import ShadowRule
from continuon.robot.timing import timing_report

FAKES = "continuon._specs.robot.fakes"
SWAPS = 8
WATCH = ShadowRule(frames=15, max_mean_divergence=2.0, max_divergence=2.0)


@pytest.fixture(scope="module")
def policy():
    config = hope.preset("nano", proprio=("speed_mps",))
    return compile_from(config).artifacts[0].path.parent


@pytest.mark.parametrize("backend", ["litert", "numpy"])
@pytest.mark.parametrize("rate_hz", [50.0, 200.0])
def test_swap_under_a_running_loop(benchmark, policy, rate_hz, backend):
    benchmark.name = f"swap/{backend}/{rate_hz:g}Hz"
    benchmark.group = f"swap/{rate_hz:g}Hz"
    settings = ControlConfig(
        rig=Factory(target=f"{FAKES}:LiveFakeRig"),
        limits=car_limits(state_names=("speed_mps", "yaw_rate_rad_s")),
        rate_hz=rate_hz,
        artifact_dir=str(policy),
        backend=backend,
        without_gauge=True,
    )
    servos = Factory(target=f"{FAKES}:FakeServos")
    clock = SystemClock()
    quiet, swapped = [], []
    with GuardHandle(servos) as guard, ControlHandle(settings, guard) as control:

        def swap():
            first = control.log.count
            control.swap(policy, backend, shadow=WATCH)
            last = control.log.count
            swapped.append(control.log.rows(first, last))
            rest_s = (last - first) / rate_hz
            clock.sleep_until_ns(clock.monotonic_ns() + round(rest_s * 1e9))
            quiet.append(control.log.rows(last, control.log.count))

        benchmark.pedantic(swap, rounds=SWAPS)
    for name, parts in (("quiet", quiet), ("swap", swapped)):
        rows = np.concatenate(parts)
        report = timing_report(rows, period_ns=settings.period_ns)
        missed = int(rows["skipped"].sum())
        benchmark.extra_info[f"{name}_ticks"] = len(rows)
        benchmark.extra_info[f"{name}_missed"] = missed
        benchmark.extra_info[f"{name}_late_p99_ms"] = report.lateness_ms.p99
        benchmark.extra_info[f"{name}_late_max_ms"] = report.lateness_ms.max
        benchmark.extra_info[f"{name}_policy_p99_ms"] = report.policy_ms.p99
