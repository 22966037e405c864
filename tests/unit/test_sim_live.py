"""The world in a process of its own, shared by others."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

from continuon.errors import DataError, HardwareError
from continuon.rig.calibration import car_pulses_us
from continuon.sim import live
from continuon.sim.live import attach, start_live_rig
from continuon.sim.live_rig import LiveCamera, LiveState
from continuon.sim.shared import Control, Record, SharedWorld, Truth

CONFIG = {
    "seed": 1,
    "track_seed": 1,
    "width": 31,
    "height": 23,
    "rate_hz": 30.0,
    "state_rate_hz": 100.0,
    "start": None,
    "depth": True,
    "faults": [],
}


@pytest.fixture
def shared(tmp_path):
    world = SharedWorld.create(tmp_path / "world", CONFIG)
    yield world
    world.close()


@pytest.fixture(scope="module")
def handle():
    with start_live_rig(3, width=64, height=48) as started:
        yield started
    assert not Path(started.path).exists()


def until(condition, what):
    for _ in range(600):
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    pytest.fail(f"waited in vain: {what}")


def test_a_record_that_is_being_written_is_not_read(shared):
    record = Record(shared.memory, 4096 + 512, "dd")
    assert record.read() is None
    record.write(1.0, 2.0)
    struct.pack_into("<Q", shared.memory, 4096 + 512, 7)
    assert record.read() is None
    record.write(3.0, 4.0)
    assert record.read() == (3.0, 4.0)
    struct.pack_into("<Qd", shared.memory, 4096 + 512, 9, 5.0)
    assert record.read() == (3.0, 4.0), "what was there before"


def test_a_clock_is_waited_for_while_the_world_writes_it(shared, monkeypatch):
    """A starved world is held anywhere, for one right after a loop was started."""
    at = shared._camera._offset
    shared.write_clock("camera", (1, 20, 30, 40))
    (whole,) = struct.unpack_from("<Q", shared.memory, at)
    struct.pack_into("<Q", shared.memory, at, whole + 1)
    camera = LiveCamera(shared)
    waited = []

    def wait(seconds):
        waited.append(seconds)
        if len(waited) == 5:
            struct.pack_into("<Q", shared.memory, at, whole + 2)

    monkeypatch.setattr("continuon.sim.live_rig.time.sleep", wait)
    assert camera.clock_offset().offset_ns == 20
    struct.pack_into("<Q", shared.memory, at, whole + 3)
    waited[:] = [0.0] * 9
    assert camera.clock_offset().offset_ns == 20
    with pytest.raises(HardwareError, match="E-SIM-LIVE-005"):
        LiveState(shared).clock_offset()


def test_a_frame_that_was_replaced_is_not_read(shared):
    import numpy as np

    rgb = np.full((23, 31, 3), 5, np.uint8)
    depth = np.full((23, 31), 700, np.uint16)
    for index in range(5):
        shared.write_frame(index, (index, 2, 3, 4), (rgb, depth))
    assert shared.read_frame(0) is None
    stamps, seen, far = shared.read_frame(4)
    assert stamps == (4, 2, 3, 4)
    assert np.array_equal(seen, rgb)
    assert np.array_equal(far, depth)


def test_shared_values_come_back(shared):
    assert shared.read_truth() is None
    names = [field.name for field in attrs.fields(Truth)]
    truth = Truth(**dict(zip(names, map(float, range(14)), strict=True)))
    shared.write_truth(truth)
    assert shared.read_truth() == truth
    assert shared.read_clock("camera") is None
    assert shared.read_control().resets == 0
    shared.write_control(Control(celsius=60.0, resets=3, battery_v=7.5))
    again = SharedWorld.open(shared.path)
    assert again.read_control() == Control(celsius=60.0, resets=3, battery_v=7.5)
    assert again.config == CONFIG
    again.close()


def test_a_file_that_is_no_world_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        attach(str(tmp_path / "none"))
    assert caught.value.code == "E-SIM-LIVE-001"
    (tmp_path / "other").write_bytes(b"x" * 64)
    with pytest.raises(DataError) as caught:
        attach(str(tmp_path / "other"))
    assert caught.value.code == "E-SIM-LIVE-002"


@pytest.mark.slow
@pytest.mark.req("R-SIM-10")
def test_pulses_written_here_move_the_car_there(handle):
    with (
        attach(pickle.loads(pickle.dumps(handle))) as rig,
        attach(handle.path) as other,
    ):
        rig.servos.set_pulses_us(car_pulses_us(rig.expert(noise=0.1), rig.calibration))
        until(lambda: other.world.speed_mps > 0.3, "speed")
        assert rig.chip.violations == []
        frame = until(other.camera.poll, "a frame")
        assert frame.rgb.shape == (48, 64, 3)
        assert frame.depth_capture_ns > frame.capture_ns
        assert until(other.state.drain, "readings")[0].values.shape == (3,)
        until(other.state.poll, "a reading")
        assert other.camera.clock_offset().uncertainty_ns > 0
        assert other.state.clock_offset().device == "chassis"
        assert other.world.laps == pytest.approx(
            other.world.progress_m / other.world.track.length_m, abs=0.01
        )
        assert other.thermal.read().celsius == 52.0
        assert rig.battery.read().volts > 7.0
        rig.servos.full_off()
        until(lambda: other.world.speed_mps == 0.0, "a stop")
        handle.reset(start=0.5)
        until(lambda: abs(other.world.progress_m) < 1e-6, "a reset")
        assert other.world.on_lane
        x, y, _ = other.world.pose
        assert (other.world.x_m, other.world.y_m) == (x, y)
        assert abs(other.world.lateral_error_m) < 0.01


@pytest.mark.slow
def test_faults_reach_every_process_and_go_again(handle):
    with attach(handle) as rig:
        handle.unplug_camera()
        with pytest.raises(HardwareError):
            rig.camera.open()
        handle.unplug_camera(unplugged=False)
        until(rig.camera.poll, "frames after the cable")
        handle.fail_bus("nack")
        with pytest.raises(HardwareError) as caught:
            rig.servos.probe()
        assert caught.value.code == "E-RIG-I2C-003"
        handle.fail_bus("none")
        rig.servos.set_pulses_us({1: 1500.0})
        handle.fail_bus("reset")
        with pytest.raises(HardwareError) as caught:
            rig.servos.set_pulses_us({1: 1500.0})
        assert caught.value.code == "E-RIG-PCA-006"
        rig.servos.set_pulses_us({1: 1500.0})
        rig.servos.full_off()
        handle.heat(90.0)
        assert rig.thermal.read().throttled
        handle.heat(float("nan"))
        handle.hang_camera()
        until(lambda: rig.camera.poll() is None, "silence")
        handle.hang_camera(hangs=False)
        handle.hang_world()
        handle.hang_world(hangs=False)
        handle.disturb(0.0)
        until(rig.camera.poll, "frames after the hang")
        assert handle.alive


@pytest.mark.slow
@pytest.mark.req("R-SIM-10")
def test_a_world_ends_with_its_starter_and_leaves_nothing():
    code = (
        "from continuon.sim.live import start_live_rig\n"
        "h = start_live_rig(1, width=32, height=24, depth=False,"
        " faults=[{'at_s': 0.1, 'what': 'unplugged'}])\n"
        "print(h.pid, h.path, flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    with starter:
        pid, path = starter.stdout.readline().split()
        with attach(path) as rig, pytest.raises(HardwareError):
            until(lambda: rig.camera.poll() and None, "the scripted fault")
        starter.kill()
    until(lambda: not Path(path).exists(), "the world's end")
    until(lambda: not Path(f"/proc/{pid}").exists(), "the process's end")


@pytest.mark.slow
def test_a_world_that_dies_at_birth_is_an_error(monkeypatch):
    monkeypatch.setattr(live.sys, "executable", "/bin/false")
    with pytest.raises(HardwareError) as caught:
        start_live_rig(1, width=32, height=24)
    assert caught.value.code == "E-SIM-LIVE-003"


def test_what_a_killed_world_left_is_swept(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f"continuon-live-{dead.pid}-1"
    own = tmp_path / f"continuon-live-{os.getpid()}-1"
    for path in (left, own):
        path.write_bytes(b"")
    live._sweep(tmp_path)
    assert not left.exists()
    assert own.exists()
