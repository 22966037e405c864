"""The INA219 voltage and current gauge of battery boards (TI data sheet SBOS448)."""

from __future__ import annotations

from continuon.clock import Clock
from continuon.errors import HardwareError
from continuon.rig.i2c import I2cBus
from continuon.rig.protocols import BatteryReading

__all__ = ["Ina219", "lipo_fraction"]

CONFIG, SHUNT_VOLTAGE, BUS_VOLTAGE = 0x00, 0x01, 0x02
SHUNT_LSB_V, BUS_LSB_V = 10e-6, 4e-3
MAX_BUS_V = 26.0
CONTINUOUS = 0x7  # mode: shunt and bus voltage, over and over
# Resting voltage of one lithium cell at 0, 10, .. 100 % of charge.
_CELL_V = (3.30, 3.62, 3.70, 3.74, 3.77, 3.80, 3.86, 3.93, 4.01, 4.09, 4.20)


def lipo_fraction(volts: float, cells: int) -> float:
    """Return charge in 0..1 from the resting voltage, by linear interpolation."""
    cell = volts / cells
    if cell <= _CELL_V[0]:
        return 0.0
    for index in range(1, len(_CELL_V)):
        low, high = _CELL_V[index - 1], _CELL_V[index]
        if cell <= high:
            return (index - 1 + (cell - low) / (high - low)) / (len(_CELL_V) - 1)
    return 1.0


class Ina219:
    """A battery behind an INA219.

    Args:
        bus: adapter number, device path, or an `I2cBus`.
        clock: stamps the readings.
        address: 0x40 to 0x4F; 0x40 is also the servo board's.
        shunt_ohm: of the board.
        cells: lithium cells in series.
    """

    def __init__(
        self,
        bus: int | str | I2cBus,
        *,
        clock: Clock,
        address: int = 0x41,
        shunt_ohm: float = 0.1,
        cells: int = 2,
    ) -> None:
        self.bus = bus if isinstance(bus, I2cBus) else I2cBus(bus)
        self.clock = clock
        self.address = address
        self.shunt_ohm = shunt_ohm
        self.cells = cells

    def probe(self) -> None:
        """Check by its registers who answers, without changing anything.

        Raises:
            HardwareError: nobody answers, or another chip.
        """
        config = self.bus.read_word(self.address, CONFIG)
        volts = (self.bus.read_word(self.address, BUS_VOLTAGE) >> 3) * BUS_LSB_V
        # Bit 15 resets and reads 0, bit 14 does not exist (SBOS448, table 3).
        if config & 0xC000 or volts > MAX_BUS_V:
            raise HardwareError(
                "E-RIG-INA-002",
                "what answers here is not an INA219",
                where=self._where,
                seen=f"configuration 0x{config:04x}, {volts:.1f} V",
                allowed=f"two zero bits on top, at most {MAX_BUS_V:g} V",
            )

    def read(self) -> BatteryReading:
        """Return voltage, current (negative: discharging) and estimated charge.

        Raises:
            HardwareError: nobody answers, the gauge is switched off, or the reading is
                impossible.
        """
        config = self.bus.read_word(self.address, CONFIG)
        if config & CONTINUOUS != CONTINUOUS:
            raise HardwareError(
                "E-RIG-INA-003",
                "the battery gauge does not measure all the time",
                where=self._where,
                seen=f"configuration 0x{config:04x}",
                allowed="mode 7",
                hint="another program set it up: power-cycle the gauge",
            )
        raw = self.bus.read_word(self.address, BUS_VOLTAGE)
        volts = (raw >> 3) * BUS_LSB_V
        if raw & 1 or not 0.5 <= volts <= MAX_BUS_V:
            raise HardwareError(
                "E-RIG-INA-001",
                "the battery gauge gives an impossible voltage",
                where=self._where,
                seen=f"{volts:.2f} V, overflow bit {raw & 1}",
                allowed=f"0.5..{MAX_BUS_V:g} V",
                hint="check that the battery is plugged in and the shunt's value",
            )
        shunt = self.bus.read_word(self.address, SHUNT_VOLTAGE)
        signed = shunt - 0x10000 if shunt & 0x8000 else shunt
        return BatteryReading(
            volts=volts,
            amps=signed * SHUNT_LSB_V / self.shunt_ohm,
            fraction=lipo_fraction(volts, self.cells),
            capture_ns=self.clock.monotonic_ns(),
            cells=self.cells,
        )

    @property
    def _where(self) -> str:
        return f"{self.bus.path} address 0x{self.address:02x}"
