"""One suite of laws for the simulator and for each driver on a fake; liars are caught."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from continuon.clock import ClockOffset, ManualClock
from continuon.errors import ContractError
from continuon.rig.camera_oak import OakCamera
from continuon.rig.camera_picamera2 import Picamera2Camera
from continuon.rig.camera_v4l2 import V4l2Camera
from continuon.sim import SimRig
from continuon.sim.clocks import DeviceClock
from continuon.sim.oak import SimOakStream
from continuon.sim.shutter import Shutter, moving_gradient
from continuon.sim.v4l2 import SimVideoNode
from continuon.testing import CAMERA_LAWS, SERVO_LAWS, STATE_LAWS

WIDTH, HEIGHT = 64, 48
START_NS = 5_000_000_000


@attrs.define
class PicameraThread:
    """picamera2 by a clock: frames come while somebody waits."""

    clock: ManualClock
    shutter: Shutter
    post_callback: object = None
    config: object = None

    def create_video_configuration(self, **asked):
        return asked

    def configure(self, config):
        self.config = config

    def camera_configuration(self):
        return self.config

    def start(self):
        self.clock.waiters.append(self.run)

    def stop(self):
        self.clock.waiters.clear()

    def close(self):
        pass

    def run(self):
        for number, at_ns in self.shutter.due(self.clock.now_ns):
            self.post_callback(PicameraRequest(number, at_ns + 77_000_000))


@attrs.frozen
class PicameraRequest:
    number: int
    boottime_ns: int

    def get_metadata(self):
        return {"SensorTimestamp": self.boottime_ns}

    def make_array(self, stream):
        return moving_gradient(WIDTH, HEIGHT, self.number)


class WaitingClock(ManualClock):
    """Waiting lets others run."""

    def __init__(self):
        super().__init__(START_NS)
        self.waiters = []

    def sleep_until_ns(self, deadline_ns):
        super().sleep_until_ns(deadline_ns)
        for run in self.waiters:
            run()


def oak(clock):
    stream = SimOakStream(
        clock=clock,
        width=WIDTH,
        height=HEIGHT,
        colours=Shutter(start_ns=START_NS, dropped=frozenset({7})),
        depths=Shutter(start_ns=START_NS + 2_000_000, latency_ns=30_000_000),
        device=DeviceClock(name="oak", offset_ns=-(10**12), drift_ppm=20.0),
    )
    return OakCamera(
        clock=clock, width=WIDTH, height=HEIGHT, start=lambda *_: stream
    ), clock


def video(clock):
    node = SimVideoNode(
        clock=clock, shutter=Shutter(start_ns=START_NS), damaged=frozenset({3})
    )
    return V4l2Camera(
        clock=clock, width=WIDTH, height=HEIGHT, pixel_format="YUYV", kernel=node
    ), clock


def pi_camera(clock):
    thread = PicameraThread(clock, Shutter(start_ns=START_NS))
    return Picamera2Camera(
        clock=clock,
        width=WIDTH,
        height=HEIGHT,
        open_camera=lambda: thread,
        measure=lambda: ClockOffset("boottime", -77_000_000, 900, clock.now_ns),
    ), clock


def simulated(_clock):
    rig = SimRig(4, width=WIDTH, height=HEIGHT)
    return rig.camera, rig.clock


CAMERAS = {
    "oak": oak,
    "v4l2": video,
    "picamera2": pi_camera,
    "simulated": simulated,
}


@pytest.mark.req("R-RIG-15")
@pytest.mark.parametrize("law", CAMERA_LAWS)
@pytest.mark.parametrize("which", CAMERAS)
def test_a_camera_keeps_every_law(which, law):
    camera, clock = CAMERAS[which](WaitingClock())
    CAMERA_LAWS[law](camera, clock)
    camera.close()


@pytest.mark.req("R-RIG-15")
@pytest.mark.parametrize("law", SERVO_LAWS)
def test_the_simulated_servos_keep_every_law(law):
    with SimRig(4, width=WIDTH, height=HEIGHT) as rig:
        SERVO_LAWS[law](rig.servos, rig.calibration)


@pytest.mark.req("R-RIG-15")
@pytest.mark.parametrize("law", STATE_LAWS)
def test_the_simulated_state_keeps_every_law(law):
    with SimRig(4, width=WIDTH, height=HEIGHT) as rig:
        STATE_LAWS[law](rig.state, rig.clock)


class Liar:
    """A camera of the simulator that lies in one way."""

    def __init__(self, camera, **lies):
        self.camera, self.lies, self.last = camera, lies, None
        self.name, self.width, self.height = camera.name, camera.width, camera.height
        self.rate_hz = lies.get("rate_hz", camera.rate_hz)
        self.has_depth = lies.get("has_depth", camera.has_depth)

    def open(self):
        self.camera.open()

    def close(self):
        self.camera.close()

    def clock_offset(self):
        return self.lies.get("offset") or self.camera.clock_offset()

    def poll(self):
        if self.lies.get("dumb"):
            return None
        frame = self.camera.poll()
        if frame is None:
            return self.last if self.lies.get("repeats") else None
        shift = self.lies.get("shift_ns", 0)
        frame = attrs.evolve(frame, capture_ns=frame.capture_ns + shift)
        if self.lies.get("float"):
            frame = attrs.evolve(frame, rgb=frame.rgb.astype(np.float32))
        if self.lies.get("no_depth_stamp"):
            frame = attrs.evolve(frame, depth_capture_ns=None)
        if self.lies.get("late_depth"):
            late = frame.depth_capture_ns + 9_000_000
            frame = attrs.evolve(frame, depth_capture_ns=late)
        if self.lies.get("depth_at_times") and frame.sequence % 2:
            frame = attrs.evolve(frame, depth=None, depth_capture_ns=None)
        if self.lies.get("one_buffer") and self.last is not None:
            frame = attrs.evolve(frame, rgb=self.last.rgb)
        if self.lies.get("one_depth") and self.last is not None:
            frame = attrs.evolve(frame, depth=self.last.depth)
        self.last = frame
        return frame


WRONG_MAP = ClockOffset("camera", 0, 100_000, 0)
VAGUE_MAP = ClockOffset("camera", 0, 80_000_000, 0)


@pytest.mark.req("R-RIG-15")
@pytest.mark.parametrize(
    ("law", "lies"),
    [
        ("opens-and-closes-twice", {"dumb": True}),
        ("delivers-its-format", {"float": True}),
        ("delivers-its-format", {"dumb": True}),
        ("delivers-its-format", {"depth_at_times": True}),
        ("delivers-its-format", {"has_depth": False}),
        ("gives-each-frame-once", {"repeats": True}),
        ("keeps-its-rate", {"rate_hz": 25.0}),
        ("keeps-its-rate", {"dumb": True}),
        ("stamps-the-past", {"shift_ns": 40_000_000}),
        ("stamps-the-past", {"shift_ns": -600_000_000}),
        ("knows-its-clock", {"offset": WRONG_MAP}),
        ("knows-its-clock", {"offset": VAGUE_MAP}),
        ("knows-its-clock", {"shift_ns": -3_000_000}),
        ("frames-are-not-overwritten", {"one_buffer": True}),
        ("frames-are-not-overwritten", {"one_depth": True}),
        ("exposes-depth-with-colour", {"late_depth": True}),
        ("exposes-depth-with-colour", {"no_depth_stamp": True}),
    ],
)
def test_a_lying_camera_breaks_the_law_that_it_lies_about(law, lies):
    with (
        SimRig(4, width=WIDTH, height=HEIGHT) as rig,
        pytest.raises(ContractError) as caught,
    ):
        CAMERA_LAWS[law](Liar(rig.camera, **lies), rig.clock)
    assert caught.value.code == "E-TEST-LAW-001"


@pytest.mark.req("R-RIG-15")
@pytest.mark.parametrize(
    ("law", "broken"),
    [
        ("stops-provably", {"full_off": lambda: None}),
        ("limits-hold", {"set_pulses_us": lambda pulses: None}),
        ("pulses-read-back", {"set_pulses_us": lambda pulses: None}),
    ],
)
def test_broken_outputs_break_the_law_about_it(law, broken):
    with SimRig(4, width=WIDTH, height=HEIGHT) as rig:
        rig.servos.set_pulses_us({1: 1500.0})
        for name, function in broken.items():
            setattr(rig.servos, name, function)
        with pytest.raises(ContractError):
            SERVO_LAWS[law](rig.servos, rig.calibration)
