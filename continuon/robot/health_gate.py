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

__all__ = ["HealthVerdict", "Trial", "judge_trial", "watch_trial"]

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


class Trial:
    """One trial under way; ask `look` until it answers.

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

    def __init__(
        self,
        control: ControlHandle,
        guard: GuardHandle,
        swap: SwapResult,
        *,
        bundle: str,
        gate: HealthGate,
        requested_tick: int,
        trips_before: int,
        clock: Clock | None = None,
    ) -> None:
        self._control, self._guard, self._swap = control, guard, swap
        self._bundle, self._gate = bundle, gate
        self._requested_tick, self._trips_before = requested_tick, trips_before
        self._first_tick = swap.tick
        self._clock = clock or SystemClock()
        self._began_ns = self._clock.monotonic_ns()

    @property
    def ticks(self) -> tuple[int, int]:
        """Ticks that were soaked so far, and those that the gate asks for."""
        return self._control.log.count - self._first_tick, self._gate.soak_ticks

    def start_over(self) -> None:
        """Count from now on, as after a stretch in which nobody asked the policy."""
        self._first_tick = self._requested_tick = self._control.log.count
        self._began_ns = self._clock.monotonic_ns()

    def look(self) -> HealthVerdict | None:
        """Return the verdict once there is one; never waits."""
        control, gate = self._control, self._gate
        elapsed_ns = self._clock.monotonic_ns() - self._began_ns
        stopped: tuple[str, ...] = ()
        if not control.alive:
            stopped = ("the control process died",)
        stopped += tuple(_stops_since(control, self._first_tick))
        soaked = control.log.count >= self._first_tick + gate.soak_ticks
        if not (soaked or stopped or elapsed_ns > gate.timeout_s * 1e9):
            return None
        return judge_trial(
            control,
            self._swap,
            bundle=self._bundle,
            gate=gate,
            requested_tick=self._requested_tick,
            elapsed_s=elapsed_ns / 1e9,
            guard_trips=self._guard.report().trips - self._trips_before,
            stopped=stopped,
        )


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
    """Wait until the new policy has soaked, and judge it; see `Trial`."""
    clock = clock or SystemClock()
    trial = Trial(
        control,
        guard,
        swap,
        bundle=bundle,
        gate=gate,
        requested_tick=requested_tick,
        trips_before=trips_before,
        clock=clock,
    )
    while (verdict := trial.look()) is None:
        clock.sleep_until_ns(clock.monotonic_ns() + _LOOK_NS)
    return verdict


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
        backend=swap.model.get("backend"),
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
