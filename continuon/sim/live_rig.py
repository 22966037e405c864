"""A process's view of a live world, behind the rig protocols."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Sequence
from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import Clock, ClockOffset, SystemClock
from continuon.errors import HardwareError
from continuon.rig.calibration import CarCalibration
from continuon.rig.camera_faults import camera_gone
from continuon.rig.protocols import Frame, ThermalReading, VectorSample
from continuon.sim.board import Board, draw_oscillator
from continuon.sim.bus import Message
from continuon.sim.car import CarParameters
from continuon.sim.chips import Pca9685Chip
from continuon.sim.devices import STATE_NAMES
from continuon.sim.expert import Expert
from continuon.sim.shared import FRAME_SLOTS, STATE_SLOTS, SharedWorld, Truth
from continuon.sim.track import Track, TrackPosition, make_track

__all__ = ["LiveCamera", "LiveRig", "LiveState", "LiveWorld"]

NACK, STALL, RESET = 1, 2, 3
_OFFSET_LOOKS = 1000


class LiveCamera:
    """Frames out of the shared ring."""

    name = "camera"

    def __init__(self, shared: SharedWorld) -> None:
        self._shared = shared
        self.width, self.height = shared.width, shared.height
        self.rate_hz = float(shared.config["rate_hz"])
        self.has_depth = bool(shared.config["depth"])
        self._seen = -1

    def open(self) -> None:
        """Start the stream: frames from now on.

        Raises:
            HardwareError: the camera is unplugged.
        """
        self._check()

    def poll(self) -> Frame | None:
        """Return the newest frame not yet returned, or None if there is none.

        Raises:
            HardwareError: the camera is unplugged.
        """
        self._check()
        clock = self._shared.read_clock("camera")
        if clock is None:
            return None
        for newest in range(clock[0] - 1, max(self._seen, clock[0] - FRAME_SLOTS), -1):
            read = self._shared.read_frame(newest)
            if read is not None:
                self._seen = newest
                stamps, rgb, depth = read
                return Frame(
                    rgb=rgb,
                    depth=depth if stamps[2] else None,
                    capture_ns=stamps[0],
                    device_ns=stamps[1],
                    sequence=stamps[3],
                    depth_capture_ns=stamps[2] or None,
                )
        return None

    def clock_offset(self) -> ClockOffset:
        """Return the measured map from the camera's clock to the host's."""
        return _offset(self._shared, "camera")

    def close(self) -> None:
        """Stop the stream; may be called twice."""

    def _check(self) -> None:
        if self._shared.read_control().unplugged:
            raise camera_gone(self.name)


class LiveState:
    """Readings out of the shared ring."""

    names = STATE_NAMES

    def __init__(self, shared: SharedWorld) -> None:
        self._shared = shared
        self.rate_hz = float(shared.config["state_rate_hz"])
        self._seen = -1

    def poll(self) -> VectorSample | None:
        """Return the newest reading not yet returned, or None if there is none."""
        samples = self._after(last_only=True)
        return samples[-1] if samples else None

    def drain(self) -> tuple[VectorSample, ...]:
        """Return every reading not yet returned, oldest first."""
        return self._after(last_only=False)

    def clock_offset(self) -> ClockOffset:
        """Return the measured map from the sensor's clock to the host's."""
        return _offset(self._shared, "state")

    def _after(self, *, last_only: bool) -> tuple[VectorSample, ...]:
        clock = self._shared.read_clock("state")
        if clock is None:
            return ()
        first = max(self._seen + 1, clock[0] - STATE_SLOTS + 8)
        if last_only:
            first = max(first, clock[0] - 1)
        samples = []
        for index in range(first, clock[0]):
            fields = self._shared.read_state(index)
            if fields is not None:
                samples.append(
                    VectorSample(
                        values=np.array(fields[3:], np.float32),
                        capture_ns=fields[0],
                        device_ns=fields[1],
                        sequence=fields[2],
                    )
                )
        self._seen = clock[0] - 1
        return tuple(samples)


class LiveWorld:
    """The ground truth, as the world last published it (see `sim.World`)."""

    def __init__(self, shared: SharedWorld) -> None:
        self._shared = shared
        self.track: Track = make_track(int(shared.config["track_seed"]))
        self.parameters = CarParameters()

    @property
    def truth(self) -> Truth:
        """The newest one, all of one instant."""
        truth = self._shared.read_truth()
        assert truth is not None  # written before the handle was given out
        return truth

    @property
    def pose(self) -> tuple[float, float, float]:
        """x_m, y_m, heading_rad."""
        truth = self.truth
        return truth.x_m, truth.y_m, truth.heading_rad

    @property
    def x_m(self) -> float:
        """Ground truth x."""
        return self.truth.x_m

    @property
    def y_m(self) -> float:
        """Ground truth y."""
        return self.truth.y_m

    @property
    def speed_mps(self) -> float:
        """Forward speed."""
        return self.truth.speed_mps

    @property
    def position(self) -> TrackPosition:
        """Place relative to the centre line."""
        truth = self.truth
        return TrackPosition(
            s_m=truth.s_m,
            lateral_m=truth.lateral_error_m,
            heading_rad=truth.track_heading_rad,
            curvature_per_m=truth.curvature_per_m,
        )

    @property
    def lateral_error_m(self) -> float:
        """Distance from the centre line, positive to its left."""
        return self.truth.lateral_error_m

    @property
    def on_lane(self) -> bool:
        """Whether the rear axle's middle is between the lane lines."""
        return abs(self.truth.lateral_error_m) <= 0.5 * self.track.lane_width_m

    @property
    def progress_m(self) -> float:
        """Along the centre line since the start."""
        return self.truth.progress_m

    @property
    def laps(self) -> float:
        """Progress in laps."""
        return self.truth.progress_m / self.track.length_m


@attrs.frozen
class _LiveThermal:
    shared: SharedWorld
    clock: Clock

    def read(self) -> ThermalReading:
        """Return what the control block says, or a mild 52 degrees."""
        celsius = self.shared.read_control().celsius
        celsius = 52.0 if math.isnan(celsius) else celsius
        return ThermalReading(
            celsius=celsius,
            throttled=celsius >= 85.0,
            under_voltage=False,
            capture_ns=self.clock.monotonic_ns(),
        )


class LiveRig:
    """A simulated car in real time; made by `sim.live.attach`."""

    origin = "simulated"

    def __init__(self, shared: SharedWorld) -> None:
        self._shared = shared
        config = shared.config
        self.name = f"sim-{config['track_seed']}-{config['seed']}-live"
        self.track_seed = int(config["track_seed"])
        self.clock: Clock = SystemClock()
        true_hz, measured_hz = draw_oscillator(int(config["seed"]))
        self.calibration = CarCalibration(oscillator_hz=measured_hz)
        self.world = LiveWorld(shared)
        self.chip = Pca9685Chip(shared.chip, oscillator_hz=true_hz, fresh=False)
        self._board = Board(
            self.chip,
            self.calibration,
            clock=self.clock,
            volts=self._volts,
            amps=self._amps,
            sleep_s=time.sleep,
            faults=self._bus_faults,
        )
        self.bus = self._board.bus
        self.servos = self._board.servos
        self.battery = self._board.battery
        self.camera = LiveCamera(shared)
        self.state = LiveState(shared)
        self.thermal = _LiveThermal(shared, self.clock)
        self._expert = Expert()
        self._closed = False

    def expert(self, noise: float | None = None) -> NDArray[np.float32]:
        """Return the privileged driver's intention, float32 [steering, throttle].

        `noise` sets the disturbance's amplitude in the plant from now on.
        """
        if noise is not None:
            control = self._shared.read_control()
            if control.disturbance != noise:
                self._shared.write_control(attrs.evolve(control, disturbance=noise))
        return self._expert.action(self.world)

    def close(self) -> None:
        """Stop outputs that this process drove and unmap; may be called twice."""
        if not self._closed:
            self._closed = True
            try:
                self._board.close()
            finally:
                self._shared.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _volts(self) -> float:
        asked_v = self._shared.read_control().battery_v
        return 8.1 + 0.05 * self._amps() if math.isnan(asked_v) else asked_v

    def _amps(self) -> float:
        truth = self._shared.read_truth()
        # On a starved machine the world may be held in the middle of writing it.
        return -0.7 - (2.5 * abs(truth.motor) if truth is not None else 0.0)

    def _bus_faults(self, _number: int, _messages: Sequence[Message]) -> None:
        control = self._shared.read_control()
        fault = control.bus_fault
        if fault == RESET:
            self.chip.power_on()
            self._shared.write_control(attrs.evolve(control, bus_fault=0))
        if fault == NACK:
            raise OSError(errno.EREMOTEIO, os.strerror(errno.EREMOTEIO))
        if fault == STALL:
            time.sleep(self.bus.hang_s)
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def _offset(shared: SharedWorld, which: str) -> ClockOffset:
    # Written before the handle was given out, but a starved world may be held
    # in the middle of writing it again.
    for _ in range(_OFFSET_LOOKS):
        clock = shared.read_clock("camera" if which == "camera" else "state")
        if clock is not None:
            break
        time.sleep(0.002)
    else:
        raise HardwareError(
            "E-SIM-LIVE-005",
            "the live world stands in the middle of a word",
            where=shared.path,
            hint="its process is stopped or dead: start another",
        )
    return ClockOffset(
        device="camera" if which == "camera" else "chassis",
        offset_ns=clock[1],
        uncertainty_ns=clock[2],
        measured_at_ns=clock[3],
    )
