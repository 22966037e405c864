"""The rig in virtual time: determinism, clocks, latency, pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from continuon.errors import DataError, HardwareError
from continuon.rig.calibration import car_pulses_us
from continuon.rig.skew import skew_stats
from continuon.sim import SimRig, make_track
from continuon.sim.chips import Pca9685Chip
from continuon.sim.clocks import DeviceClock, measure_offset
from continuon.sim.gauges import Ina219Chip
from continuon.sim.raycast import CameraModel, Renderer
from continuon.sim.replay import ReplayRig

SMALL = {"width": 64, "height": 48}


def watch(rig, seconds, *, action=None):
    frames, samples = [], []
    begin = rig.clock.monotonic_ns()
    for tick in range(1, int(seconds * 50) + 1):
        frame = rig.camera.poll()
        if frame is not None:
            frames.append(frame)
        samples += rig.state.drain()
        if action is not None:
            rig.servos.set_pulses_us(car_pulses_us(action, rig.calibration))
        rig.clock.sleep_until_ns(begin + tick * 20_000_000)
    return frames, samples


@pytest.mark.req("R-SIM-01")
def test_equal_seeds_give_equal_frames_stamps_and_states():
    runs = []
    for _ in range(2):
        with SimRig(7, **SMALL) as rig:
            frames, samples = watch(rig, 0.6, action=[0.2, 0.3])
            runs.append((frames, samples, rig.world.pose))
    (a, sa, pa), (b, sb, pb) = runs
    assert pa == pb
    assert [f.capture_ns for f in a] == [f.capture_ns for f in b]
    assert all(np.array_equal(x.rgb, y.rgb) for x, y in zip(a, b, strict=True))
    assert all(np.array_equal(x.depth, y.depth) for x, y in zip(a, b, strict=True))
    assert all(np.array_equal(x.values, y.values) for x, y in zip(sa, sb, strict=True))


def test_another_track_looks_different():
    frames = []
    for seed in (1, 2):
        with SimRig(1, track_seed=seed, **SMALL) as rig:
            frames.append(watch(rig, 0.1)[0][0].rgb.mean(axis=(0, 1)))
    assert np.abs(frames[0] - frames[1]).max() > 5


@pytest.mark.req("R-SIM-06")
def test_samples_come_late_once_and_in_order():
    with SimRig(3, **SMALL) as rig:
        arrived = []
        begin = rig.clock.monotonic_ns()
        for tick in range(1, 400):
            rig.clock.sleep_until_ns(begin + tick * 1_000_000)
            frame = rig.camera.poll()
            if frame is not None:
                arrived.append((rig.clock.monotonic_ns() - frame.capture_ns, frame))
        late = [age for age, _ in arrived]
        assert min(late) > 15e6
        assert [f.sequence for _, f in arrived] == list(range(len(arrived)))
        rig.clock.sleep_until_ns(rig.clock.monotonic_ns() + 10**9)
        newest = rig.camera.poll()
        assert newest.sequence > len(arrived) + 20
        assert rig.camera.poll() is None
        assert len(rig.state.drain()) > 100
        assert rig.state.poll() is None


@pytest.mark.req("R-SIM-06")
def test_rates_are_those_asked_for():
    with SimRig(3, **SMALL) as rig:
        frames, samples = watch(rig, 1.5)
    for stamps, rate in ((frames, 30.0), (samples, 100.0)):
        gaps = np.diff([each.capture_ns for each in stamps])
        assert 1e9 / gaps.mean() == pytest.approx(rate, rel=0.01)


@pytest.mark.req("R-SIM-05")
def test_depth_follows_colour_by_one_to_three_measured_milliseconds():
    with SimRig(3, **SMALL) as rig:
        frames, _ = watch(rig, 1.5)
    stats = skew_stats(np.array([f.depth_capture_ns - f.capture_ns for f in frames]))
    assert 0.5 < stats.p50_ms < 3.0
    assert stats.max_ms > stats.p50_ms


@pytest.mark.req("R-SIM-15")
def test_depth_is_seen_from_where_the_car_was_at_its_own_exposure():
    renderer = Renderer(3, CameraModel(width=160, height=120), seed=1)
    here = make_track(3).pose_at(4.0)
    there = (here[0] + 0.05, here[1], here[2] + 0.02)
    both = renderer.view(here, sequence=5, depth_pose=there)
    assert np.array_equal(both.rgb, renderer.view(here, sequence=5).rgb)
    assert np.array_equal(both.depth, renderer.view(there, sequence=5).depth)
    assert not np.array_equal(both.depth, renderer.view(here, sequence=5).depth)


@pytest.mark.req("R-SIM-15")
def test_a_driving_car_moves_between_colour_and_depth_as_far_as_its_stamps_say():
    with SimRig(3, **SMALL) as rig:
        for _ in range(60):
            pulses = car_pulses_us(rig.expert(), rig.calibration)
            rig.servos.set_pulses_us(pulses)
            rig.clock.sleep_until_ns(rig.clock.monotonic_ns() + 20_000_000)
        speed = rig.world.speed_mps
        seen = list(rig.camera._waiting)
    assert speed > 0.5
    assert seen
    for each in seen:
        apart_s = (each.depth_device_ns - each.device_ns) / 1e9
        moved = math.dist(each.depth_pose[:2], each.pose[:2])
        assert moved == pytest.approx(speed * apart_s, rel=0.25)


@pytest.mark.req("R-SIM-05")
def test_an_offset_is_right_to_within_its_uncertainty():
    rng = np.random.default_rng(0)
    for seed in range(30):
        device = DeviceClock.draw("d", np.random.default_rng(seed))
        host_ns = 10**12 + seed * 10**9
        offset = measure_offset(device, host_ns, rng)
        true_ns = host_ns - device.read_ns(host_ns)
        assert abs(offset.offset_ns - true_ns) <= offset.uncertainty_ns + 50
        assert offset.uncertainty_ns < 500_000


def test_a_camera_without_depth_says_so():
    with SimRig(3, depth=False, **SMALL) as rig:
        frame = watch(rig, 0.1)[0][0]
    assert frame.depth is None
    assert frame.depth_capture_ns is None


def test_an_unplugged_camera_is_an_error():
    with SimRig(3, **SMALL) as rig:
        rig.camera.open()
        rig.camera.plugged = False
        with pytest.raises(HardwareError) as caught:
            rig.camera.poll()
    assert caught.value.code == "E-RIG-CAM-001"


@pytest.mark.req("R-SIM-12")
def test_closing_turns_every_output_off():
    rig = SimRig(3, **SMALL)
    watch(rig, 0.1, action=[0.0, 0.5])
    assert rig.chip.pulses_us()[0] > 0
    rig.close()
    rig.close()
    assert set(rig.chip.pulses_us().values()) == {0.0}
    assert rig.chip.violations == []


def test_the_battery_sinks_under_load():
    with SimRig(3, **SMALL) as rig:
        rest = rig.battery.read()
        watch(rig, 0.6, action=[0.0, 0.8])
        loaded = rig.battery.read()
    assert loaded.amps < rest.amps < 0
    assert loaded.volts < rest.volts


@pytest.mark.req("R-SIM-04")
def test_depth_of_the_ground_follows_from_the_row():
    model = CameraModel(width=160, height=120)
    view = Renderer(3, model, seed=1).view(make_track(3).pose_at(2.0), sequence=5)
    row = 100
    expected_mm = (
        1000 * model.focal_px * model.height_m / (row + 0.5 - round(0.32 * 120))
    )
    known = view.depth[row][view.depth[row] > 0]
    assert len(known) > 140
    assert np.median(known) == pytest.approx(expected_mm, rel=0.01)
    assert 0 < (view.depth == 0).mean() < 0.2
    assert view.depth.max() <= 10_000


def test_the_lane_lines_stand_out_from_the_road():
    track = make_track(0)
    view = Renderer(0, CameraModel(), seed=1).view(track.pose_at(2.0), sequence=0)
    brightness = view.rgb[300].astype(int).sum(axis=1)
    assert brightness.max() > 2 * np.median(brightness)


def test_noise_depends_on_the_sequence_alone():
    renderer = Renderer(3, CameraModel(width=64, height=48), seed=1)
    pose = make_track(3).pose_at(4.0)
    first = renderer.view(pose, sequence=1).rgb
    second = renderer.view(pose, sequence=2).rgb
    assert np.array_equal(renderer.view(pose, sequence=1).rgb, first)
    apart = np.abs(first.astype(int) - second.astype(int))
    assert 0 < apart.max() <= 12


@pytest.mark.req("R-SIM-07")
def test_the_chip_keeps_the_rules_of_its_data_sheet():
    chip = Pca9685Chip(clock_s=lambda: 0.0)
    chip.write(bytes([0x00, 0x20]))
    chip.write(bytes([0xFE, 100]))
    assert chip.violations[-1] == ("prescale written awake", 100)
    chip.write(bytes([0xF0, 1]))
    assert chip.violations[-1][0] == "reserved register written"
    chip.write(bytes([0x06, 0, 0, 0x32, 0x01]))
    assert chip.pulses_us()[0] == 0.0
    chip.stop()
    assert chip.pulses_us()[0] > 0.0
    chip.write(bytes([0x07, 0x10, 0, 0x10]))
    chip.stop()
    assert chip.pulses_us()[0] == 0.0
    chip.write(bytes([0x06, 0, 0, 0x32, 0x01]))
    chip.write(bytes([0x00, 0x30]))
    assert chip.violations[-1][0] == "put to sleep while driving"
    assert chip.memory[0] & 0x80
    chip.write(bytes([0x00, 0xA0]))
    assert chip.violations[-1][0] == "restart before 500 us"
    chip.write(bytes([0xFD]))
    assert chip.read(1) == b"\x00"
    chip.write(bytes([0x45]))
    chip.read(1)
    assert chip.read(1) == bytes([chip.memory[0]])
    chip.software_reset()
    assert chip.memory[0] == 0x11
    assert chip.addresses() == {0x40, 0x70}


def test_the_gauge_answers_words_over_and_over():
    chip = Ina219Chip(volts=lambda: 8.0, amps=lambda: -1.0)
    chip.write(bytes([0, 0x12, 0x34]))
    assert chip.read(3) == b"\x12\x34\x12"
    chip.power_on()
    assert chip.read(2) == b"\x39\x9f"


def frames(count=10, period_ns=50_000_000):
    return [(7_000 + i * period_ns, bytes([i])) for i in range(count)]


def decode(blob):
    return np.full((12, 16, 3), blob[0], np.uint8)


@pytest.mark.req("R-SIM-11")
def test_a_recording_is_shown_again_at_its_own_intervals():
    with ReplayRig(frames(), decode) as rig:
        shown = []
        rig.camera.open()
        begin = rig.clock.monotonic_ns()
        for tick in range(60):
            rig.clock.sleep_until_ns(begin + tick * 10_000_000)
            frame = rig.camera.poll()
            if frame is not None:
                shown.append(frame)
    assert rig.origin == "replayed"
    assert [f.rgb[0, 0, 0] for f in shown] == list(range(10))
    assert {int(d) for d in np.diff([f.capture_ns for f in shown])} == {50_000_000}
    assert rig.camera.finished
    assert (
        rig.camera.clock_offset().to_host_ns(shown[3].device_ns) == shown[3].capture_ns
    )


@pytest.mark.req("R-SIM-11")
def test_a_looped_recording_goes_on_counting():
    with ReplayRig(frames(), decode, loop=True) as rig:
        rig.camera.open()
        rig.clock.sleep_until_ns(rig.clock.monotonic_ns() + 730_000_000)
        frame = rig.camera.poll()
        rig.servos.set_pulses_us({0: 1500.0})
    assert (frame.sequence, frame.rgb[0, 0, 0]) == (14, 4)
    assert not rig.camera.finished


@pytest.mark.parametrize("bad", [frames(1), [(5, b"\0"), (5, b"\1")]])
def test_what_cannot_be_replayed_is_refused(bad):
    with pytest.raises(DataError):
        ReplayRig(bad, decode)


def test_an_exposure_sees_the_pose_of_its_own_instant():
    with SimRig(3, start=0.0, **SMALL) as rig:
        poses = []
        camera = rig.camera
        expose = camera.expose
        camera.expose = lambda pose_at: (
            poses.append((at := camera.next_exposure_ns(), *pose_at(at))),
            expose(pose_at),
        )
        watch(rig, 1.5, action=[0.0, 0.6])
        speed = rig.world.speed_mps
    (t0, x0, y0, _), (t1, x1, y1, _) = poses[-2:]
    moved = float(np.hypot(x1 - x0, y1 - y0))
    assert moved == pytest.approx(speed * (t1 - t0) / 1e9, rel=0.02)
