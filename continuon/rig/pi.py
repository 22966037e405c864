"""A car on a Raspberry Pi: servo board, battery gauge, camera, thermometer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from continuon.clock import Clock, SystemClock
from continuon.errors import DataError, HardwareError
from continuon.home import Home
from continuon.rig.calibration import CarCalibration
from continuon.rig.calibration_record import load_calibration
from continuon.rig.camera_picamera2 import Picamera2Camera
from continuon.rig.cameras import CameraKind, CameraWish, find_camera
from continuon.rig.gauges import find_gauge
from continuon.rig.i2c import I2cBus
from continuon.rig.origin import machine_origin
from continuon.rig.pca9685 import Pca9685Servos
from continuon.rig.protocols import Battery, Camera, StateSensor
from continuon.rig.thermal import SysfsThermal

__all__ = ["PiRig"]

Part = TypeVar("Part")


class PiRig:
    """The devices that are there; each is looked for at its first use.

    Args:
        calibration: measured on this car; the stored record when None, and the nominal
            values where nothing was ever stored.
        bus: I2C adapter number or path.
        camera: which camera driver; "auto" takes the best that is there.
        width, height, rate_hz: of the camera.
        clock: the host's.
        home: where the calibration is stored; from the environment when None.
        dev: root of device nodes.
        sys: root of sysfs.
        connect: opens an I2C path; smbus2 when None.
        open_camera: makes the picamera2 object; its own class when None.

    Attributes:
        reasons: why a part that was looked for is absent, by its name.
    """

    state: StateSensor | None = None

    def __init__(
        self,
        *,
        calibration: CarCalibration | None = None,
        bus: int | str = 1,
        camera: CameraKind = "auto",
        width: int = 640,
        height: int = 480,
        rate_hz: float = 30.0,
        clock: Clock | None = None,
        home: Home | None = None,
        dev: Path = Path("/dev"),
        sys: Path = Path("/sys"),
        connect: Callable[[str], Any] | None = None,
        open_camera: Callable[[], Any] | None = None,
    ) -> None:
        self.name = "pi"
        self.clock: Clock = SystemClock() if clock is None else clock
        self.reasons: dict[str, str] = {}
        self._calibration = calibration
        self._home = home
        self._bus = I2cBus(bus, connect=connect)
        self._wish = CameraWish(
            kind=camera, width=width, height=height, rate_hz=rate_hz
        )
        self._dev, self._sys = dev, sys
        self._open_camera = open_camera

    @property
    def origin(self) -> str:
        """The label of everything that is made with this rig."""
        return machine_origin()

    @functools.cached_property
    def calibration(self) -> CarCalibration:
        """The given calibration, else the stored one, else the nominal values.

        Raises:
            DataError: a stored record is damaged; nothing is driven by a guess then.
        """
        if self._calibration is not None:
            return self._calibration
        home = Home.from_environment() if self._home is None else self._home
        stored = load_calibration(home)
        return CarCalibration() if stored is None else stored

    @functools.cached_property
    def camera(self) -> Camera | None:
        """The camera, or None where there is none."""
        if self._open_camera is not None:
            wish = self._wish
            return Picamera2Camera(
                clock=self.clock,
                width=wish.width,
                height=wish.height,
                rate_hz=wish.rate_hz,
                open_camera=self._open_camera,
            )
        return self._look(
            "camera",
            lambda: find_camera(self._wish, self.clock, sys=self._sys, dev=self._dev),
        )

    @functools.cached_property
    def servos(self) -> Pca9685Servos | None:
        """The servo board, or None where nothing answers at its address.

        With a damaged calibration it can be stopped and read, and no channel be driven.
        """
        try:
            calibration = self.calibration
            limits_us = calibration.limits_us
        except DataError as error:
            self.reasons["calibration"] = str(error)
            calibration, limits_us = CarCalibration(), {}

        def look() -> Pca9685Servos:
            servos = Pca9685Servos(
                self._bus,
                limits_us=limits_us,
                oscillator_hz=calibration.oscillator_hz,
            )
            self._bus.read(servos.address, 0, 1)
            return servos

        return self._look("servos", look)

    @functools.cached_property
    def battery(self) -> Battery | None:
        """The battery gauge, or None where none answers."""
        return self._look("battery", lambda: find_gauge(self._bus, self.clock))

    @functools.cached_property
    def thermal(self) -> SysfsThermal | None:
        """The SoC's thermometer, or None where sysfs has none."""
        if not (self._sys / "class/thermal/thermal_zone0/temp").exists():
            self.reasons["thermal"] = "sysfs has no thermal zone"
            return None
        return SysfsThermal(clock=self.clock, sys=self._sys)

    def look_again(self, part: str) -> None:
        """Forget what was found of a part, or why it is absent: its next use looks."""
        self.__dict__.pop(part, None)
        self.reasons.pop(part, None)

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

    def _look(self, name: str, look: Callable[[], Part]) -> Part | None:
        """Return the part, or None with the reason kept."""
        try:
            return look()
        except HardwareError as error:
            self.reasons[name] = str(error)
            return None
