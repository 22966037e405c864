"""Checks of a rig's servo board, battery and thermometer."""

from __future__ import annotations

from typing import Any

from continuon.errors import ContinuonError
from continuon.health.levels import Level, Limits, grade, worst
from continuon.health.report import Check
from continuon.rig.pca9685 import Pca9685Servos
from continuon.rig.protocols import Rig

__all__ = ["check_battery", "check_servos", "check_thermal"]


def check_servos(rig: Rig, limits: dict[str, Any]) -> Check:
    """Read the servo board's registers back; nothing moves."""
    origin = rig.origin
    if rig.servos is None:
        return Check(
            name="servos",
            level=Level.UNKNOWN,
            text="there is no servo board on this rig",
            figures={"pca9685_detected": False},
            origin=origin,
            hint="check its 3.3 V supply and the SDA and SCL wires",
        )
    if not isinstance(rig.servos, Pca9685Servos):
        return Check(
            name="servos",
            level=Level.UNKNOWN,
            text="the outputs are not a PCA9685, nothing was probed",
            figures={"pca9685_detected": False},
            origin=origin,
        )
    try:
        facts = rig.servos.probe()
        pulses = rig.servos.read_pulses_us()
    except ContinuonError as error:
        return Check(
            name="servos",
            level=Level.CRITICAL,
            text=str(error),
            figures={"pca9685_detected": False},
            origin=origin,
            hint=error.hint,
        )
    driven = {channel: pulse for channel, pulse in pulses.items() if pulse != 0.0}
    figures = {
        "pca9685_detected": True,
        "pca9685_address": f"0x{facts.address:02x}",
        "pca9685_awake": facts.awake,
        "pca9685_frequency_hz": round(facts.frequency_hz, 3),
        "servo_channels_driven": len(driven),
    }
    wanted = rig.servos.frequency_hz
    off = abs(facts.frequency_hz / wanted - 1.0)
    if driven and off > limits["frequency_tolerance"]:
        return Check(
            name="servos",
            level=Level.CRITICAL,
            text=f"drives {len(driven)} channels at {facts.frequency_hz:.1f} Hz",
            figures=figures,
            origin=origin,
            hint=f"expected {wanted:g} Hz: calibrate the board's oscillator",
        )
    return Check(
        name="servos",
        level=Level.OK,
        text=f"PCA9685 at 0x{facts.address:02x} by its registers, "
        f"{len(driven)} channels driven",
        figures=figures,
        origin=origin,
    )


def check_battery(rig: Rig, limits: dict[str, Any], *, max_age_s: float) -> Check:
    """Grade the battery's voltage a cell."""
    origin = rig.origin
    if rig.battery is None:
        return Check(
            name="battery",
            level=Level.UNKNOWN,
            text="there is no battery gauge on this rig",
            origin=origin,
            hint="add an INA219 in the supply, address 0x41 or above",
        )
    try:
        reading = rig.battery.read()
    except ContinuonError as error:
        return _failed("battery", error, origin)
    cell_v = reading.volts / limits["cells"]
    level = grade(
        cell_v,
        Limits(
            warn=limits["warn_below_cell_v"],
            critical=limits["critical_below_cell_v"],
            above=False,
        ),
    )
    figures: dict[str, Any] = {"battery_v": round(reading.volts, 3)}
    if reading.amps is not None:
        figures["battery_a"] = round(reading.amps, 3)
    if reading.fraction is not None:
        figures["battery_fraction"] = round(reading.fraction, 3)
    return Check(
        name="battery",
        level=_aged(rig, level, reading.capture_ns, max_age_s),
        text=f"{reading.volts:.2f} V, {cell_v:.2f} V a cell",
        figures=figures,
        origin=origin,
        hint=None if level is Level.OK else "charge the battery",
    )


def check_thermal(rig: Rig, limits: dict[str, Any], *, max_age_s: float) -> Check:
    """Grade the SoC's temperature and the firmware's flags of now."""
    origin = rig.origin
    if rig.thermal is None:
        return Check(
            name="thermal",
            level=Level.UNKNOWN,
            text="there is no thermometer on this rig",
            origin=origin,
            hint="run this on the robot itself",
        )
    try:
        reading = rig.thermal.read()
    except ContinuonError as error:
        return _failed("thermal", error, origin)
    bounds = Limits(
        warn=limits["warn_above_celsius"],
        critical=limits["critical_above_celsius"],
        above=True,
    )
    flagged = reading.throttled or reading.under_voltage
    level = worst(
        [grade(reading.celsius, bounds), Level.CRITICAL if flagged else Level.OK]
    )
    words = [f"{reading.celsius:.1f} C"]
    words += ["throttled now"] if reading.throttled else []
    words += ["under-voltage now"] if reading.under_voltage else []
    return Check(
        name="thermal",
        level=_aged(rig, level, reading.capture_ns, max_age_s),
        text=", ".join(words),
        figures={
            "thermal_celsius": round(reading.celsius, 2),
            "thermal_throttled": reading.throttled,
            "thermal_under_voltage": reading.under_voltage,
        },
        origin=origin,
        hint="use a 5 V 5 A supply and short cables"
        if reading.under_voltage
        else None
        if level is Level.OK
        else "add cooling and wait",
    )


def _aged(rig: Rig, level: Level, capture_ns: int, max_age_s: float) -> Level:
    age_s = (rig.clock.monotonic_ns() - capture_ns) / 1e9
    return worst([level, Level.STALE]) if age_s > max_age_s else level


def _failed(name: str, error: ContinuonError, origin: str) -> Check:
    return Check(
        name=name,
        level=Level.UNKNOWN,
        text=str(error),
        origin=origin,
        hint=error.hint,
    )
