"""Sideways motion between frames: its size, its sign, and where there is none."""

from __future__ import annotations

import itertools

import attrs
import jax.numpy as jnp
import numpy as np
import pytest

from continuon import hope
from continuon._specs.hope.examples import TINY, furthest, observations, parameters
from continuon.edge.motion import Motion
from continuon.hope.motion import band_sums, motion_of, normalised

CONFIG = attrs.evolve(TINY, image_height=12, image_width=40, motion_bands=3)


def picture(shift_px):
    """Return a smooth grey frame [12, 40], seen from `shift_px` further left."""
    columns = np.arange(40) - shift_px
    wave = np.sin(columns / 3.0) + 0.5 * np.cos(columns / 5.0)
    rows = 1.0 + 0.2 * np.arange(12)[:, None]
    return (rows * wave[None]).astype(np.float32)


def seen(now, before):
    frames = [normalised(jnp.asarray(frame)) for frame in (now, before)]
    return np.asarray(motion_of(CONFIG, *frames))


@pytest.mark.req("R-HOPE-24")
@pytest.mark.parametrize("shift_px", [-1.0, -0.3, 0.4, 1.2])
def test_a_picture_that_moves_as_a_whole_is_measured_to_a_fifth(shift_px):
    np.testing.assert_allclose(seen(picture(shift_px), picture(0)), shift_px, rtol=0.2)


@pytest.mark.req("R-HOPE-24")
def test_a_mirror_turns_the_sign_and_a_still_or_flat_picture_has_none():
    right = seen(picture(0.5), picture(0))
    left = seen(picture(0.5)[:, ::-1], picture(0)[:, ::-1])
    np.testing.assert_allclose(left, -right, atol=1e-5)
    assert np.abs(seen(picture(0), picture(0))).max() == 0.0
    flat = np.full((12, 40), 7.0, np.float32)
    assert np.abs(seen(flat, flat)).max() == 0.0


def test_light_that_changes_as_a_whole_is_no_motion():
    brighter = 1.5 * picture(0) + 0.2
    assert np.abs(seen(brighter, picture(0))).max() < 1e-2


def test_every_row_counts_once():
    sums = band_sums(attrs.evolve(CONFIG, motion_bands=5))
    np.testing.assert_allclose(sums.sum(0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(sums.sum(1), 12 / 5, rtol=1e-6)


def test_the_edge_measures_the_same():
    rng = np.random.default_rng(0)
    frames = rng.uniform(-0.5, 0.5, (4, 12, 40)).astype(np.float32)
    edge = Motion(3)
    assert np.abs(edge(frames[0])).max() == 0.0
    for before, now in itertools.pairwise(frames):
        np.testing.assert_allclose(edge(now), seen(now, before), atol=1e-5)
    edge.reset()
    assert np.abs(edge(frames[0])).max() == 0.0


@pytest.mark.slow
@pytest.mark.req("R-HOPE-24")
def test_ticks_that_do_not_follow_one_another_show_no_motion():
    still = {name: np.repeat(v[:, :1], 8, 1) for name, v in observations(TINY).items()}
    moving = {**still, "image": observations(TINY, ticks=8)["image"]}
    params, state = parameters(TINY), hope.init_state(TINY, 2)

    def run(obs, follows):
        return hope.sequence(params, TINY, state, obs, follows=follows)[1].action

    none = jnp.zeros((2, 8), bool)
    dark = {**params, "encoder": {**params["encoder"]}}
    dark["encoder"]["motion"] = 0.0 * params["encoder"]["motion"]
    blind = hope.sequence(dark, TINY, state, moving)[1].action
    assert furthest(run(moving, none), blind) < 1e-6
    assert furthest(run(moving, None), blind) > 1e-4
    assert furthest(run(still, None), run(still, none)) < 1e-6
