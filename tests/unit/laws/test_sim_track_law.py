"""Laws of the simulated world, for any seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon.sim import Disturbance, World, make_track
from continuon.sim.world import draw_start

pytestmark = pytest.mark.law
SEEDS = st.integers(0, 2**31)


@pytest.mark.req("R-SIM-02")
@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_every_seed_gives_a_drivable_track(seed):
    track = make_track(seed)
    assert 20.0 <= track.length_m <= 35.0
    assert np.abs(track.curvature_per_m).max() <= 0.95
    assert np.ptp(track.points_m, axis=0).max() <= 9.9
    assert 0.5 < track.lane_width_m < 0.65


@pytest.mark.req("R-SIM-01")
@settings(max_examples=8, deadline=None)
@given(SEEDS, st.lists(st.floats(700, 2300), min_size=1, max_size=8))
def test_equal_pulses_give_equal_worlds(seed, pulses):
    ends = []
    for _ in range(2):
        now = {}
        world = World(
            make_track(seed % 50),
            draw_start(make_track(seed % 50), seed),
            pulses_us=lambda now=now: now,
            disturbance=Disturbance(seed, amplitude=0.3),
        )
        for pulse in pulses:
            now.update({0: pulse, 1: 3000 - pulse})
            for _ in range(5):
                world.step()
        ends.append((world.car, world.progress_m, world.lateral_error_m))
    assert ends[0] == ends[1]
    assert all(
        np.isfinite(ends[0][0].__getattribute__(n)) for n in ("x_m", "speed_mps")
    )
