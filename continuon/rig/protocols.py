"""What a robot's senses and outputs must offer, real, simulated or replayed alike.

A sample carries its own capture time: `capture_ns` in the host's monotonic timebase
(converted from the device's clock with a measured offset) and, where the device has a
clock of its own, the device's stamp beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import Clock, ClockOffset
from continuon.rig.calibration import CarCalibration

__all__ = [
    "DEPTH_UNIT_M",
    "Battery",
    "BatteryReading",
    "BufferedStateSensor",
    "Camera",
    "Frame",
    "Rig",
    "Servos",
    "StateSensor",
    "Thermal",
    "ThermalReading",
    "VectorSample",
]

DEPTH_UNIT_M = 0.001
"""Metres of a count of a frame's depth."""


@attrs.frozen(eq=False, kw_only=True)
class Frame:
    """One exposure of an RGB or RGB-D camera.

    Attributes:
        rgb: uint8 [height, width, 3], axes row, column, channel (red, green, blue).
        depth: uint16 [height, width] in millimetres, 0 where unknown; None if absent.
        capture_ns: start of exposure in the host's monotonic timebase.
        device_ns: the same instant on the camera's own clock.
        depth_capture_ns: start of the depth exposure, host timebase; None if absent.
        sequence: counts the camera's exposures, so that a drop is seen.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16] | None
    capture_ns: int
    device_ns: int
    sequence: int
    depth_capture_ns: int | None = None


@attrs.frozen(eq=False, kw_only=True)
class VectorSample:
    """One reading of several scalars: float32 [len(names)], units in the names."""

    values: NDArray[np.float32]
    capture_ns: int
    device_ns: int
    sequence: int


@attrs.frozen(kw_only=True)
class BatteryReading:
    """Supply at one instant.

    Attributes:
        volts: of the whole battery.
        amps: negative when discharging; None where not measured.
        fraction: charge in 0..1; None where not known.
        capture_ns: host timebase.
        cells: lithium cells in series; None where the driver cannot know.
    """

    volts: float
    amps: float | None
    fraction: float | None
    capture_ns: int
    cells: int | None = None


@attrs.frozen(kw_only=True)
class ThermalReading:
    """SoC temperature and the firmware's flags.

    Attributes:
        celsius: of the SoC.
        throttled, under_voltage: now.
        capture_ns: host timebase.
        throttled_since_boot, under_voltage_since_boot: at some time; never cleared.
    """

    celsius: float
    throttled: bool
    under_voltage: bool
    capture_ns: int
    throttled_since_boot: bool = False
    under_voltage_since_boot: bool = False


@runtime_checkable
class Camera(Protocol):
    """A source of frames. `poll` never blocks; the newest unseen frame wins.

    `has_depth` is whether its frames carry depth.
    """

    name: str
    width: int
    height: int
    rate_hz: float
    has_depth: bool

    def open(self) -> None:
        """Start the stream and check the delivered format against the asked one."""
        ...

    def poll(self) -> Frame | None:
        """Return the newest frame not yet returned, or None if there is none."""
        ...

    def clock_offset(self) -> ClockOffset:
        """Return the measured map from the camera's clock to the host's."""
        ...

    def close(self) -> None:
        """Stop the stream; may be called twice."""
        ...


@runtime_checkable
class StateSensor(Protocol):
    """A source of the robot's own state (proprioception)."""

    names: tuple[str, ...]
    rate_hz: float

    def poll(self) -> VectorSample | None:
        """Return the newest sample not yet returned, or None if there is none."""
        ...

    def clock_offset(self) -> ClockOffset:
        """Return the measured map from the sensor's clock to the host's."""
        ...


@runtime_checkable
class BufferedStateSensor(StateSensor, Protocol):
    """A state sensor that keeps what was not polled yet, for a recorder to have all."""

    def drain(self) -> tuple[VectorSample, ...]:
        """Return every sample not yet returned, oldest first (the last 256 at most)."""
        ...


@runtime_checkable
class Servos(Protocol):
    """PWM outputs. Only the guard process holds one on a live robot."""

    def set_pulses_us(self, pulses_us: Mapping[int, float]) -> None:
        """Drive channels with pulses of so many microseconds, in one bus write."""
        ...

    def read_pulses_us(self) -> Mapping[int, float]:
        """Read back what each channel puts out; 0.0 is off."""
        ...

    def full_off(self) -> None:
        """Stop every output, provably (ALL_LED full-off); never sleeps the chip."""
        ...


@runtime_checkable
class Battery(Protocol):
    """A power gauge."""

    def read(self) -> BatteryReading:
        """Return a fresh reading; raises HardwareError when it cannot."""
        ...


@runtime_checkable
class Thermal(Protocol):
    """The SoC's thermometer."""

    def read(self) -> ThermalReading:
        """Return a fresh reading; raises HardwareError when it cannot."""
        ...


class Rig(Protocol):
    """Everything that a robot body offers. An absent part is None, never a fake.

    Attributes:
        name: what a person calls it.
        origin: "real", "simulated" or "replayed"; stands in every file made from it.
        clock: the host's clock. On the virtual-time rig, sleeping moves the world.
        calibration: end points of the outputs and the servo board's oscillator.
    """

    name: str
    origin: str
    clock: Clock
    calibration: CarCalibration
    camera: Camera | None
    state: StateSensor | None
    servos: Servos | None
    battery: Battery | None
    thermal: Thermal | None

    def close(self) -> None:
        """Stop outputs and release devices; may be called twice."""
        ...
