"""Checks of a rig's servo board, battery and thermometer."""

from __future__ import annotations

from typing import Any

from continuon.errors import ContinuonError
from continuon.health.levels import Level, regrade, worst
from continuon.health.report import Check
from continuon.health.thresholds import bounds
from continuon.rig.pca9685 import Pca9685Servos
from continuon.rig.protocols import BatteryReading, Rig, ThermalReading

__all__ = [
    "absent",
    "battery_check",
    "check_battery",
    "check_servos",
    "check_supply",
    "check_thermal",
]

NOMINAL_HZ = 25_000_000.0


def check_servos(rig: Rig, limits: dict[str, Any]) -> Check:
    """Read the servo board's registers back; nothing moves."""
    origin = rig.origin
    if rig.servos is None:
        return Check(
            name="servos",
            level=Level.UNKNOWN,
            text=absent(rig, "servos", "there is no servo board on this rig"),
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
        "i2c_retries": rig.servos.bus.retries,
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
    if origin == "real" and rig.servos.oscillator_hz == NOMINAL_HZ:
        return Check(
            name="servos",
            level=Level.WARN,
            text=f"PCA9685 at 0x{facts.address:02x}, its oscillator never measured",
            figures=figures,
            origin=origin,
            hint="pulses may be 8 % off: `continuon rig calibrate`",
        )
    return Check(
        name="servos",
        level=Level.OK,
        text=f"PCA9685 at 0x{facts.address:02x} by its registers, "
        f"{len(driven)} channels driven",
        figures=figures,
        origin=origin,
    )


def check_battery(
    rig: Rig,
    limits: dict[str, Any],
    *,
    max_age_s: float,
    before: Level | None = None,
) -> Check:
    """Grade the battery's voltage a cell."""
    origin = rig.origin
    if rig.battery is None:
        return Check(
            name="battery",
            level=Level.UNKNOWN,
            text=absent(rig, "battery", "there is no battery gauge on this rig"),
            origin=origin,
            hint="add an INA219 in the supply, address 0x41 or above",
        )
    try:
        reading = rig.battery.read()
    except ContinuonError as error:
        return _failed("battery", error, origin)
    return battery_check(
        reading,
        limits,
        origin=origin,
        age_s=(rig.clock.monotonic_ns() - reading.capture_ns) / 1e9,
        max_age_s=max_age_s,
        before=before,
    )


def battery_check(
    reading: BatteryReading,
    limits: dict[str, Any],
    *,
    origin: str,
    age_s: float,
    max_age_s: float,
    before: Level | None = None,
) -> Check:
    """Grade a reading that is `age_s` old by its voltage a cell."""
    cell_v = reading.volts / (reading.cells or limits["cells"])
    level = regrade(cell_v, bounds(limits, "cell_v", above=False), before=before)
    figures: dict[str, Any] = {"battery_v": round(reading.volts, 3)}
    if reading.amps is not None:
        figures["battery_a"] = round(reading.amps, 3)
    if reading.fraction is not None:
        figures["battery_fraction"] = round(reading.fraction, 3)
    return Check(
        name="battery",
        level=worst([level, Level.STALE]) if age_s > max_age_s else level,
        text=f"{reading.volts:.2f} V, {cell_v:.2f} V a cell"
        + (f", {reading.fraction:.0%} charged" if reading.fraction is not None else ""),
        figures=figures,
        origin=origin,
        hint=None if level is Level.OK else "charge the battery",
    )


def check_thermal(
    rig: Rig,
    limits: dict[str, Any],
    *,
    max_age_s: float,
    before: Level | None = None,
) -> Check:
    """Grade the SoC's temperature and the firmware's flags of now."""
    reading = _read_thermal(rig, "thermal")
    if isinstance(reading, Check):
        return reading
    flagged = reading.throttled or reading.under_voltage
    limit = bounds(limits, "celsius", above=True)
    level = worst(
        [
            regrade(reading.celsius, limit, before=before),
            Level.CRITICAL if flagged else Level.OK,
        ]
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
        origin=rig.origin,
        hint=_SUPPLY_HINT
        if reading.under_voltage
        else None
        if level is Level.OK
        else "add cooling and wait",
    )


def check_supply(rig: Rig, *, max_age_s: float) -> Check:
    """Grade the 5 V supply by the firmware's flags of now and since boot."""
    reading = _read_thermal(rig, "supply")
    if isinstance(reading, Check):
        return reading
    level, text = Level.OK, "no alarm since boot"
    if reading.under_voltage:
        level, text = Level.CRITICAL, "under-voltage now"
    elif reading.under_voltage_since_boot:
        level, text = Level.WARN, "under-voltage at some time since boot"
    elif reading.throttled_since_boot:
        level, text = Level.WARN, "throttled at some time since boot"
    return Check(
        name="supply",
        level=_aged(rig, level, reading.capture_ns, max_age_s),
        text=text,
        figures={"supply_alarm_since_boot": level is not Level.OK},
        origin=rig.origin,
        hint=None if level is Level.OK else _SUPPLY_HINT,
    )


_SUPPLY_HINT = "use a 5 V 5 A supply and short cables"


def _read_thermal(rig: Rig, name: str) -> ThermalReading | Check:
    """Return the reading, or the check that says why there is none."""
    if rig.thermal is None:
        return Check(
            name=name,
            level=Level.UNKNOWN,
            text=absent(rig, "thermal", "there is no thermometer on this rig"),
            origin=rig.origin,
            hint="run this on the robot itself",
        )
    try:
        return rig.thermal.read()
    except ContinuonError as error:
        return _failed(name, error, rig.origin)


def absent(rig: Rig, part: str, words: str) -> str:
    """Return why a part is absent, where the rig kept a reason."""
    reasons: dict[str, str] = getattr(rig, "reasons", {})
    return f"{words}: {reasons[part]}" if part in reasons else words


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
