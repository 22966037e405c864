"""What a running robot knows of its own health, without touching the guard's bus.

Only what can be measured while the guard owns the bus is here: the processes, the loop,
the camera, the battery as the guard saw it, heat, disk and memory. `continuon health`
looks at the rest, with the service stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from continuon.health import Check, HealthReport, Level
from continuon.health.body import battery_check, check_thermal
from continuon.health.host import check_disk, check_memory, check_pressure
from continuon.health.thresholds import load_thresholds
from continuon.rig.protocols import BatteryReading, Rig
from continuon.robot.supply import GaugeState, Supply
from continuon.robot.timing import TimingReport
from continuon.robot.viewfinder import CameraFacts

__all__ = ["LATE_SHARE", "STALE_FRAME_NS", "read_vitals"]

LATE_SHARE = 0.1
"""Share of the period that the loop's lateness may reach at p99."""

STALE_FRAME_NS = 1_000_000_000
_THERMAL_AGE_S = 5.0


def read_vitals(
    rig: Rig,
    home: Path,
    *,
    parts: dict[str, bool],
    timing: TimingReport,
    camera: CameraFacts | None,
    supply: Supply | None,
    before: HealthReport | None = None,
) -> HealthReport:
    """Return the checks of a running robot.

    Args:
        rig: of the body; only its thermometer is read.
        home: where recordings go.
        parts: the service's processes, and whether each is well.
        timing: what the loop's newest ticks say.
        camera: what the loop saw of the camera.
        supply: what the guard saw of the battery.
        before: the last report as it was measured; its levels are left for better ones
            only beyond the hysteresis.
    """
    limits = load_thresholds()
    was = {} if before is None else {c.name: c.level for c in before.checks}
    checks = [_processes(parts), _loop(timing), _camera(rig, camera)]
    checks.append(_battery(rig, supply, limits, was.get("battery")))
    if rig.thermal is not None:
        heat = check_thermal(
            rig,
            limits["thermal"],
            max_age_s=_THERMAL_AGE_S,
            before=was.get("thermal"),
        )
        checks.append(heat)
    checks.append(check_disk(home, limits["disk"], before=was.get("disk")))
    checks.append(check_memory(limits["memory"], before=was.get("memory")))
    checks.append(check_pressure(limits["pressure"], before=was.get("pressure")))
    return HealthReport(
        rig=rig.name,
        origin=rig.origin,
        checks=tuple(checks),
        measured_wall_ns=rig.clock.wall_ns(),
    )


def _processes(parts: dict[str, bool]) -> Check:
    down = sorted(part for part, well in parts.items() if not well)
    is_unsafe = any(part != "recorder" for part in down)
    level = Level.CRITICAL if is_unsafe else Level.WARN if down else Level.OK
    return Check(
        name="processes",
        level=level,
        text=", ".join(down) + " not well" if down else "all run",
        figures={f"{part}_well": well for part, well in parts.items()},
        origin="host",
        hint="journalctl -u continuon says why" if down else None,
    )


def _loop(timing: TimingReport) -> Check:
    late_ms = timing.lateness_ms.p99
    if late_ms is None:
        return Check(
            name="loop", level=Level.UNKNOWN, text="it has not ticked", origin="host"
        )
    allowed_ms = LATE_SHARE * timing.period_ms
    missed = timing.missed_periods
    level = Level.OK if late_ms <= allowed_ms and not missed else Level.WARN
    return Check(
        name="loop",
        level=level,
        text=f"p99 {late_ms:.2f} ms late of {timing.period_ms:g} ms, {missed} missed",
        figures={"loop_lateness_p99_ms": late_ms, "loop_missed_periods": missed},
        origin="host",
        hint=None if level is Level.OK else "stop other work on this machine",
    )


def _camera(rig: Rig, camera: CameraFacts | None) -> Check:
    if camera is None or camera.age_ns is None:
        return Check(
            name="camera",
            level=Level.UNKNOWN,
            text="it has shown nothing yet",
            origin=rig.origin,
            hint="check its cable, then `continuon rig scan`",
        )
    is_fresh = camera.age_ns <= STALE_FRAME_NS
    level = Level.OK if is_fresh else Level.STALE
    return Check(
        name="camera",
        level=Level.WARN if is_fresh and camera.failures else level,
        text=f"newest frame {camera.age_ns / 1e6:.0f} ms old"
        + (f", {camera.failures} failed polls" if camera.failures else ""),
        figures={
            "camera_frame_age_ms": camera.age_ns / 1e6,
            "camera_failures": camera.failures,
        },
        origin=rig.origin,
        hint=None if is_fresh else "check its cable, then `continuon rig scan`",
    )


def _battery(
    rig: Rig,
    supply: Supply | None,
    limits: dict[str, dict[str, Any]],
    before: Level | None,
) -> Check:
    if supply is None or supply.state is not GaugeState.READ or supply.volts is None:
        return Check(
            name="battery",
            level=Level.UNKNOWN,
            text=_why_no_battery(supply),
            origin=rig.origin,
            hint="add a gauge in the supply (INA219 at 0x41 or above, MAX17048); it is "
            "found within ten seconds while nothing moves",
        )
    reading = BatteryReading(
        volts=supply.volts,
        amps=supply.amps,
        fraction=supply.fraction,
        capture_ns=supply.capture_ns,
        cells=supply.cells,
    )
    return battery_check(
        reading,
        limits["battery"],
        origin=rig.origin,
        age_s=(rig.clock.monotonic_ns() - supply.capture_ns) / 1e9,
        max_age_s=limits["freshness"]["max_age_s"],
        before=before,
    )


def _why_no_battery(supply: Supply | None) -> str:
    if supply is None:
        return "the guard has not looked yet"
    if supply.state is GaugeState.ABSENT:
        return f"no battery gauge. {supply.reason}".removesuffix(". ")
    return supply.reason or "its gauge gave no figure"
