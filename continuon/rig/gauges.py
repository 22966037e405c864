"""Which battery gauge hangs on a bus: found by what its registers say."""

from __future__ import annotations

from continuon.clock import Clock
from continuon.errors import HardwareError
from continuon.rig.i2c import I2cBus
from continuon.rig.ina219 import Ina219
from continuon.rig.max17048 import Max17048

__all__ = ["INA219_ADDRESSES", "find_gauge"]

# 0x40 belongs to the servo board, and higher ones to converters and orientation sensors
# whose registers can look like a gauge's. Battery boards use these.
INA219_ADDRESSES = tuple(range(0x41, 0x46))


def find_gauge(bus: I2cBus, clock: Clock) -> Ina219 | Max17048:
    """Return the first gauge that answers as itself.

    Raises:
        HardwareError: there is none; the last reason stands in it.
    """
    candidates: list[Ina219 | Max17048] = [Max17048(bus, clock=clock)]
    candidates += [Ina219(bus, clock=clock, address=at) for at in INA219_ADDRESSES]
    foreign: HardwareError | None = None
    for gauge in candidates:
        if not bus.answers(gauge.address):
            continue
        try:
            gauge.probe()
        except HardwareError as error:
            foreign = error
            continue
        return gauge
    if foreign is not None:
        raise foreign
    raise HardwareError(
        "E-RIG-GAUGE-001",
        "no battery gauge answers",
        where=bus.path,
        allowed="a MAX17048 at 0x36 or an INA219 at 0x41..0x45",
        hint="add a gauge in the supply, and move an INA219 away from 0x40, which is "
        "the servo board's address",
    )
