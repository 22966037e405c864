"""The Pi's camera driver against a stand-in for picamera2, and the Pi rig."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from continuon.clock import ClockOffset, ManualClock
from continuon.errors import HardwareError, MissingPackageError
from continuon.rig.calibration import CarCalibration
from continuon.rig.camera_picamera2 import Picamera2Camera
from continuon.rig.origin import machine_origin
from continuon.rig.pi import PiRig
from continuon.sim.bus import SimulatedBus, connect
from continuon.sim.chips import Pca9685Chip
from continuon.sim.gauges import Ina219Chip

PERIOD_NS = 33_333_333


class Request:
    def __init__(self, stamp_ns, value):
        self.stamp_ns, self.value = stamp_ns, value

    def get_metadata(self):
        return {"SensorTimestamp": self.stamp_ns}

    def make_array(self, stream):
        assert stream == "main"
        return np.full((480, 640, 3), self.value, np.uint8)


class StandIn:
    """The part of picamera2 that the driver uses; it may lie about its format."""

    def __init__(self, *, delivered=None):
        self.delivered = delivered
        self.running = False
        self.closed = 0
        self.post_callback = None

    def create_video_configuration(self, **asked):
        return asked

    def configure(self, config):
        self.config = config

    def camera_configuration(self):
        return {"main": self.delivered or self.config["main"]}

    def start(self):
        self.running = True

    def stop(self):
        self.running = False

    def close(self):
        self.closed += 1


def camera(stand_in, clock=None):
    clock = ManualClock(10**9) if clock is None else clock
    return Picamera2Camera(
        clock=clock,
        open_camera=lambda: stand_in,
        measure=lambda: ClockOffset("boottime", -500, 3, clock.now_ns),
    )


@pytest.mark.req("R-RIG-10")
def test_a_frame_has_the_sensors_time_in_the_hosts_timebase():
    stand_in = StandIn()
    eye = camera(stand_in)
    eye.open()
    eye.open()
    stand_in.post_callback(Request(2000, 9))
    frame = eye.poll()
    assert (frame.capture_ns, frame.device_ns, frame.sequence) == (1500, 2000, 0)
    assert frame.rgb.shape == (480, 640, 3)
    assert frame.depth is None
    assert eye.poll() is None


def test_the_newest_frame_wins_and_a_drop_shows_in_the_sequence():
    stand_in = StandIn()
    eye = camera(stand_in)
    eye.open()
    stand_in.post_callback(Request(0, 1))
    stand_in.post_callback(Request(3 * PERIOD_NS, 2))
    frame = eye.poll()
    assert (frame.sequence, frame.rgb[0, 0, 0]) == (3, 2)


@pytest.mark.req("R-RIG-09")
@pytest.mark.parametrize(
    "lie",
    [
        {"size": (640, 400), "format": "BGR888"},
        {"size": (640, 480), "format": "XBGR8888"},
    ],
)
def test_another_format_than_asked_is_refused_at_opening(lie):
    stand_in = StandIn(delivered=lie)
    with pytest.raises(HardwareError) as caught:
        camera(stand_in).open()
    assert caught.value.code == "E-RIG-CAM-004"
    assert stand_in.closed == 1
    assert not stand_in.running


@pytest.mark.req("R-RIG-09")
def test_a_picture_of_another_size_than_negotiated_is_refused():
    stand_in = StandIn()
    eye = camera(stand_in)
    eye.open()
    request = Request(2000, 9)
    request.make_array = lambda stream: np.zeros((480, 656, 3), np.uint8)
    stand_in.post_callback(request)
    with pytest.raises(HardwareError) as caught:
        eye.poll()
    assert caught.value.code == "E-RIG-CAM-004"


@pytest.mark.req("R-RIG-09")
def test_a_camera_that_falls_silent_is_an_error():
    clock = ManualClock(10**9)
    eye = camera(StandIn(), clock)
    eye.open()
    clock.advance_ns(1_900_000_000)
    assert eye.poll() is None
    clock.advance_ns(200_000_000)
    with pytest.raises(HardwareError) as caught:
        eye.poll()
    assert caught.value.code == "E-RIG-CAM-003"


def test_a_camera_that_cannot_be_opened_names_the_ribbon():
    def fail():
        raise IndexError("list index out of range")

    with pytest.raises(HardwareError) as caught:
        Picamera2Camera(clock=ManualClock(), open_camera=fail).open()
    assert "ribbon" in caught.value.hint


def test_the_offset_is_measured_again_after_ten_seconds():
    clock = ManualClock(0)
    eye = camera(StandIn(), clock)
    first = eye.clock_offset()
    clock.advance_ns(5_000_000_000)
    assert eye.clock_offset() is first
    clock.advance_ns(6_000_000_000)
    assert eye.clock_offset().measured_at_ns == 11_000_000_000


def test_without_picamera2_the_error_says_apt(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(MissingPackageError) as caught:
        Picamera2Camera(clock=ManualClock()).open()
    assert "apt install python3-picamera2" in caught.value.hint


def test_picamera2_itself_is_opened_where_it_is_installed(monkeypatch):
    stand_in = StandIn()
    module = types.SimpleNamespace(Picamera2=lambda: stand_in)
    monkeypatch.setitem(sys.modules, "picamera2", module)
    eye = Picamera2Camera(clock=ManualClock(10**9))
    eye.open()
    assert stand_in.running


def test_closing_twice_closes_once():
    stand_in = StandIn()
    eye = camera(stand_in)
    eye.open()
    eye.close()
    eye.close()
    assert stand_in.closed == 1


@pytest.mark.req("R-RIG-13")
def test_a_bare_machine_is_a_rig_of_absent_parts(tmp_path):
    with PiRig(bus=str(tmp_path / "i2c-1"), sys=tmp_path) as rig:
        parts = (rig.servos, rig.battery, rig.thermal, rig.state)
    assert parts == (None, None, None, None)
    assert rig.origin == "real"


def test_a_pi_rig_finds_its_parts_and_stops_them_at_its_end(tmp_path):
    place = tmp_path / "class/thermal/thermal_zone0"
    place.mkdir(parents=True)
    (place / "temp").write_text("50000")
    chip = Pca9685Chip()
    chips = [chip, Ina219Chip(volts=lambda: 8.0, amps=lambda: 0.1, address=0x43)]
    bus = SimulatedBus("/dev/i2c-test-pi", chips)
    stand_in = StandIn()
    rig = PiRig(
        bus=bus.path,
        sys=tmp_path,
        connect=lambda _: connect(bus),
        open_camera=lambda: stand_in,
    )
    rig.camera.open()
    rig.servos.set_pulses_us({0: 1600.0})
    assert chip.pulses_us()[0] > 0
    assert rig.battery.address == 0x43
    assert rig.thermal is not None
    rig.close()
    rig.close()
    assert set(chip.pulses_us().values()) == {0.0}
    assert stand_in.closed == 1


def test_a_given_calibration_is_used_and_absent_parts_have_their_reasons(tmp_path):
    car = CarCalibration(oscillator_hz=24.5e6)
    with PiRig(calibration=car, bus="/dev/i2c-none", sys=tmp_path, dev=tmp_path) as rig:
        assert rig.calibration is car
        assert rig.camera is None
        assert rig.servos is None
        assert rig.thermal is None
    assert "raspi-config" in rig.reasons["servos"]
    assert "OAK" in rig.reasons["camera"]
    assert set(rig.reasons) == {"camera", "servos", "thermal"}


@pytest.mark.req("R-RIG-22")
def test_device_nodes_that_umockdev_redirects_are_labelled():
    assert machine_origin({}) == "real"
    assert machine_origin({"UMOCKDEV_DIR": "/tmp/x"}) == "simulated"
