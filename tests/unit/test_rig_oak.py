"""The depth camera's driver at the level of depthai's messages."""

from __future__ import annotations

import importlib.util
import sys
import types
from datetime import timedelta

import numpy as np
import pytest

from continuon.clock import ManualClock
from continuon.errors import HardwareError, MissingPackageError
from continuon.rig import camera_oak
from continuon.rig.camera_oak import OakCamera
from continuon.rig.oak_pipeline import start_oak
from continuon.rig.offsets import OffsetEstimate
from continuon.sim.clocks import DeviceClock
from continuon.sim.oak import SimOakStream
from continuon.sim.shutter import Shutter

START_NS = 10**10
PERIOD_NS = 33_333_333


def bench(*, colours=None, depths=None, **more):
    clock = ManualClock(START_NS)
    stream = SimOakStream(
        clock=clock,
        width=more.pop("width", 64),
        height=48,
        colours=colours or Shutter(start_ns=START_NS),
        depths=depths or Shutter(start_ns=START_NS + 1_500_000),
        device=DeviceClock(name="oak", offset_ns=-(10**12), drift_ppm=15.0),
        **more,
    )
    eye = OakCamera(clock=clock, width=64, height=48, start=lambda *_: stream)
    return eye, stream, clock


@pytest.mark.req("R-RIG-10")
def test_both_exposures_are_in_the_hosts_time_to_within_the_stated_uncertainty():
    eye, _, clock = bench()
    eye.open()
    for number in range(1, 60):
        clock.advance_ns(PERIOD_NS)
        frame = eye.poll()
        limit = eye.clock_offset().uncertainty_ns
        exposed = START_NS + round(frame.sequence * 1e9 / 30)
        assert frame.sequence in (number, number - 1)
        assert abs(frame.capture_ns - exposed) < limit
        assert abs(frame.depth_capture_ns - exposed - 1_500_000) < limit
    assert 600_000 < limit < 1_200_000


@pytest.mark.req("R-RIG-16")
def test_colour_without_its_depth_is_a_drop_and_never_a_frame_without_depth():
    eye, _, clock = bench(
        depths=Shutter(start_ns=START_NS + 1_500_000, dropped=frozenset({4, 5}))
    )
    eye.open()
    sequences = []
    for _ in range(10):
        clock.advance_ns(PERIOD_NS)
        frame = eye.poll()
        if frame is not None:
            sequences.append(frame.sequence)
            assert frame.depth is not None
    assert {4, 5} & set(sequences) == set()
    assert len(sequences) == 8


@pytest.mark.req("R-RIG-16")
def test_depth_that_comes_after_the_next_colour_still_meets_its_own():
    late = Shutter(start_ns=START_NS + 1_500_000, latency_ns=60_000_000)
    eye, _, clock = bench(depths=late)
    eye.open()
    frames = []
    for _ in range(200):
        clock.advance_ns(4_000_000)
        frame = eye.poll()
        frames += [] if frame is None else [frame]
    assert len(frames) > 20
    apart = [frame.depth_capture_ns - frame.capture_ns for frame in frames]
    assert max(abs(ns - 1_500_000) for ns in apart) < 2000


def test_a_colour_drop_leaves_its_depth_unused():
    eye, _, clock = bench(colours=Shutter(start_ns=START_NS, dropped=frozenset({2})))
    eye.open()
    clock.advance_ns(5 * PERIOD_NS)
    frame = eye.poll()
    assert abs(frame.depth_capture_ns - frame.capture_ns) < 2_000_000
    assert frame.sequence == 5 or frame.sequence == 4


@pytest.mark.req("R-RIG-09")
@pytest.mark.parametrize("lie", [{"width": 80}, {"depth_dtype": "float32"}])
def test_another_format_than_asked_is_refused_at_opening(lie):
    eye, stream, _ = bench(**lie)
    with pytest.raises(HardwareError) as caught:
        eye.open()
    assert caught.value.code == "E-RIG-CAM-004"
    assert stream.closed == 1
    assert eye.poll() is None


@pytest.mark.req("R-RIG-09")
@pytest.mark.parametrize(
    ("silent", "word"),
    [("depths", "depth does not"), ("colours", "colour does not"), ("both", "supply")],
)
def test_a_stream_that_never_comes_is_named(silent, word):
    hung = Shutter(start_ns=START_NS, hangs_from=0)
    streams = {"colours": hung, "depths": hung} if silent == "both" else {silent: hung}
    eye, stream, clock = bench(**streams)
    with pytest.raises(HardwareError) as caught:
        eye.open()
    assert caught.value.code == "E-RIG-CAM-003"
    assert word in caught.value.hint
    assert clock.now_ns - START_NS > 5e9
    assert stream.closed == 1


@pytest.mark.req("R-RIG-09")
def test_a_camera_that_falls_silent_later_is_an_error_after_two_seconds():
    eye, _, clock = bench(depths=Shutter(start_ns=START_NS, hangs_from=3))
    eye.open()
    clock.advance_ns(1_900_000_000)
    assert eye.poll() is not None
    clock.advance_ns(1_900_000_000)
    assert eye.poll() is None
    clock.advance_ns(200_000_000)
    with pytest.raises(HardwareError) as caught:
        eye.poll()
    assert "depth does not" in caught.value.hint


def test_an_unplugged_camera_says_so():
    eye, stream, clock = bench()
    eye.open()
    stream.unplugged = True
    clock.advance_ns(PERIOD_NS)
    with pytest.raises(HardwareError) as caught:
        eye.poll()
    assert caught.value.code == "E-RIG-CAM-001"
    eye.close()
    eye.close()
    assert stream.closed == 1


def test_opening_twice_starts_once_and_the_first_pair_is_given():
    eye, _, _ = bench()
    eye.open()
    eye.open()
    assert eye.poll().sequence == 0
    assert eye.poll() is None


@pytest.mark.req("R-RIG-10")
def test_an_offset_that_nobody_measured_is_an_error():
    with pytest.raises(HardwareError) as caught:
        OakCamera(clock=ManualClock()).clock_offset()
    assert caught.value.code == "E-RIG-CLOCK-001"


@pytest.mark.req("R-RIG-10")
def test_the_median_of_pairs_forgets_the_old_ones():
    estimate = OffsetEstimate("x", bound_ns=100, kept=3)
    for value in (10**9, 50, 70):
        seen = estimate.add(value, at_ns=value)
    assert (seen.offset_ns, seen.measured_at_ns) == (70, 70)
    seen = estimate.add(60, at_ns=9)
    assert (seen.offset_ns, seen.uncertainty_ns) == (60, 110)


class Node:
    """Any node, output or queue: it remembers what was asked of it."""

    def __init__(self, calls, name=""):
        self.calls, self.name = calls, name

    def __getattr__(self, attribute):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if attribute in ("left", "right", "depth", "inputAlignTo"):
            return Node(self.calls, f"{self.name}.{attribute}")

        def call(*args, **named):
            self.calls.append((self.name, attribute, args, named))
            return Node(self.calls, f"{self.name}.{attribute}")

        return call


class Device:
    def __init__(self, speed):
        self.speed, self.closed = speed, 0

    def getUsbSpeed(self):  # noqa: N802
        return self.speed

    def close(self):
        self.closed += 1


def fake_depthai(monkeypatch, *, speed="SUPER", device=None, fails=None):
    calls = []
    speeds = {
        name: types.SimpleNamespace(name=name)
        for name in ("LOW", "FULL", "HIGH", "SUPER", "SUPER_PLUS", "UNKNOWN")
    }
    held = Device(speeds[speed])

    class Pipeline(Node):
        def __init__(self, given):
            assert given is held
            super().__init__(calls, "pipeline")

        def create(self, kind):
            return Node(calls, kind)

        def start(self):
            if fails:
                raise RuntimeError(fails)
            calls.append(("pipeline", "start", (), {}))

    def open_device():
        if device is not None:
            raise RuntimeError(device)
        return held

    module = types.SimpleNamespace(
        Device=open_device,
        Pipeline=Pipeline,
        UsbSpeed=types.SimpleNamespace(**speeds),
        node=types.SimpleNamespace(Camera="camera", StereoDepth="stereo"),
        CameraBoardSocket=types.SimpleNamespace(CAM_A="A", CAM_B="B", CAM_C="C"),
        ImgFrame=types.SimpleNamespace(Type=types.SimpleNamespace(RGB888i="RGB")),
    )
    monkeypatch.setitem(sys.modules, "depthai", module)
    return calls, held


@pytest.mark.req("R-RIG-16")
def test_depth_is_asked_for_in_the_colours_picture(monkeypatch):
    calls, device = fake_depthai(monkeypatch)
    stream = start_oak(640, 480, 30.0)
    links = [(name, args[0].name) for name, what, args, _ in calls if what == "link"]
    assert ("camera.build.requestOutput", "stereo.inputAlignTo") in links
    assert len(links) == 3
    asked = [args for _, what, args, _ in calls if what == "requestOutput"]
    assert asked[0] == ((640, 480),)
    assert asked[1:] == [((640, 400),)] * 2
    assert stream.colour().name.endswith("createOutputQueue.tryGet")
    assert stream.depth().name == "stereo.depth.createOutputQueue.tryGet"
    stream.close()
    assert device.closed == 1


def test_without_a_camera_the_error_says_where_to_plug_it(monkeypatch):
    fake_depthai(monkeypatch, device="No available devices")
    with pytest.raises(HardwareError) as caught:
        start_oak(640, 480, 30.0)
    assert caught.value.code == "E-RIG-OAK-001"
    assert "USB 3" in caught.value.hint


def test_a_usb_2_cable_is_refused_before_frames_are_lost(monkeypatch):
    _, device = fake_depthai(monkeypatch, speed="HIGH")
    with pytest.raises(HardwareError) as caught:
        start_oak(640, 480, 30.0)
    assert caught.value.code == "E-RIG-OAK-002"
    assert device.closed == 1
    start_oak(320, 240, 30.0)


def test_a_pipeline_that_does_not_start_releases_the_camera(monkeypatch):
    _, device = fake_depthai(monkeypatch, fails="boot failed")
    with pytest.raises(RuntimeError):
        start_oak(640, 480, 30.0)
    assert device.closed == 1


def test_without_depthai_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "depthai", None)
    with pytest.raises(MissingPackageError) as caught:
        OakCamera(clock=ManualClock()).open()
    assert "continuon[oak]" in caught.value.hint


@pytest.fixture
def depthai():
    if importlib.util.find_spec("depthai") is None:
        pytest.skip("depthai is not installed: pip install 'continuon[oak]'")
    return pytest.importorskip("depthai")


@pytest.mark.slow
def test_the_real_depthai_has_every_name_that_is_used(depthai):
    for owner, names in (
        (depthai.Device, ("getUsbSpeed", "close")),
        (depthai.Pipeline, ("create", "start", "stop")),
        (depthai.node.Camera, ("build", "requestOutput")),
        (depthai.node.StereoDepth, ("depth", "inputAlignTo", "setLeftRightCheck")),
        (depthai.node.StereoDepth, ("left", "right")),
        (depthai.MessageQueue, ("tryGet",)),
        (depthai.CameraBoardSocket, ("CAM_A", "CAM_B", "CAM_C")),
        (depthai.UsbSpeed, ("LOW", "FULL", "HIGH", "SUPER")),
    ):
        missing = [name for name in names if not hasattr(owner, name)]
        assert missing == [], owner


@pytest.mark.slow
def test_a_real_message_gives_picture_and_stamps(depthai):
    kind = depthai.ImgFrame.Type
    pictures = []
    for shape, dtype, form in (
        ((48, 64, 3), np.uint8, kind.RGB888i),
        ((48, 64), np.uint16, kind.RAW16),
    ):
        message = depthai.ImgFrame()
        message.setWidth(64)
        message.setHeight(48)
        message.setType(form)
        sent = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
        message.setData(sent.view(np.uint8).reshape(-1))
        message.setTimestamp(timedelta(seconds=50))
        message.setTimestampDevice(timedelta(microseconds=1_000_033))
        pictures.append((message, sent))
    for message, sent in pictures:
        assert np.array_equal(message.getFrame(), sent)
        assert camera_oak._device_ns(message) == 1_000_033_000
