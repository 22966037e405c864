"""The simulated rig's senses: exposures and readings with clocks, jitter and latency.

These are pure queues: the rig calls `expose` and `sample` at the right times, and
`poll` gives out what has arrived by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
import numpy as np

from continuon.clock import Clock, ClockOffset
from continuon.rig.camera_faults import camera_gone
from continuon.rig.protocols import Frame, ThermalReading, VectorSample
from continuon.sim.clocks import DeviceClock, measure_offset
from continuon.sim.raycast import Renderer

__all__ = ["STATE_NAMES", "SimCamera", "SimState", "SimThermal"]

STATE_NAMES = ("speed_mps", "steering_position", "yaw_rate_rad_s")
REMEASURE_NS = 1_000_000_000
KEPT = 256


Pose = tuple[float, float, float]


@attrs.frozen(kw_only=True)
class _Exposure:
    pose: Pose
    depth_pose: Pose
    sequence: int
    device_ns: int
    depth_device_ns: int
    arrives_ns: int


class _Stamped:
    """What camera and sensor share: an own clock, measured again each second."""

    def __init__(self, clock: Clock, device: DeviceClock, seed: int) -> None:
        self._clock = clock
        self._device = device
        self._rng = np.random.default_rng(
            [seed, *device.name.encode()]  # each device draws for itself
        )
        self._offset: ClockOffset | None = None

    def clock_offset(self) -> ClockOffset:
        """Return the measured map from the device's clock to the host's."""
        now = self._clock.monotonic_ns()
        old = self._offset
        if old is None or now - old.measured_at_ns >= REMEASURE_NS:
            self._offset = measure_offset(self._device, now, self._rng)
            return self._offset
        return old


class SimCamera(_Stamped):
    """An RGB-D camera whose picture is drawn when it is asked for."""

    def __init__(
        self,
        renderer: Renderer,
        *,
        clock: Clock,
        seed: int,
        start_ns: int,
        rate_hz: float = 30.0,
        depth: bool = True,
        latency_ns: int = 18_000_000,
        name: str = "camera",
    ) -> None:
        rng = np.random.default_rng([seed, 0xCA])
        super().__init__(clock, DeviceClock.draw(name, rng), seed)
        self.name = name
        self.width = renderer.model.width
        self.height = renderer.model.height
        self.rate_hz = rate_hz
        self.has_depth = depth
        self.plugged = True
        self._renderer = renderer
        self._latency_ns = latency_ns
        self._period_ns = 1e9 / rate_hz
        self._phase_ns = start_ns + float(rng.uniform(0.0, self._period_ns))
        self._count = 0
        self._waiting: deque[_Exposure] = deque(maxlen=8)
        self._depth_delay_ns = float(rng.uniform(1.2e6, 2.4e6))

    def open(self) -> None:
        """Start the stream.

        Raises:
            HardwareError: the camera is unplugged.
        """
        self._check()

    def next_exposure_ns(self) -> int:
        """Return when the shutter opens next, host time."""
        return round(self._phase_ns + self._count * self._period_ns)

    def skip_to(self, host_ns: int) -> None:
        """Let the exposures before a host time be dropped ones."""
        while self.next_exposure_ns() < host_ns:
            self._count += 1

    def expose(self, pose_at: Callable[[int], Pose]) -> None:
        """Open both shutters: colour at `next_exposure_ns()`, depth 1 to 3 ms later.

        Args:
            pose_at: where the car is at a host time, for each of the two.
        """
        due = self.next_exposure_ns()
        at = due + round(self._rng.normal(0.0, 60e3))
        delay = round(self._depth_delay_ns + self._rng.uniform(-0.4e6, 0.6e6))
        late = self._latency_ns + abs(self._rng.normal(0.0, 1.5e6))
        if self.plugged:
            self._waiting.append(
                _Exposure(
                    pose=pose_at(due),
                    depth_pose=pose_at(due + delay),
                    sequence=self._count,
                    device_ns=self._device.stamp_ns(at, self._rng),
                    depth_device_ns=self._device.stamp_ns(at + delay, self._rng),
                    arrives_ns=at + round(late),
                )
            )
        self._count += 1

    def poll(self) -> Frame | None:
        """Return the newest frame that arrived and was not returned, or None.

        Raises:
            HardwareError: the camera was unplugged.
        """
        self._check()
        now = self._clock.monotonic_ns()
        newest: _Exposure | None = None
        while self._waiting and self._waiting[0].arrives_ns <= now:
            newest = self._waiting.popleft()
        if newest is None:
            return None
        view = self._renderer.view(
            newest.pose,
            sequence=newest.sequence,
            depth_pose=newest.depth_pose if self.has_depth else None,
        )
        offset = self.clock_offset()
        return Frame(
            rgb=view.rgb,
            depth=view.depth if self.has_depth else None,
            capture_ns=offset.to_host_ns(newest.device_ns),
            device_ns=newest.device_ns,
            sequence=newest.sequence,
            depth_capture_ns=offset.to_host_ns(newest.depth_device_ns)
            if self.has_depth
            else None,
        )

    def close(self) -> None:
        """Stop the stream; may be called twice."""
        self._waiting.clear()

    def _check(self) -> None:
        if not self.plugged:
            raise camera_gone(self.name)


class SimState(_Stamped):
    """Speed, steering position and yaw rate, each reading with sensor noise."""

    def __init__(
        self,
        *,
        clock: Clock,
        seed: int,
        start_ns: int,
        rate_hz: float = 100.0,
        latency_ns: int = 2_000_000,
    ) -> None:
        rng = np.random.default_rng([seed, 0x57])
        super().__init__(clock, DeviceClock.draw("chassis", rng), seed)
        self.names = STATE_NAMES
        self.rate_hz = rate_hz
        self._latency_ns = latency_ns
        self._period_ns = 1e9 / rate_hz
        self._phase_ns = start_ns + float(rng.uniform(0.0, self._period_ns))
        self._count = 0
        self._waiting: deque[tuple[int, int, int, np.ndarray]] = deque(maxlen=KEPT)

    def next_sample_ns(self) -> int:
        """Return when the next reading is taken, host time."""
        return round(self._phase_ns + self._count * self._period_ns)

    def skip_to(self, host_ns: int) -> None:
        """Let the readings before a host time be dropped ones."""
        while self.next_sample_ns() < host_ns:
            self._count += 1

    def sample(self, values: tuple[float, float, float]) -> None:
        """Take the reading due at `next_sample_ns()`."""
        at = self.next_sample_ns() + round(self._rng.normal(0.0, 40e3))
        noise = self._rng.normal(0.0, 1.0, 3) * (0.015, 0.004, 0.02)
        late = self._latency_ns + abs(self._rng.normal(0.0, 0.4e6))
        stamp = self._device.stamp_ns(at, self._rng)
        reading = (np.array(values) + noise).astype(np.float32)
        self._waiting.append((at + round(late), stamp, self._count, reading))
        self._count += 1

    def poll(self) -> VectorSample | None:
        """Return the newest reading that arrived and was not returned, or None."""
        arrived = self.drain()
        return arrived[-1] if arrived else None

    def drain(self) -> tuple[VectorSample, ...]:
        """Return every reading that arrived and was not returned, oldest first."""
        now = self._clock.monotonic_ns()
        samples = []
        while self._waiting and self._waiting[0][0] <= now:
            _, stamp, count, reading = self._waiting.popleft()
            samples.append(
                VectorSample(
                    values=reading,
                    capture_ns=self.clock_offset().to_host_ns(stamp),
                    device_ns=stamp,
                    sequence=count,
                )
            )
        return tuple(samples)


@attrs.frozen
class SimThermal:
    """A SoC that warms up slowly from 45 to 58 degrees and never throttles."""

    clock: Clock
    start_ns: int
    celsius: Callable[[float], float] = attrs.field(
        default=lambda time_s: 58.0 - 13.0 * float(np.exp(-time_s / 300.0))
    )

    def read(self) -> ThermalReading:
        """Return the temperature at this time."""
        now = self.clock.monotonic_ns()
        return ThermalReading(
            celsius=self.celsius((now - self.start_ns) / 1e9),
            throttled=False,
            under_voltage=False,
            capture_ns=now,
        )
