"""The trial of a policy under the running loop: measured here, judged by its bundle.

Ticks are counted by the loop alone, golden figures come from this device's own check,
and what was not measured was not met.
"""

from __future__ import annotations

from typing import Any

import attrs

from continuon.bundle.manifest import HealthGate
from continuon.clock import Clock, SystemClock
from continuon.ota.gate import GateReport, Miss, judge
from continuon.robot.control import ControlHandle, SwapResult
from continuon.robot.guard_handle import GuardHandle
from continuon.robot.timing import TimingReport, timing_report

__all__ = ["HealthVerdict", "judge_trial", "watch_trial"]

_LOOK_NS = 20_000_000


@attrs.frozen(kw_only=True)
class HealthVerdict:
    """How a trial ended, with its figures.

    Attributes:
        passed: every bound of the bundle and of the loop was kept.
        misses: the bounds that were not.
        report: the figures in the update's own terms.
        timing: the loop from the request to the end of the trial.
        swap: where the new policy took over.
        guard_trips: times that the guard stopped the outputs during the trial.
        stopped: why the loop stopped executing by itself; empty if it did not.
    """

    passed: bool
    misses: tuple[Miss, ...]
    report: GateReport
    timing: TimingReport
    swap: SwapResult
    guard_trips: int
    stopped: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "verdict": "passed" if self.passed else "missed",
            "misses": [str(miss) for miss in self.misses],
            "report": self.report.as_dict(),
            "timing": self.timing.as_dict(),
            "swap": self.swap.as_dict(),
            "guard_trips": self.guard_trips,
            "stopped": list(self.stopped),
        }


def watch_trial(
    control: ControlHandle,
    guard: GuardHandle,
    swap: SwapResult,
    *,
    bundle: str,
    gate: HealthGate,
    requested_tick: int,
    trips_before: int,
    clock: Clock | None = None,
) -> HealthVerdict:
    """Wait until the new policy has soaked, and judge it.

    Args:
        control: the running loop.
        guard: the guard of its outputs.
        swap: where the new policy took over.
        bundle: id of the bundle on trial.
        gate: the bundle's own bounds.
        requested_tick: the loop's tick when loading began; what loading costs the loop
            counts against the trial.
        trips_before: the guard's trips at that time.
        clock: bounds the waiting.
    """
    clock = clock or SystemClock()
    began_ns = clock.monotonic_ns()
    done_tick = swap.tick + gate.soak_ticks
    limit_ns = began_ns + round(gate.timeout_s * 1e9)
    stopped: tuple[str, ...] = ()
    while control.log.count < done_tick and not stopped:
        if clock.monotonic_ns() > limit_ns:
            break
        if not control.alive:
            stopped = ("the control process died",)
        stopped += tuple(_stops_since(control, swap.tick))
        clock.sleep_until_ns(clock.monotonic_ns() + _LOOK_NS)
    return judge_trial(
        control,
        swap,
        bundle=bundle,
        gate=gate,
        requested_tick=requested_tick,
        elapsed_s=(clock.monotonic_ns() - began_ns) / 1e9,
        guard_trips=guard.report().trips - trips_before,
        stopped=stopped,
    )


def judge_trial(
    control: ControlHandle,
    swap: SwapResult,
    *,
    bundle: str,
    gate: HealthGate,
    requested_tick: int,
    elapsed_s: float,
    guard_trips: int,
    stopped: tuple[str, ...] = (),
) -> HealthVerdict:
    """Return the verdict on what the loop's log holds of a trial."""
    rows = control.log.rows(requested_tick)
    serial = swap.model["serial"]
    trial = rows[rows["policy"] == serial]
    period_ns = control.config.period_ns
    soaked = timing_report(trial, period_ns=period_ns, first=swap.tick)
    whole = timing_report(rows, period_ns=period_ns, first=requested_tick)
    report = GateReport(
        bundle=bundle,
        golden_max_error=swap.model["golden_max_abs_error"],
        latency_p99_ms=soaked.policy_ms.p99,
        ticks=soaked.judged,
        veto_fraction=soaked.veto_fraction,
        non_finite=soaked.non_finite + soaked.policy_failures,
        missed_periods=whole.missed_periods,
        elapsed_s=elapsed_s,
    )
    misses = list(judge(gate, report))
    if guard_trips:
        misses.append(Miss("guard_trips", guard_trips, "at most 0"))
    misses += [Miss(f"stopped: {reason}", None, "no stop") for reason in stopped]
    return HealthVerdict(
        passed=not misses,
        misses=tuple(misses),
        report=report,
        timing=whole,
        swap=swap,
        guard_trips=guard_trips,
        stopped=stopped,
    )


def _stops_since(control: ControlHandle, tick: int) -> list[str]:
    return [
        ", ".join(event["reasons"]) or "unknown"
        for event in list(control.events)
        if event.get("event") == "stopped" and event["tick"] >= tick
    ]
