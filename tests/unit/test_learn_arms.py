"""What arms are learnt from is scaled by the training alone, and ridge is a fair bar."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("jax")

from continuon._specs.learn.arms import Raw, error, features, read_g1, ridge, scaled


def raw(seed, ticks=40, pictures=False):
    rng = np.random.default_rng(seed)
    state = rng.normal(3.0, 2.0, (ticks, 3))
    action = state @ np.array([[0.1, 1.0], [0.0, -2.0], [0.3, 0.0]]) + 5.0
    images = (
        rng.integers(0, 256, (ticks, 16, 16, 3))
        if pictures
        else np.zeros((ticks, 0, 0, 3))
    )
    return Raw(f"e{seed}", images, state, action)


def test_the_scale_is_the_trainings_and_takes_the_action_back_to_its_unit():
    training, held_out = [raw(0), raw(1)], [raw(2)]
    seen, unseen, span = scaled(training, held_out)
    every = np.concatenate([e.action for e in seen])
    np.testing.assert_allclose(every.min(0), -1.0, atol=1e-6)
    np.testing.assert_allclose(every.max(0), 1.0, atol=1e-6)
    other, _, again = scaled(training, [raw(3)])
    np.testing.assert_array_equal(again.half, span.half)
    np.testing.assert_array_equal(other[0].action, seen[0].action)
    held = held_out[0].action
    inside = np.abs(unseen[0].action) < 1.0
    steps = np.diff(unseen[0].action, axis=0) * span.half
    whole = inside[1:] & inside[:-1]
    np.testing.assert_allclose(steps[whole], np.diff(held, axis=0)[whole], atol=1e-5)


def test_ridge_finds_a_linear_teacher_and_pictures_enter_it():
    training, held_out, _ = scaled([raw(s) for s in range(5)], [raw(9)])
    assert error(held_out, ridge(training)).max() < 0.02
    seen, _, _ = scaled([raw(0, pictures=True)], [raw(1, pictures=True)])
    assert features(seen[0]).shape == (40, 3 + 64)


def test_the_humanoids_episodes_are_read(shared_data):
    pytest.importorskip("pyarrow")
    found = read_g1(shared_data)
    assert len(found) == 8
    assert sum(len(one.action) for one in found) == 2983
    assert found[0].state.shape[1] == found[0].action.shape[1] == 26
