"""Tracks, the car, the expert: the world without a camera."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest

from continuon.errors import UsageError
from continuon.sim import Disturbance, SimRig, Start, drive, make_track
from continuon.sim.car import CarParameters, CarState, step
from continuon.sim.world import World, command_of, draw_start

HELD_OUT = (9001, 9002)


@pytest.mark.req("R-SIM-02")
@pytest.mark.parametrize("seed", range(12))
def test_a_track_is_closed_drivable_and_bends_both_ways(seed):
    track = make_track(seed)
    gaps = np.hypot(*(np.roll(track.points_m, -1, axis=0) - track.points_m).T)
    assert gaps == pytest.approx(track.spacing_m, rel=0.02)
    assert 20.0 <= track.length_m <= 35.0
    assert np.abs(track.curvature_per_m).max() <= 0.95
    assert track.curvature_per_m.min() < -0.1
    assert track.curvature_per_m.max() > 0.1
    turned = track.curvature_per_m.sum() * track.spacing_m
    assert abs(turned) == pytest.approx(2 * math.pi, rel=0.01)


def test_some_tracks_run_clockwise_and_some_do_not():
    turns = {np.sign(make_track(seed).curvature_per_m.sum()) for seed in range(12)}
    assert turns == {1.0, -1.0}


def test_a_place_beside_the_line_is_found_again():
    track = make_track(4)
    for s_m in (0.3, 7.7, track.length_m - 0.1):
        x, y, _ = track.pose_at(s_m, 0.12)
        for near in (None, s_m + 0.2, s_m + 9.0):
            place = track.locate(x, y, near_s_m=near)
            assert place.lateral_m == pytest.approx(0.12, abs=0.01)
            assert place.s_m == pytest.approx(s_m, abs=0.05)


@pytest.mark.parametrize("kwargs", [{"seed": -1}, {"seed": 1, "lane_width_m": 3.0}])
def test_a_senseless_track_is_refused(kwargs):
    with pytest.raises(UsageError):
        make_track(**kwargs)


def rolled(ticks, **command):
    state = CarState(x_m=0.0, y_m=0.0, heading_rad=0.0)
    command = {"steering_target": 0.0, "throttle": 0.0} | command
    for _ in range(ticks):
        state = step(state, CarParameters(), dt_s=0.005, **command)
    return state


def test_positive_steering_turns_right():
    state = rolled(200, steering_target=0.5, throttle=0.3)
    assert state.yaw_rate_rad_s < 0
    assert state.y_m < 0


def test_the_servo_slews_and_ignores_its_dead_band():
    assert rolled(10, steering_target=1.0).steering == pytest.approx(0.4)
    assert rolled(100, steering_target=0.005).steering == 0.0
    assert rolled(100, steering_target=None).steering == 0.0


def test_throttle_lags_and_friction_stops_the_car():
    moving = rolled(400, throttle=0.4)
    assert moving.speed_mps == pytest.approx(0.4 * 4.0 - 0.105, rel=0.02)
    for _ in range(600):
        moving = step(
            moving, CarParameters(), steering_target=0.0, throttle=0.0, dt_s=0.005
        )
    assert moving.speed_mps == 0.0


def test_the_tyres_let_go_beyond_their_grip():
    fast = attrs.evolve(rolled(1000, throttle=1.0), steering=1.0)
    state = step(fast, CarParameters(), steering_target=1.0, throttle=1.0, dt_s=0.005)
    assert abs(state.yaw_rate_rad_s) * state.speed_mps == pytest.approx(6.0, rel=0.01)


@pytest.mark.parametrize(
    ("pulse_us", "command"),
    [(0.0, None), (math.inf, None), (700.0, None), (1500.0, 0.0), (2100.0, 1.0)],
)
def test_what_is_no_servo_pulse_is_no_command(pulse_us, command):
    assert command_of(pulse_us) == command


@pytest.mark.req("R-SIM-12")
def test_a_car_without_pulses_stands():
    track = make_track(1)
    world = World(track, draw_start(track, 1), pulses_us=dict)
    world.disturbance = Disturbance(1, amplitude=0.5)
    pose = world.pose
    for _ in range(50):
        world.step()
    assert world.pose == pose


def test_progress_counts_over_the_seam_and_backwards():
    track = make_track(1)
    pulses = {0: 1600.0, 1: 1500.0}
    world = World(track, Start(s_m=track.length_m - 0.1), pulses_us=lambda: pulses)
    while world.distance_m < 0.3:
        world.step()
    assert world.progress_m == pytest.approx(0.3, abs=0.02)
    pulses[0] = 1400.0
    while world.progress_m > -0.2:
        world.step()
    assert world.laps < 0


@pytest.mark.req("R-SIM-03")
@pytest.mark.slow
@pytest.mark.parametrize("seed", HELD_OUT)
def test_the_expert_drives_three_laps_in_its_lane(seed):
    with SimRig(seed, width=32, height=24) as rig:
        run = drive(rig, lambda *_: rig.expert(), look=False, max_duration_s=120)
    assert not run.left_lane
    assert run.laps >= 3.0
    assert run.lateral_rms_m < 0.05


@pytest.mark.req("R-SIM-03")
@pytest.mark.parametrize("seed", range(9100, 9106))
def test_straight_driving_leaves_the_lane_within_four_metres(seed):
    straight = np.array([0.0, 0.35], np.float32)
    with SimRig(seed, width=32, height=24) as rig:
        run = drive(rig, lambda *_: straight, look=False)
    assert run.left_lane
    assert run.progress_m < 4.0


@pytest.mark.req("R-SIM-09")
def test_a_disturbance_moves_the_wheels_and_not_the_command():
    with SimRig(5, width=32, height=24) as rig:
        drive(rig, lambda *_: rig.expert(noise=0.4), look=False, max_duration_s=4.0)
        commanded = command_of(rig.chip.pulses_us()[1])
        intended = float(rig.expert()[0])
        push = rig.world.disturbance.steering_at(4.0)
    assert abs(commanded - intended) < 0.1
    assert push != 0.0
    assert abs(rig.world.steering_position - commanded) > 0.02


def test_a_disturbance_is_smooth_bounded_and_sometimes_quiet():
    push = Disturbance(3, amplitude=0.3)
    values = np.array([push.steering_at(t) for t in np.arange(0, 60, 0.005)])
    assert np.abs(values).max() <= 0.3
    assert np.abs(np.diff(values)).max() < 0.02
    assert (values == 0).mean() > 0.05
    assert Disturbance(3).steering_at(1.0) == 0.0


@pytest.mark.parametrize("start", [1.5, -0.1])
def test_a_start_is_a_share_of_the_track(start):
    with pytest.raises(UsageError):
        SimRig(1, start=start)


def test_starts_lie_at_bends_and_differ_by_seed():
    track = make_track(2)
    starts = {draw_start(track, seed).s_m for seed in range(5)}
    assert len(starts) == 5
    assert all(np.isclose(track.curve_starts_m(), s).any() for s in starts)
