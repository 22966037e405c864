"""A whole robot in virtual time: waiting on its clock is what moves the world."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from continuon.clock import Clock
from continuon.errors import UsageError
from continuon.rig.calibration import CarCalibration
from continuon.sim.board import Board, draw_oscillator
from continuon.sim.chips import Pca9685Chip
from continuon.sim.devices import SimCamera, SimState, SimThermal
from continuon.sim.disturbance import Disturbance
from continuon.sim.expert import Expert
from continuon.sim.observe import step_observed
from continuon.sim.raycast import CameraModel, Renderer
from continuon.sim.track import make_track
from continuon.sim.world import Start, World, draw_start

__all__ = ["SimRig", "VirtualClock"]

START_NS = 1_000_000_000_000
START_WALL_NS = 1_700_000_000_000_000_000


class VirtualClock:
    """The rig's clock: `sleep_until_ns` steps the world to the deadline at once."""

    def __init__(self, rig: SimRig) -> None:
        self._rig = rig
        self._now_ns = START_NS

    def monotonic_ns(self) -> int:
        """Return virtual nanoseconds."""
        return self._now_ns

    def wall_ns(self) -> int:
        """Return virtual Unix time; it starts on a fixed day."""
        return START_WALL_NS + self._now_ns - START_NS

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Move the world to the deadline; a past deadline does nothing."""
        if deadline_ns > self._now_ns:
            self._rig.advance(deadline_ns)
            self._now_ns = deadline_ns


class SimRig:
    """A small car on a track drawn by seed, behind the rig protocols.

    Servos are the real PCA9685 driver over the real smbus2 on a simulated chip; camera
    and state have clocks of their own, jitter and latency. Everything is a function of
    the arguments and of what is written to the servos.

    Args:
        seed: of start, clocks, noise and disturbance.
        width, height: of the camera in pixels.
        track_seed: of track and looks; `seed` when None.
        start: a place, a share of the track's length in 0..1, or None for a place at a
            bend drawn by seed.
        depth: whether frames carry depth.
        disturbance: largest push on the steering (see `Disturbance`), 0 for none.
        rate_hz: of the camera.
        state_rate_hz: of the state sensor.
    """

    origin = "simulated"

    def __init__(
        self,
        seed: int = 0,
        *,
        width: int = 640,
        height: int = 480,
        track_seed: int | None = None,
        start: Start | float | None = None,
        disturbance: float = 0.0,
        depth: bool = True,
        rate_hz: float = 30.0,
        state_rate_hz: float = 100.0,
    ) -> None:
        self.seed = seed
        self.track_seed = seed if track_seed is None else track_seed
        self.name = f"sim-{self.track_seed}-{seed}"
        self.clock: Clock = VirtualClock(self)
        track = make_track(self.track_seed)
        if start is None:
            start = draw_start(track, seed)
        elif not isinstance(start, Start):
            start = Start(s_m=_share(start) * track.length_m)
        oscillator_hz, measured_hz = draw_oscillator(seed)
        self.calibration = CarCalibration(oscillator_hz=measured_hz)
        self.chip = Pca9685Chip(oscillator_hz=oscillator_hz, clock_s=self._chip_s)
        self.world = World(
            track,
            start,
            pulses_us=self.chip.pulses_us,
            time_ns=START_NS,
            disturbance=Disturbance(seed, disturbance),
        )
        self._board = Board(
            self.chip,
            self.calibration,
            clock=self.clock,
            volts=self._volts,
            amps=self._amps,
            sleep_s=self._chip_wait,
        )
        self.bus = self._board.bus
        self.servos = self._board.servos
        self.battery = self._board.battery
        model = CameraModel(width=width, height=height)
        self.camera = SimCamera(
            Renderer(self.track_seed, model, seed=seed),
            clock=self.clock,
            seed=seed,
            start_ns=START_NS,
            rate_hz=rate_hz,
            depth=depth,
        )
        self.state = SimState(
            clock=self.clock, seed=seed, start_ns=START_NS, rate_hz=state_rate_hz
        )
        self.thermal = SimThermal(self.clock, start_ns=START_NS)
        self._expert = Expert()
        self._waited_s = 0.0
        self._closed = False

    def expert(self, noise: float | None = None) -> NDArray[np.float32]:
        """Return the privileged driver's intention, float32 [steering, throttle].

        Args:
            noise: sets the disturbance's amplitude in steering units from now on. The
                push acts in the plant, so the returned action is what to command and
                to record.
        """
        if noise is not None:
            self.world.disturbance.amplitude = noise
        return self._expert.action(self.world)

    def advance(self, deadline_ns: int) -> None:
        """Step the world up to a host time, exposing and sampling on the way."""
        step_observed(self.world, self.camera, self.state, deadline_ns)

    def close(self) -> None:
        """Stop outputs and release devices; may be called twice."""
        if not self._closed:
            self._closed = True
            self.camera.close()
            self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _chip_s(self) -> float:
        return self.world_time_ns / 1e9 + self._waited_s

    def _chip_wait(self, seconds: float) -> None:
        # Waiting for the oscillator takes no virtual time worth a physics step.
        self._waited_s += seconds

    @property
    def world_time_ns(self) -> int:
        """Virtual time since the rig was made."""
        return self.clock.monotonic_ns() - START_NS

    def _volts(self) -> float:
        return 8.25 - 0.35 * (self.world_time_ns / 1e9) / 1800.0 + 0.05 * self._amps()

    def _amps(self) -> float:
        return -0.7 - 2.5 * abs(self.world.car.motor)


def _share(start: float) -> float:
    if not 0.0 <= start <= 1.0:
        raise UsageError(
            "E-SIM-START-001",
            "a start is not a share of the track",
            seen=start,
            allowed="0..1, or a Start in metres",
        )
    return float(start)
