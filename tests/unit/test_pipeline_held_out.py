"""Held-out episodes for judging a smaller artifact: the last by time, and bounded."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from continuon import hope
from continuon._specs.learn.examples import (
    HEIGHT,
    TINY,
    WIDTH,
    record_episode,
    stripe_episodes,
)
from continuon.errors import ContractError
from continuon.pipeline import held_out

CONFIG = hope.preset("seed", image_height=HEIGHT, image_width=WIDTH, **TINY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("episodes")
    for index, episode in enumerate(stripe_episodes(6, seed=3)):
        record_episode(path, episode, start_wall_ns=1 + index)
    return path


@pytest.mark.req("R-EXPORT-13")
def test_the_last_fifth_or_the_named_ones_are_held_out_and_ticks_are_bounded(
    folder, monkeypatch
):
    (last,) = held_out.task_episodes(folder, CONFIG)
    named = held_out.task_episodes(folder, CONFIG, ids=["made-005", "made-001"])
    assert len(named) == 2
    assert np.array_equal(named[1].action, last.action)
    assert last.inputs["image"].shape[1:] == (HEIGHT, WIDTH, 3)
    assert last.valid.dtype == bool
    monkeypatch.setattr(held_out, "MAX_TICKS", len(named[0].action) + 3)
    cut = held_out.task_episodes(folder, CONFIG, ids=["made-005", "made-001"])
    assert [len(e.action) for e in cut] == [len(named[0].action), 3]


@pytest.mark.req("R-EXPORT-13")
def test_episodes_of_another_robot_are_refused(folder):
    other = attrs.evolve(CONFIG, action=("left", "right"))
    with pytest.raises(ContractError, match="E-LEARN-FIT-001"):
        held_out.task_episodes(folder, other)
