"""The simulated servo board and battery gauge behind the real drivers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from continuon.clock import Clock
from continuon.rig.calibration import CarCalibration
from continuon.rig.i2c import I2cBus
from continuon.rig.ina219 import Ina219
from continuon.rig.pca9685 import Pca9685Servos
from continuon.sim import bus as sim_bus
from continuon.sim.chips import Pca9685Chip
from continuon.sim.gauges import Ina219Chip

__all__ = ["Board", "draw_oscillator"]

_NUMBERS = itertools.count()


def draw_oscillator(seed: int) -> tuple[float, float]:
    """Return a board's true oscillator and what a calibration measured of it, in Hz."""
    rng = np.random.default_rng([seed, 0xB0A4D])
    true_hz = float(rng.uniform(24.2e6, 26.4e6))
    return true_hz, true_hz * (1.0 + float(rng.normal(0.0, 0.001)))


class Board:
    """One simulated bus with a PCA9685 and an INA219, and their real drivers.

    Args:
        chip: the servo board's chip.
        calibration: what the drivers believe.
        clock: stamps battery readings.
        volts, amps: the supply now.
        sleep_s: how the servo driver waits.
        faults: fault script of the bus.
    """

    def __init__(
        self,
        chip: Pca9685Chip,
        calibration: CarCalibration,
        *,
        clock: Clock,
        volts: Callable[[], float],
        amps: Callable[[], float],
        sleep_s: Callable[[float], None],
        faults: Callable[[int, Sequence[sim_bus.Message]], None] | None = None,
    ) -> None:
        self.chip = chip
        gauge = Ina219Chip(volts=volts, amps=amps)
        path = f"/dev/i2c-sim-{next(_NUMBERS)}"
        self.bus = sim_bus.SimulatedBus(path, [chip, gauge], faults=faults)
        self.i2c = I2cBus(
            path,
            connect=lambda _: sim_bus.connect(self.bus),
            now_ns=clock.monotonic_ns,
        )
        self.servos = Pca9685Servos(
            self.i2c,
            limits_us=calibration.limits_us,
            oscillator_hz=calibration.oscillator_hz,
            sleep_s=sleep_s,
        )
        self.battery = Ina219(self.i2c, clock=clock)

    def close(self) -> None:
        """Stop driven outputs and release the bus; may be called twice."""
        try:
            self.servos.close()
        finally:
            self.i2c.close()
