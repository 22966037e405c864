"""What every rig must do, simulated or real."""

from __future__ import annotations

import numpy as np
import pytest

from continuon.rig.skew import skew_stats


def watch(rig, seconds, *, poll):
    got = []
    begin = now = rig.clock.monotonic_ns()
    while now - begin < seconds * 1e9:
        sample = poll()
        if sample is not None:
            got.append((now, sample))
        rig.clock.sleep_until_ns(now + 4_000_000)
        now = rig.clock.monotonic_ns()
    return got


def test_the_servo_board_answers_by_its_registers(servos):
    facts = servos.probe()
    assert 0x40 <= facts.address <= 0x7F
    assert 24 <= facts.frequency_hz <= 1600


def test_a_stop_reads_back_as_off_on_every_channel(servos):
    servos.open()
    servos.full_off()
    assert set(servos.read_pulses_us().values()) == {0.0}


@pytest.mark.usefixtures("may_move")
def test_a_pulse_reads_back_to_within_a_tick(rig, servos):
    steering = rig.calibration.steering
    for position in (-0.1, 0.1, 0.0):
        wanted = steering.pulse_us(position)
        servos.set_pulses_us({steering.channel: wanted})
        assert servos.read_pulses_us()[steering.channel] == pytest.approx(wanted, abs=6)
    servos.full_off()


def test_frames_have_the_asked_format_and_rate(rig, camera):
    frames = [frame for _, frame in watch(rig, 1.5, poll=camera.poll)]
    assert len(frames) > 20
    for frame in frames:
        assert frame.rgb.shape == (camera.height, camera.width, 3)
        assert frame.rgb.dtype == np.uint8
    gaps = np.diff([frame.capture_ns for frame in frames])
    assert 1e9 / np.median(gaps) == pytest.approx(camera.rate_hz, rel=0.05)


def test_frames_are_given_once_in_order_and_not_from_the_future(rig, camera):
    seen = watch(rig, 0.6, poll=camera.poll)
    sequences = [frame.sequence for _, frame in seen]
    assert sequences == sorted(set(sequences))
    slack = camera.clock_offset().uncertainty_ns + 1_000_000
    for now, frame in seen:
        assert 0 < now - frame.capture_ns + slack < 500_000_000


def test_colour_and_depth_of_a_frame_are_within_five_milliseconds(rig, camera):
    frames = [frame for _, frame in watch(rig, 1.5, poll=camera.poll)]
    if frames[0].depth is None:
        pytest.skip("this camera has no depth")
    apart = [frame.depth_capture_ns - frame.capture_ns for frame in frames]
    assert skew_stats(np.array(apart)).p99_ms <= 5.0


def test_the_cameras_clock_is_known_to_a_millisecond(camera):
    assert 0 <= camera.clock_offset().uncertainty_ns < 1_000_000


def test_state_has_its_names_and_rate(rig, state):
    samples = [sample for _, sample in watch(rig, 0.6, poll=state.poll)]
    assert len(samples) > 10
    assert all(len(sample.values) == len(state.names) for sample in samples)
    assert all(np.isfinite(sample.values).all() for sample in samples)


def test_the_battery_gives_a_voltage_of_now(rig, battery):
    reading = battery.read()
    assert 2.5 < reading.volts < 26
    assert abs(rig.clock.monotonic_ns() - reading.capture_ns) < 10**9


def test_the_soc_is_neither_frozen_nor_molten(thermal):
    assert 0 < thermal.read().celsius < 100


@pytest.mark.physical
def test_two_battery_readings_differ_as_real_ones_do(rig, battery):
    if rig.origin != "real":
        pytest.skip("needs the bench rig with real hardware")
    readings = {battery.read().amps for _ in range(20)}
    assert len(readings) > 1
