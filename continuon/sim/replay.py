"""A rig whose camera shows recorded frames again, at the rate they were taken."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from continuon.clock import Clock, ClockOffset, ManualClock
from continuon.errors import DataError
from continuon.rig.calibration import CarCalibration
from continuon.rig.ina219 import Ina219
from continuon.rig.protocols import Frame, StateSensor, Thermal
from continuon.sim.board import Board, draw_oscillator
from continuon.sim.chips import Pca9685Chip

__all__ = ["ReplayCamera", "ReplayRig"]

Recorded = Sequence[tuple[int, bytes]]


class ReplayCamera:
    """Recorded frames, the first one when the stream is opened.

    Args:
        frames: (capture time in ns, encoded picture), ascending in time.
        decode: gives uint8 [height, width, 3] for an encoded picture.
        clock: the host's, real or virtual.
        loop: whether the recording starts again after its end.
    """

    name = "replay"
    has_depth = False

    def __init__(
        self,
        frames: Recorded,
        decode: Callable[[bytes], NDArray[np.uint8]],
        *,
        clock: Clock,
        loop: bool = False,
    ) -> None:
        if len(frames) < 2:
            raise DataError(
                "E-SIM-REPLAY-001",
                "a recording is too short to replay",
                seen=len(frames),
                allowed="2 frames or more",
            )
        self._stamps = [stamp - frames[0][0] for stamp, _ in frames]
        if any(b <= a for a, b in zip(self._stamps, self._stamps[1:], strict=False)):
            raise DataError("E-SIM-REPLAY-002", "recorded frames do not ascend in time")
        self._frames = frames
        self._decode = decode
        self._clock = clock
        self._loop = loop
        self._start_ns: int | None = None
        self._next = 0
        span_ns = self._stamps[-1]
        self.rate_hz = (len(frames) - 1) * 1e9 / span_ns
        self._length_ns = span_ns + round(1e9 / self.rate_hz)
        first = decode(frames[0][1])
        self.height, self.width = first.shape[0], first.shape[1]

    @property
    def finished(self) -> bool:
        """Whether the last frame has been shown."""
        return not self._loop and self._next >= len(self._frames)

    def open(self) -> None:
        """Start the recording now."""
        if self._start_ns is None:
            self._start_ns = self._clock.monotonic_ns()

    def poll(self) -> Frame | None:
        """Return the newest due frame not yet returned, or None."""
        self.open()
        assert self._start_ns is not None
        elapsed = self._clock.monotonic_ns() - self._start_ns
        rounds = elapsed // self._length_ns if self._loop else 0
        elapsed -= rounds * self._length_ns
        place = bisect.bisect_right(self._stamps, elapsed) - 1
        sequence = rounds * len(self._frames) + place
        if sequence < self._next:
            return None
        self._next = sequence + 1
        recorded_ns, blob = self._frames[place]
        shown_ns = self._stamps[place] + rounds * self._length_ns
        return Frame(
            rgb=self._decode(blob),
            depth=None,
            capture_ns=self._start_ns + shown_ns,
            device_ns=recorded_ns,
            sequence=sequence,
        )

    def clock_offset(self) -> ClockOffset:
        """Return the map from the recording's time; exact in its first round."""
        start_ns = self._start_ns or 0
        return ClockOffset(
            device=self.name,
            offset_ns=start_ns - self._frames[0][0],
            uncertainty_ns=0,
            measured_at_ns=start_ns,
        )

    def close(self) -> None:
        """Stop the stream; may be called twice."""


class ReplayRig:
    """Recorded sight, simulated servos, nothing else: absent parts are None.

    Args:
        frames, decode, loop: see `ReplayCamera`.
        clock: a `SystemClock` for live use; virtual time when None.
        seed: of the servo board.
    """

    origin = "replayed"
    state: StateSensor | None = None
    battery: Ina219 | None = None
    thermal: Thermal | None = None

    def __init__(
        self,
        frames: Recorded,
        decode: Callable[[bytes], NDArray[np.uint8]],
        *,
        clock: Clock | None = None,
        loop: bool = False,
        seed: int = 0,
    ) -> None:
        self.name = "replay"
        self.clock: Clock = ManualClock(1_000_000_000) if clock is None else clock
        self.camera = ReplayCamera(frames, decode, clock=self.clock, loop=loop)
        true_hz, measured_hz = draw_oscillator(seed)
        self.calibration = CarCalibration(oscillator_hz=measured_hz)
        self.chip = Pca9685Chip(oscillator_hz=true_hz)
        self._board = Board(
            self.chip,
            self.calibration,
            clock=self.clock,
            volts=lambda: 0.0,
            amps=lambda: 0.0,
            sleep_s=time.sleep,
        )
        self.servos = self._board.servos

    def close(self) -> None:
        """Stop outputs and release devices; may be called twice."""
        self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
