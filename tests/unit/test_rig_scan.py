"""What a scan says is there, is not there, and is likely wrong."""

from __future__ import annotations

import errno
import sys
import types

import pytest

from continuon.clock import ManualClock
from continuon.errors import HardwareError
from continuon.rig import registry
from continuon.rig.camera_oak import OakCamera
from continuon.rig.camera_picamera2 import Picamera2Camera
from continuon.rig.camera_v4l2 import V4l2Camera
from continuon.rig.cameras import CameraWish, find_camera, video_nodes
from continuon.rig.firmware import ThrottleFlags
from continuon.rig.registry import scan_rig
from continuon.rig.usb import list_usb
from continuon.sim.bus import SimulatedBus, connect
from continuon.sim.chips import Pca9685Chip
from continuon.sim.gauges import Ina219Chip, Max17048Chip


def gauge(address=0x41, volts=7.6):
    return Ina219Chip(volts=lambda: volts, amps=lambda: -0.5, address=address)


def fuel():
    return Max17048Chip(cell_v=lambda: 3.9, charge=lambda: 0.7)


def scanned(tmp_path, chips=(), *, faults=None, **more):
    (tmp_path / "i2c-1").write_bytes(b"")
    bus = SimulatedBus(str(tmp_path / "i2c-1"), list(chips), faults=faults)
    return scan_rig(
        dev=tmp_path,
        sys=tmp_path,
        proc=tmp_path,
        home=tmp_path / "not/yet",
        clock=ManualClock(),
        connect=lambda _: connect(bus),
        **more,
    )


def only(scan, kind):
    (found,) = [each for each in scan.found if each.kind == kind]
    return found


def usb(root, *, vendor="03e7", product="2485", name="", speed="480"):
    place = root / f"bus/usb/devices/1-{product}"
    place.mkdir(parents=True)
    (place / "idVendor").write_text(vendor + "\n")
    (place / "idProduct").write_text(product + "\n")
    (place / "speed").write_text(speed + "\n")
    (place / "busnum").write_text("1\n")
    (place / "devnum").write_text("7\n")
    if name:
        (place / "product").write_text(name + "\n")


def video(root, node, name, index="0"):
    place = root / "class/video4linux" / node
    place.mkdir(parents=True)
    (place / "name").write_text(name + "\n")
    (place / "index").write_text(index + "\n")


@pytest.mark.req("R-RIG-13")
def test_a_scan_finds_what_answers_and_writes_nothing(tmp_path):
    board = Pca9685Chip()
    cameras = [{"Model": "imx708", "Num": 0}]
    scan = scanned(tmp_path, [board, gauge(), fuel()], list_cameras=lambda: cameras)
    assert (scan.missing, scan.exit_code) == ((), 0)
    assert board.writes == []
    details = {each.kind: each.detail for each in scan.found if each.present}
    assert "0x36, 0x40, 0x41, 0x70" in details["i2c"]
    assert "sleeps" in details["pca9685"]
    assert details["ina219"].startswith("7.60 V, -0.50 A")
    assert details["max17048"] == "3.90 V, 70 %"
    assert details["camera"] == "imx708"
    assert "all-call" in details["unknown"]
    assert len(scan.as_dict()["found"]) == len(scan.found)


@pytest.mark.req("R-RIG-13")
def test_a_scan_of_a_bare_machine_says_what_to_do_and_is_not_fine(tmp_path):
    scan = scan_rig(dev=tmp_path, sys=tmp_path, proc=tmp_path, home=tmp_path)
    absent = {each.kind: each for each in scan.found if not each.present}
    assert scan.missing == ("camera", "pca9685")
    assert scan.exit_code == 4
    assert "raspi-config" in absent["i2c"].hint
    assert "psi=1" in absent["pressure"].hint
    assert "USB 3" in absent["camera"].hint
    assert set(absent) == {
        "i2c",
        "camera",
        "thermal",
        "firmware",
        "hailo",
        "sound",
        "pressure",
    }


@pytest.mark.req("R-RIG-17")
def test_a_gauge_at_the_servo_boards_address_is_named(tmp_path):
    found = only(scanned(tmp_path, [gauge(0x40)]), "pca9685")
    assert not found.present
    assert "INA219" in found.detail
    assert "0x41" in found.hint


@pytest.mark.req("R-RIG-17")
def test_two_chips_at_one_address_are_suspected(tmp_path):
    found = only(scanned(tmp_path, [Pca9685Chip(), gauge(0x40)]), "pca9685")
    assert not found.present
    assert "over each other" in found.hint


@pytest.mark.req("R-RIG-17")
def test_a_bus_on_which_nobody_answers_suspects_power_and_crossed_wires(tmp_path):
    found = only(scanned(tmp_path), "i2c")
    assert found.present
    assert "swapped" in found.hint
    assert "nobody" in found.detail


@pytest.mark.req("R-RIG-17")
def test_a_bus_that_hangs_is_asked_once(tmp_path):
    calls = []

    def stall(number, messages):
        calls.append(number)
        raise OSError(errno.ETIMEDOUT, "timed out")

    found = only(scanned(tmp_path, [Pca9685Chip()], faults=stall), "i2c")
    assert not found.present
    assert "power-cycle" in found.hint
    assert calls == [1]


def test_a_strange_chip_at_a_gauges_address_is_no_gauge(tmp_path):
    scan = scanned(tmp_path, [Pca9685Chip(address=0x42)])
    kinds = {each.kind: each for each in scan.found}
    assert not kinds["ina219"].present
    assert not kinds["battery"].present
    assert "not OK" in kinds["battery"].hint


def test_a_chip_that_no_driver_knows_gets_a_guess_that_says_so(tmp_path):
    scan = scanned(tmp_path, [gauge(0x68)])
    found = only(scan, "unknown")
    assert "MPU-6050" in found.detail
    assert "not checked" in found.detail


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (0x0, None),
        (0x1, "under-voltage now"),
        (0x10000, "since boot"),
        (0x4, "add cooling"),
    ],
)
def test_the_firmwares_flags_become_advice(tmp_path, monkeypatch, raw, words):
    monkeypatch.setattr(
        registry, "read_throttle_flags", lambda path: ThrottleFlags(raw=raw)
    )
    found = only(scanned(tmp_path), "firmware")
    assert found.present
    assert (found.hint is None) if words is None else (words in found.hint)


def test_heat_pressure_and_disk_are_read(tmp_path):
    (tmp_path / "class/thermal/thermal_zone0").mkdir(parents=True)
    (tmp_path / "class/thermal/thermal_zone0/temp").write_text("61234\n")
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure/memory").write_text("full avg10=1.50 avg60=0 total=1\n")
    scan = scanned(tmp_path)
    assert only(scan, "thermal").detail == "61.2 C"
    assert "1.50 %" in only(scan, "pressure").detail
    assert "GB free" in only(scan, "disk").detail


def test_a_sound_card_that_records_is_named(tmp_path):
    place = tmp_path / "asound/card1/pcm0c"
    place.mkdir(parents=True)
    (place / "info").write_text("card: 1\nname: USB Audio\n")
    (tmp_path / "asound/card1/pcm1c").mkdir()
    (tmp_path / "asound/card1/pcm1c/info").write_text("card: 1\n")
    found = only(scanned(tmp_path), "sound")
    assert (found.present, found.detail) == (True, "USB Audio")


def test_a_full_disk_gets_a_hint(tmp_path, monkeypatch):
    full = types.SimpleNamespace(f_bavail=10, f_blocks=1000, f_frsize=4096)
    monkeypatch.setattr(registry.os, "statvfs", lambda place: full)
    assert "free space" in only(scanned(tmp_path), "disk").hint


@pytest.mark.req("R-RIG-18")
@pytest.mark.parametrize(
    ("node", "vendor", "present", "word"),
    [
        (True, None, True, "driver"),
        (False, "0x1e60", False, "hailo-all"),
        (False, "0x14e4", False, None),
    ],
)
def test_an_accelerator_without_its_driver_is_told_from_none(
    tmp_path, node, vendor, present, word
):
    if node:
        (tmp_path / "hailo0").write_bytes(b"")
    if vendor:
        place = tmp_path / "bus/pci/devices/0000:01:00.0"
        place.mkdir(parents=True)
        (place / "vendor").write_text(vendor + "\n")
    found = only(scanned(tmp_path), "hailo")
    assert found.present is present
    assert word is None or word in f"{found.detail} {found.hint}"


def test_a_depth_camera_is_seen_on_usb_without_booting_it(tmp_path, monkeypatch):
    usb(tmp_path, name="Movidius MyriadX")
    usb(tmp_path, vendor="046d", product="0825", name="Webcam")
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
    found = only(scanned(tmp_path), "camera")
    assert "OAK depth camera (Movidius MyriadX), 480 Mbit/s" in found.detail
    assert "continuon[oak]" in found.hint
    assert [device.vendor for device in list_usb(tmp_path)] == ["046d", "03e7"]


def test_a_nameless_depth_camera_with_its_package_needs_a_udev_rule_at_most(
    tmp_path, monkeypatch
):
    usb(tmp_path)
    real = registry.importlib.util.find_spec
    monkeypatch.setattr(
        registry.importlib.util,
        "find_spec",
        lambda name: real(name) if name != "depthai" else object(),
    )
    found = only(scanned(tmp_path), "camera")
    assert "unnamed" in found.detail
    assert "udev" in found.hint
    (tmp_path / "bus/usb/001").mkdir()
    (tmp_path / "bus/usb/001/007").write_bytes(b"")
    assert only(scanned(tmp_path), "camera").hint is None


def test_picamera2_is_asked_where_it_is_installed(tmp_path, monkeypatch):
    class Picamera2:
        @staticmethod
        def global_camera_info():
            return [{"Model": "ov5647", "Num": 1}]

    monkeypatch.setitem(
        sys.modules, "picamera2", types.SimpleNamespace(Picamera2=Picamera2)
    )
    found = only(scanned(tmp_path), "camera")
    assert (found.where, found.detail) == ("libcamera 1", "ov5647")


def test_only_a_cameras_first_node_is_a_camera(tmp_path):
    video(tmp_path, "video0", "UVC Camera")
    video(tmp_path, "video1", "UVC Camera", index="1")
    video(tmp_path, "video19", "rpi-hevc-dec")
    (tmp_path / "class/video4linux/video5").mkdir()
    assert video_nodes(tmp_path) == (("video0", "UVC Camera"), ("video5", ""))
    (tmp_path / "video0").write_bytes(b"")
    found = [e for e in scanned(tmp_path).found if e.kind == "camera"]
    assert [each.present for each in found] == [True, False]


@pytest.mark.req("R-RIG-18")
def test_the_depth_camera_wins_then_the_pis_own_then_usb(tmp_path, monkeypatch):
    clock = ManualClock()
    with pytest.raises(HardwareError) as caught:
        find_camera(CameraWish(), clock, sys=tmp_path, dev=tmp_path)
    assert caught.value.code == "E-RIG-CAM-007"
    assert "OAK" in caught.value.seen
    assert "python3-picamera2" in caught.value.seen
    video(tmp_path, "video0", "UVC Camera")
    found = find_camera(CameraWish(width=320), clock, sys=tmp_path, dev=tmp_path)
    assert isinstance(found, V4l2Camera)
    assert (found.name, found.width) == (str(tmp_path / "video0"), 320)
    seen = []
    picamera2 = types.SimpleNamespace(
        Picamera2=types.SimpleNamespace(global_camera_info=lambda: seen)
    )
    monkeypatch.setitem(sys.modules, "picamera2", picamera2)
    found = find_camera(CameraWish(), clock, sys=tmp_path, dev=tmp_path)
    assert isinstance(found, V4l2Camera)
    seen.append({"Model": "imx708"})
    found = find_camera(CameraWish(), clock, sys=tmp_path, dev=tmp_path)
    assert isinstance(found, Picamera2Camera)
    usb(tmp_path)
    found = find_camera(CameraWish(), clock, sys=tmp_path, dev=tmp_path)
    assert isinstance(found, OakCamera)
    with pytest.raises(HardwareError, match="OAK"):
        find_camera(CameraWish(kind="oak"), clock, sys=tmp_path / "x", dev=tmp_path)
    found = find_camera(CameraWish(kind="v4l2"), clock, sys=tmp_path, dev=tmp_path)
    assert isinstance(found, V4l2Camera)
