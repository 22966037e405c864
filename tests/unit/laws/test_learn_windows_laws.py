from __future__ import annotations

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon._specs.learn.examples import RECIPE, episode_of
from continuon.learn.controls import deal_labels
from continuon.learn.windows import WindowSampler

lengths = st.lists(st.integers(1, 12), min_size=1, max_size=4)


def numbered(ticks):
    """Episodes whose pixels say (episode, tick), so that a mixture is seen."""
    episodes = []
    for index, count in enumerate(ticks):
        images = np.zeros((count, 4, 6, 3), np.uint8)
        images[..., 0] = index + 1
        images[..., 1] = np.arange(count)[:, None, None]
        action = np.full((count, 2), index / 10)
        episodes.append(episode_of(index, images, action))
    return tuple(episodes)


@pytest.mark.law
@pytest.mark.req("R-LEARN-01")
@settings(max_examples=40, deadline=None)
@given(ticks=lengths, seed=st.integers(0, 99), window=st.integers(1, 9))
def test_no_window_holds_steps_of_two_episodes(ticks, seed, window):
    recipe = attrs.evolve(RECIPE.plain(), window=window, batch_size=3)
    batch = WindowSampler(numbered(ticks), recipe, seed).batch(seed)
    for images, valid in zip(batch.images, batch.valid, strict=True):
        assert len(np.unique(images[..., 0])) == 1
        seen = images[valid][:, 0, 0, 1].astype(int)
        assert np.array_equal(seen, np.arange(len(seen)) + seen[0])
        assert valid.sum() == min(window, ticks[images[0, 0, 0, 0] - 1])


@pytest.mark.law
@pytest.mark.req("R-LEARN-01")
@settings(max_examples=40, deadline=None)
@given(ticks=lengths, seed=st.integers(0, 99))
def test_a_scrambled_window_too_stays_in_its_episode(ticks, seed):
    recipe = attrs.evolve(RECIPE.plain(), window=5, batch_size=3, scramble=1.0)
    batch = WindowSampler(numbered(ticks), recipe, seed).batch(0)
    for images, action in zip(batch.images, batch.action, strict=True):
        assert len(np.unique(images[..., 0])) == 1
        assert np.allclose(action[:, 0], (images[:, 0, 0, 0] - 1.0) / 10)


@pytest.mark.law
@pytest.mark.req("R-LEARN-41")
@settings(max_examples=40, deadline=None)
@given(
    ticks=st.lists(st.integers(1, 12), min_size=2, max_size=6),
    seed=st.integers(0, 99),
)
def test_dealt_labels_always_come_from_another_episode(ticks, seed):
    episodes = numbered(ticks)
    dealt = deal_labels(episodes, np.random.default_rng(seed))
    donors = [round(float(e.action[0, 0]) * 10) for e in dealt]
    assert sorted(donors) == list(range(len(ticks)))
    assert all(donor != index for index, donor in enumerate(donors))
    for before, after in zip(episodes, dealt, strict=True):
        assert np.array_equal(before.images, after.images)
