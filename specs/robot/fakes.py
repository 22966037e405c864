# ruff: noqa: ANN001, ANN201, ANN202, ANN204, ARG002, D102, ARG001, ARG005
"""A tiny robot in virtual time, importable by name from any process under test."""

from __future__ import annotations

import attrs
import numpy as np

from continuon.clock import ClockOffset, ManualClock, SystemClock
from continuon.errors import HardwareError
from continuon.rig.protocols import BatteryReading, Frame, VectorSample

__all__ = [
    "FakePolicy",
    "FakeRig",
    "FakeServos",
    "NaNPilot",
    "SensingPolicy",
    "Spec",
    "SteadyPilot",
]

MS = 1_000_000


class FakeServos:
    """Outputs that remember every call."""

    def __init__(self):
        self.outputs = dict.fromkeys(range(16), 0.0)
        self.calls = []

    def set_pulses_us(self, pulses_us):
        self.calls.append(dict(pulses_us))
        self.outputs.update(pulses_us)

    def read_pulses_us(self):
        return dict(self.outputs)

    def full_off(self):
        self.calls.append("full_off")
        self.outputs = dict.fromkeys(range(16), 0.0)


class FakeCamera:
    """A frame each 1/30 s of the clock, from a device clock 7 s ahead."""

    name, width, height, rate_hz = "camera", 16, 12, 30.0
    ahead_ns = 7_000 * MS

    def __init__(self, clock, *, depth, dies_after_s, freezes_after_s):
        self._clock, self.has_depth = clock, depth
        self._began_ns = clock.monotonic_ns()
        self._dies_ns = round(dies_after_s * 1e9)
        self._freezes_ns = round(freezes_after_s * 1e9)
        self._seen = -1

    def open(self):
        """Nothing to open."""

    def close(self):
        """Nothing to close."""

    def poll(self):
        since_ns = self._clock.monotonic_ns() - self._began_ns
        if since_ns > self._dies_ns:
            raise HardwareError("E-RIG-CAM-001", "the camera does not answer")
        sequence = int(min(since_ns, self._freezes_ns) * 30 // 1_000_000_000)
        if sequence <= self._seen:
            return None
        self._seen = sequence
        capture_ns = self._began_ns + sequence * 1_000_000_000 // 30
        rgb = np.full((self.height, self.width, 3), sequence % 256, np.uint8)
        depth = np.full((self.height, self.width), 1000 + sequence, np.uint16)
        return Frame(
            rgb=rgb,
            depth=depth if self.has_depth else None,
            capture_ns=capture_ns,
            device_ns=capture_ns + self.ahead_ns,
            sequence=sequence,
            depth_capture_ns=capture_ns + 2 * MS if self.has_depth else None,
        )

    def clock_offset(self):
        return ClockOffset("camera", -self.ahead_ns, 1000, self._clock.monotonic_ns())


class FakeState:
    """Speed at 100 Hz."""

    names, rate_hz = ("speed_mps", "yaw_rate_rad_s"), 100.0

    def __init__(self, clock):
        self._clock = clock
        self._next_ns = clock.monotonic_ns()
        self._sequence = 0

    def drain(self):
        samples = []
        while self._next_ns <= self._clock.monotonic_ns():
            values = np.array([0.5, 0.0], np.float32)
            samples.append(
                VectorSample(
                    values=values,
                    capture_ns=self._next_ns,
                    device_ns=self._next_ns,
                    sequence=self._sequence,
                )
            )
            self._sequence += 1
            self._next_ns += 10 * MS
        return tuple(samples)

    def poll(self):
        samples = self.drain()
        return samples[-1] if samples else None

    def clock_offset(self):
        return ClockOffset("host", 0, 0, self._clock.monotonic_ns())


class FakeBattery:
    """Two cells, well charged."""

    def __init__(self, clock):
        self._clock = clock

    def read(self):
        return BatteryReading(
            volts=8.0,
            amps=None,
            fraction=None,
            capture_ns=self._clock.monotonic_ns(),
            cells=2,
        )


class FakeRig:
    """All of it on one hand-moved clock."""

    name, origin = "fake", "simulated"
    thermal = None

    def __init__(
        self, *, depth=True, dies_after_s=1e9, freezes_after_s=1e9, clock=None
    ):
        self.clock = clock or ManualClock(5_000 * MS, wall_offset_ns=10**18)
        self.camera = FakeCamera(
            self.clock,
            depth=depth,
            dies_after_s=dies_after_s,
            freezes_after_s=freezes_after_s,
        )
        self.state = FakeState(self.clock)
        self.servos = FakeServos()
        self.battery = FakeBattery(self.clock)
        self.closed = False

    def expert(self, noise=None):
        return np.array([noise or 0.0, 0.25], np.float32)

    def close(self):
        self.closed = True


class LiveFakeRig(FakeRig):
    """The same on the machine's own clock."""

    def __init__(self):
        super().__init__(clock=SystemClock())


class SteadyPilot:
    """Wants one action for ever, and may send another."""

    def __init__(self, rig=None, *, action=(0.1, 0.2), applied=None):
        self._action = np.array(action, np.float32)
        self._applied = None if applied is None else np.array(applied, np.float32)

    def __call__(self, senses):
        from continuon.rlds.episode import ActionSource
        from continuon.robot.pilots import Intent

        return Intent(
            action=self._action,
            applied=self._applied,
            source=ActionSource.HUMAN_TELEOP_XR,
            observed_ns=senses.now_ns,
        )


class NaNPilot(SteadyPilot):
    """Turns bad after half a second."""

    def __init__(self, rig=None):
        super().__init__(rig)
        self._calls = 0

    def __call__(self, senses):
        self._calls += 1
        if self._calls > 25:
            self._action = np.array([np.nan, 0.2], np.float32)
        return super().__call__(senses)


@attrs.frozen(kw_only=True)
class Spec:
    """What a policy's artifacts say of themselves."""

    name: str = "fake"
    image_height: int = 6
    image_width: int = 8
    proprio: tuple[str, ...] = ("speed_mps",)
    action: tuple[str, ...] = ("steering", "throttle")
    control_rate_hz: float = 30.0
    depth_height: int = 0
    depth_width: int = 0
    instruction_size: int = 0


@attrs.frozen(kw_only=True)
class Output:
    """What one step gives."""

    action: np.ndarray
    surprise: float


class FakePolicy:
    """Steers by how many steps it has taken."""

    def __init__(self, gain=0.01, spec=None):
        self.spec = spec or Spec()
        self.gain = gain
        self.steps = 0
        self.seen = []

    def reset(self):
        self.steps = 0

    def step(self, image, proprio):
        self.steps += 1
        self.seen.append((image, proprio))
        action = np.array([self.gain * self.steps, 0.1], np.float32)
        return Output(action=action, surprise=0.5)


class SensingPolicy(FakePolicy):
    """Steers by how far it is ahead, and goes as fast as the words hash to."""

    def __init__(self):
        super().__init__(spec=Spec(depth_height=3, depth_width=4, instruction_size=8))

    def step(self, image, proprio, *, depth, instruction):
        self.steps += 1
        self.seen.append((depth, instruction))
        ahead = float(np.clip(depth.mean() / 20, 0, 1))
        return Output(
            action=np.array([ahead, abs(instruction[0]) / 2], np.float32), surprise=0.5
        )


@attrs.frozen(kw_only=True)
class Golden:
    """What a golden check says."""

    max_abs_error: float = 0.0
    tolerance: float = 1e-3
    ok: bool = True


def load_fake(directory, backend):
    """Load by the folder's name: `gain-0.02`, `wrong`, `broken`, `raises`, `nan`.

    `sensing` must be given depth and an instruction, and shows both in its action;
    `runaway` (one channel) and `jerk` (one action in ten) want harm.
    """
    name = directory.rsplit("/", 1)[-1]
    kind, _, value = name.partition("-")
    if kind == "broken":
        raise ValueError("not a policy")
    golden = Golden(max_abs_error=9.0, ok=False) if kind == "wrong" else Golden()
    policy = SensingPolicy() if kind == "sensing" else FakePolicy(float(value or 0.01))
    if kind == "raises":
        policy.step = _raise_after(policy.step, 5)
    if kind in {"runaway", "jerk"}:
        policy.step = _harmful(policy.step, every=1 if kind == "runaway" else 10)
    if kind == "nan":
        policy = FakePolicy(float("nan"))
    return policy, lambda stepped: golden


def _harmful(step, every):
    taken = []

    def stepping(image, proprio):
        taken.append(1)
        action = step(image, proprio).action.copy()
        if len(taken) % every == 0:
            action[1] = 0.6 if every == 1 else -1.0
        return Output(action=action, surprise=0.5)

    return stepping


def _raise_after(step, count):
    taken = []

    def stepping(image, proprio):
        taken.append(1)
        if len(taken) > count:
            raise RuntimeError("the runtime gave up")
        return step(image, proprio)

    return stepping
