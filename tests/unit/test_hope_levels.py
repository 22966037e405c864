"""Actions of a teacher who steers by keys are drawn to the keys' levels."""

from __future__ import annotations

import attrs
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon._specs.hope.examples import TINY
from continuon.hope.levels import drawn

KEYED = attrs.evolve(TINY, action_levels=("steering",))
SIZES = st.floats(-1.0, 1.0, width=32)


def steered(*values):
    """Return what is made of steering values; throttle is 0.3 throughout."""
    rows = np.stack([np.float32(values), np.full(len(values), 0.3, np.float32)], 1)
    told = drawn(KEYED, rows)
    assert told.dtype == np.float32
    np.testing.assert_array_equal(told[:, 1], rows[:, 1])
    return told[:, 0]


@pytest.mark.req("R-HOPE-85")
def test_levels_and_what_is_half_way_stay_and_the_rest_comes_nearer():
    stays = [-1.0, -0.5, 0.0, 0.5, 1.0]
    np.testing.assert_allclose(steered(*stays), stays, atol=1e-6)
    assert steered(0.2)[0] < 0.1
    assert steered(-0.8)[0] < -0.9


@pytest.mark.req("R-HOPE-85")
@settings(max_examples=50, deadline=None)
@given(SIZES, SIZES)
def test_drawing_keeps_the_order_and_the_side_and_stays_in_range(one, two):
    low, high = steered(min(one, two), max(one, two))
    assert -1.0 <= low <= high + 1e-6
    assert high <= 1.0
    assert low * min(one, two) >= 0.0


def test_without_levels_nothing_is_touched_and_jax_gives_what_numpy_gives():
    told = np.float32([[0.3, -0.7]])
    assert drawn(TINY, told) is told
    np.testing.assert_allclose(drawn(KEYED, jnp.asarray(told)), drawn(KEYED, told))
