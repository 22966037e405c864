"""The robot's figures in Prometheus' text format; only what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from continuon.robot.guard_handle import GuardReport
from continuon.robot.modes import Mode, ModeState
from continuon.robot.timing import TimingReport

__all__ = ["CONTENT_TYPE", "metrics_text"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(
    *, state: ModeState, guard: GuardReport, timing: TimingReport, ticks: int
) -> str:
    """Return the exposition, one family after the other."""
    out: list[str] = []
    _family(
        out,
        "continuon_mode",
        "gauge",
        "1 for the mode the robot is in.",
        {f'{{mode="{mode.value}"}}': float(mode is state.mode) for mode in Mode},
    )
    single: tuple[tuple[str, str, str, float | None], ...] = (
        ("executing", "gauge", "1 while a start is in force.", state.executing),
        ("ticks_total", "counter", "Ticks of the control loop.", ticks),
        ("loop_rate_hz", "gauge", "Measured rate of the loop.", timing.rate_hz),
        (
            "missed_periods",
            "gauge",
            "Missed among the last ticks.",
            timing.missed_periods,
        ),
        ("veto_fraction", "gauge", "Share of ticks changed.", timing.veto_fraction),
        ("guard_alive", "gauge", "1 while the guard runs.", guard.alive),
        ("guard_driving", "gauge", "1 while pulses may go out.", guard.driving),
        ("guard_applied_total", "counter", "Updates of outputs.", guard.applied),
        ("guard_stops_total", "counter", "Full-off writes.", guard.stops),
        ("guard_trips_total", "counter", "Stops by the guard itself.", guard.trips),
        ("guard_bus_errors_total", "counter", "Refused bus calls.", guard.bus_errors),
    )
    for name, kind, text, value in single:
        if value is not None:
            _family(out, f"continuon_{name}", kind, text, {"": float(value)})
    for name, text, quantiles in (
        ("tick_lateness", "Start after deadline, last ticks.", timing.lateness_ms),
        ("tick_work", "Duration of a tick, last ticks.", timing.tick_ms),
        ("policy_step", "Duration of a policy step.", timing.policy_ms),
    ):
        figures = {"0.5": quantiles.p50, "0.99": quantiles.p99, "1": quantiles.max}
        known = {
            f'{{quantile="{q}"}}': value / 1e3
            for q, value in figures.items()
            if value is not None
        }
        if known:
            _family(out, f"continuon_{name}_seconds", "gauge", text, known)
    return "\n".join(out) + "\n"


def _family(
    out: list[str], name: str, kind: str, text: str, values: Mapping[str, Any]
) -> None:
    out.append(f"# HELP {name} {text}")
    out.append(f"# TYPE {name} {kind}")
    out.extend(f"{name}{labels} {value:g}" for labels, value in values.items())
