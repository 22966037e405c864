"""A car on a Raspberry Pi: servo board, battery gauge, camera, thermometer."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from continuon.clock import Clock, SystemClock
from continuon.errors import HardwareError
from continuon.rig.calibration import CarCalibration
from continuon.rig.camera_picamera2 import Picamera2Camera
from continuon.rig.i2c import I2cBus
from continuon.rig.ina219 import Ina219
from continuon.rig.pca9685 import Pca9685Servos
from continuon.rig.protocols import StateSensor
from continuon.rig.thermal import SysfsThermal

__all__ = ["PiRig"]

GAUGE_ADDRESSES = (0x41, 0x42, 0x43, 0x44, 0x45)


class PiRig:
    """The devices that are there; each is looked for at its first use.

    Args:
        calibration: measured on this car.
        bus: I2C adapter number or path.
        width, height, rate_hz: of the camera.
        clock: the host's.
        sys: root of sysfs.
        connect: opens an I2C path; smbus2 when None.
        open_camera: makes the picamera2 object; its own class when None.
    """

    origin = "real"

    def __init__(
        self,
        *,
        calibration: CarCalibration | None = None,
        bus: int | str = 1,
        width: int = 640,
        height: int = 480,
        rate_hz: float = 30.0,
        clock: Clock | None = None,
        sys: Path = Path("/sys"),
        connect: Callable[[str], Any] | None = None,
        open_camera: Callable[[], Any] | None = None,
    ) -> None:
        self.name = "pi"
        self.clock: Clock = SystemClock() if clock is None else clock
        self.calibration = CarCalibration() if calibration is None else calibration
        self.state: StateSensor | None = None
        self._bus = I2cBus(bus, connect=connect)
        self._size = (width, height, rate_hz)
        self._sys = sys
        self._open_camera = open_camera

    @functools.cached_property
    def camera(self) -> Picamera2Camera | None:
        """The camera, or None where picamera2 is not installed."""
        if self._open_camera is None and importlib.util.find_spec("picamera2") is None:
            return None
        width, height, rate_hz = self._size
        return Picamera2Camera(
            clock=self.clock,
            width=width,
            height=height,
            rate_hz=rate_hz,
            open_camera=self._open_camera,
        )

    @functools.cached_property
    def servos(self) -> Pca9685Servos | None:
        """The servo board, or None where nothing answers at its address."""
        servos = Pca9685Servos(
            self._bus,
            limits_us=self.calibration.limits_us,
            oscillator_hz=self.calibration.oscillator_hz,
        )
        return servos if self._answers(servos.address) else None

    @functools.cached_property
    def battery(self) -> Ina219 | None:
        """The battery gauge, or None where none answers."""
        for address in GAUGE_ADDRESSES:
            if self._answers(address):
                return Ina219(self._bus, clock=self.clock, address=address)
        return None

    @functools.cached_property
    def thermal(self) -> SysfsThermal | None:
        """The SoC's thermometer, or None where sysfs has none."""
        if not (self._sys / "class/thermal/thermal_zone0/temp").exists():
            return None
        return SysfsThermal(clock=self.clock, sys=self._sys)

    def close(self) -> None:
        """Stop outputs and release devices; may be called twice."""
        parts = self.__dict__
        try:
            if parts.get("camera") is not None:
                parts["camera"].close()
        finally:
            try:
                if parts.get("servos") is not None:
                    parts["servos"].close()
            finally:
                self._bus.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _answers(self, address: int) -> bool:
        """Tell whether a device acknowledges; an unusable adapter has no devices."""
        try:
            self._bus.read(address, 0, 1)
        except HardwareError:
            return False
        return True
