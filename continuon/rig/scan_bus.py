"""What answers on one I2C bus, and what is likely wrong there. Nothing is written."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from continuon.clock import Clock
from continuon.errors import HardwareError, MissingPackageError
from continuon.rig.found import Found, ask
from continuon.rig.gauges import INA219_ADDRESSES
from continuon.rig.i2c import I2cBus
from continuon.rig.ina219 import Ina219
from continuon.rig.max17048 import Max17048
from continuon.rig.pca9685 import Pca9685Servos

__all__ = ["scan_bus"]

SERVO_ADDRESS, ALL_CALL = 0x40, 0x70
FIRST_ADDRESS, LAST_ADDRESS = 0x08, 0x77  # outside are the reserved ones

# What usually sits there, by address alone; nothing of it is checked.
_USUAL: Mapping[int, str] = {
    0x0B: "a smart battery",
    0x20: "an MCP23017 port expander",
    0x28: "a BNO055 orientation sensor",
    0x29: "a VL53L0X or TCS34725 light sensor",
    0x2D: "the microcontroller of an UPS board",
    0x3C: "an SSD1306 display",
    0x48: "an ADS1115 converter",
    0x4A: "a BNO08x orientation sensor",
    0x50: "the EEPROM of an extension board",
    0x68: "an MPU-6050, ICM-20948 or DS3231 clock",
    0x69: "an MPU-6050 or ICM-20948",
    0x76: "a BME280 weather sensor",
}


def scan_bus(
    path: str, clock: Clock, connect: Callable[[str], Any] | None = None
) -> list[Found]:
    """Ask every address, then each chip that a driver exists for.

    Args:
        path: of the adapter.
        clock: stamps gauge readings.
        connect: opens it; smbus2 when None.
    """
    bus = I2cBus(path, connect=connect)
    try:
        try:
            there = [
                address
                for address in range(FIRST_ADDRESS, LAST_ADDRESS + 1)
                if bus.answers(address)
            ]
        except (HardwareError, MissingPackageError) as error:
            return [
                Found(
                    kind="i2c",
                    where=path,
                    present=False,
                    detail=str(error),
                    hint=error.hint,
                )
            ]
        addresses = ", ".join(f"0x{address:02x}" for address in there) or "nobody"
        found = [
            Found(
                kind="i2c",
                where=path,
                present=True,
                detail=f"{addresses} of 112 addresses answers",
                hint=None if there else "no chip has power, or SDA and SCL are swapped",
            )
        ]
        if not there:
            return found
        found.append(_servo_board(bus, clock, there=SERVO_ADDRESS in there))
        found += _gauges(bus, clock, there)
        found += _others(path, there, found)
        return found
    finally:
        bus.close()


def _servo_board(bus: I2cBus, clock: Clock, *, there: bool) -> Found:
    """Say whether the servo board answers, and who else might."""
    where = f"{bus.path} 0x{SERVO_ADDRESS:02x}"

    def question() -> str:
        facts = Pca9685Servos(bus, limits_us={}).probe()
        state = "drives" if facts.awake else "sleeps"
        return f"{state}, {facts.frequency_hz:.1f} Hz by a nominal oscillator"

    found = ask("pca9685", where, question)
    if found.present or not there:
        return found
    intruder = Ina219(bus, clock=clock, address=SERVO_ADDRESS)
    gauge = ask("ina219", where, lambda: _volts(intruder))
    if gauge.present:
        return Found(
            kind="pca9685",
            where=where,
            present=False,
            detail=f"an INA219 battery gauge answers here instead: {gauge.detail}",
            hint="solder the gauge's A0 jumper, which moves it to 0x41; then look "
            "whether the servo board has its 3.3 V",
        )
    return Found(
        kind="pca9685",
        where=where,
        present=False,
        detail=found.detail,
        hint="two chips at one address answer over each other: servo board and INA219 "
        "are both at 0x40 as delivered; solder the gauge's A0 jumper (0x41)",
    )


def _gauges(bus: I2cBus, clock: Clock, there: list[int]) -> list[Found]:
    gauges: list[tuple[str, Ina219 | Max17048]] = [
        ("ina219", Ina219(bus, clock=clock, address=at)) for at in INA219_ADDRESSES
    ]
    gauges.append(("max17048", Max17048(bus, clock=clock)))
    found = [
        ask(kind, f"{bus.path} 0x{gauge.address:02x}", functools.partial(_volts, gauge))
        for kind, gauge in gauges
        if gauge.address in there
    ]
    if not any(each.present for each in found):
        found.append(
            Found(
                kind="battery",
                where=bus.path,
                present=False,
                detail="no battery gauge answers (INA219 at 0x41..0x45, MAX17048 at "
                "0x36)",
                hint="without a gauge the battery's level is unknown, which is not OK",
            )
        )
    return found


def _volts(gauge: Ina219 | Max17048) -> str:
    gauge.probe()
    reading = gauge.read()
    words = [f"{reading.volts:.2f} V"]
    if reading.amps is not None:
        words.append(f"{reading.amps:.2f} A")
    assert reading.fraction is not None  # both kinds give a charge
    words.append(f"{100 * reading.fraction:.0f} %")
    return ", ".join(words)


def _others(path: str, there: list[int], named: list[Found]) -> list[Found]:
    """Return the addresses that no driver claims, with a guess."""
    claimed = {each.where for each in named if each.present}
    board = f"{path} 0x{SERVO_ADDRESS:02x}" in claimed
    found = []
    for address in there:
        where = f"{path} 0x{address:02x}"
        if where in {each.where for each in named}:
            continue
        guess = _USUAL.get(address, "an unknown chip")
        if address == ALL_CALL and board:
            guess = "the servo board's all-call address"
        found.append(
            Found(
                kind="unknown",
                where=where,
                present=True,
                detail=f"answers; by its address {guess}, which was not checked",
            )
        )
    return found
