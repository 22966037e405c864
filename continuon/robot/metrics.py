"""The robot's figures in Prometheus' text format; only what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from continuon.robot.guard_handle import GuardReport
from continuon.robot.modes import Mode, ModeState
from continuon.robot.supply import Supply
from continuon.robot.timing import TimingReport
from continuon.robot.viewfinder import CameraFacts

__all__ = ["CONTENT_TYPE", "metrics_text"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(
    *,
    state: ModeState,
    guard: GuardReport,
    timing: TimingReport,
    ticks: int,
    parts: Mapping[str, bool],
    camera: CameraFacts | None = None,
    supply: Supply | None = None,
    now_ns: int = 0,
    recording: Mapping[str, Any] | None = None,
    episodes: int = 0,
) -> str:
    """Return the exposition, one family after the other.

    Args:
        state: the mode.
        guard: the guard's own account.
        timing: what the loop's newest ticks say.
        ticks: the loop's, since its start.
        parts: the service's processes, and whether each is well.
        camera: what the loop saw of the camera; None while it is not known.
        supply: what the guard saw of the battery.
        now_ns: by which its age is told, host monotonic.
        recording: what is known of the episode under way; None while there is none.
        episodes: that ended since the service started.
    """
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
        ("guard_max_gap_seconds", "gauge", "Between polls.", guard.max_gap_ms / 1e3),
        ("episodes_total", "counter", "Episodes that ended.", episodes),
        ("recording", "gauge", "1 while an episode is open.", recording is not None),
        *_camera(camera),
        *_battery(supply, now_ns),
    )
    for name, kind, text, value in single:
        if value is not None:
            _family(out, f"continuon_{name}", kind, text, {"": float(value)})
    wells = {f'{{part="{part}"}}': float(well) for part, well in parts.items()}
    _family(out, "continuon_part_well", "gauge", "1 while the part is well.", wells)
    if recording is not None:
        drops = recording["drops"].items()
        lost = {f'{{stream="{stream}"}}': count for stream, count in drops}
        text = "Samples that the open episode lost."
        _family(out, "continuon_recording_drops", "gauge", text, lost)
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


def _battery(
    supply: Supply | None, now_ns: int
) -> tuple[tuple[str, str, str, float | None], ...]:
    if supply is None or supply.volts is None:
        return ()
    age_s = (now_ns - supply.capture_ns) / 1e9
    return (
        ("battery_age_seconds", "gauge", "Since the gauge was read.", age_s),
        ("battery_volts", "gauge", "Of the whole battery.", supply.volts),
        ("battery_amperes", "gauge", "Negative: discharging.", supply.amps),
        ("battery_charge_ratio", "gauge", "Charge in 0..1.", supply.fraction),
    )


def _camera(
    camera: CameraFacts | None,
) -> tuple[tuple[str, str, str, float | None], ...]:
    if camera is None:
        return ()
    age_s = None if camera.age_ns is None else camera.age_ns / 1e9
    return (
        ("camera_frames_total", "counter", "Frames that the loop saw.", camera.frames),
        (
            "camera_failures_total",
            "counter",
            "Polls of the camera that failed.",
            camera.failures,
        ),
        ("camera_frame_age_seconds", "gauge", "Of the newest frame.", age_s),
    )


def _family(
    out: list[str], name: str, kind: str, text: str, values: Mapping[str, Any]
) -> None:
    out.append(f"# HELP {name} {text}")
    out.append(f"# TYPE {name} {kind}")
    out.extend(f"{name}{labels} {value:g}" for labels, value in values.items())
