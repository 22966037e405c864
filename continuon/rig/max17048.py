"""The MAX17048 and MAX17049 charge gauges (Maxim 19-6171): volts and charge.

The chip follows the cell with a model of its own, so its charge is measured where a
voltage divider's is only estimated.
"""

from __future__ import annotations

from continuon.clock import Clock
from continuon.errors import HardwareError
from continuon.rig.i2c import I2cBus
from continuon.rig.protocols import BatteryReading

__all__ = ["Max17048"]

ADDRESS = 0x36
VCELL, SOC, VERSION = 0x02, 0x04, 0x08
CELL_LSB_V = 78.125e-6
SOC_LSB = 1.0 / 25600.0  # 1/256 of a percent
PRODUCTION = 0x0010


class Max17048:
    """A battery behind a MAX17048 (one cell) or MAX17049 (two in series).

    Args:
        bus: adapter number, device path, or an `I2cBus`.
        clock: stamps the readings.
        cells: lithium cells in series; the chip reports volts a cell.
        address: always 0x36.
    """

    def __init__(
        self,
        bus: int | str | I2cBus,
        *,
        clock: Clock,
        cells: int = 1,
        address: int = ADDRESS,
    ) -> None:
        self.bus = bus if isinstance(bus, I2cBus) else I2cBus(bus)
        self.clock = clock
        self.cells = cells
        self.address = address

    def probe(self) -> None:
        """Check by its version register who answers, without changing anything.

        Raises:
            HardwareError: nobody answers, or another chip.
        """
        version = self._word(VERSION)
        if version & 0xFFF0 != PRODUCTION:
            raise HardwareError(
                "E-RIG-MAX-001",
                "what answers here is not a MAX17048",
                where=self._where,
                seen=f"version 0x{version:04x}",
                allowed="0x001x",
            )

    def read(self) -> BatteryReading:
        """Return volts of the whole battery and the measured charge.

        Raises:
            HardwareError: nobody answers, or the reading is impossible.
        """
        cell_v = self._word(VCELL) * CELL_LSB_V
        fraction = self._word(SOC) * SOC_LSB
        if not 2.0 <= cell_v <= 5.0 or fraction > 1.3:
            raise HardwareError(
                "E-RIG-MAX-002",
                "the charge gauge gives an impossible reading",
                where=self._where,
                seen=f"{cell_v:.2f} V a cell, {100 * fraction:.0f} %",
                allowed="2..5 V a cell, at most 130 %",
                hint="check that the battery is plugged in; the chip needs a second "
                "after that",
            )
        return BatteryReading(
            volts=cell_v * self.cells,
            amps=None,
            fraction=min(fraction, 1.0),
            capture_ns=self.clock.monotonic_ns(),
            cells=self.cells,
        )

    @property
    def _where(self) -> str:
        return f"{self.bus.path} address 0x{self.address:02x}"

    def _word(self, register: int) -> int:
        return self.bus.read_word(self.address, register)
