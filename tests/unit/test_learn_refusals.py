"""What learning refuses is told so that a person finds it: which, where, how much."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from continuon._specs.learn.examples import (
    HEIGHT,
    TINY,
    WIDTH,
    record_episode,
    stripe_episodes,
)
from continuon.errors import DataError
from continuon.learn.baselines import fit_mean
from continuon.learn.data import load_arrays
from continuon.learn.recipe import Recipe
from continuon.learn.refusals import check_like
from continuon.learn.windows import WindowSampler


def arm(joints, name="e0"):
    """Return an episode of so many joints whose names share a long beginning."""
    (made,) = stripe_episodes(1)
    ticks = np.zeros((len(made), len(joints)), np.float32)
    changes = {"action": ticks, "action_names": tuple(joints), "episode_id": name}
    return attrs.evolve(made, **changes)


def test_an_action_out_of_range_is_told_with_component_value_and_step():
    made = arm(("shoulder", "elbow"))
    action = made.action.copy()
    action[3, 1] = 90.0
    with pytest.raises(DataError, match="E-LEARN-DATA-002") as caught:
        attrs.evolve(made, action=action)
    assert caught.value.seen == "action elbow is 90 at step 3"
    assert caught.value.allowed == "actions in [-1, 1]"
    assert "scale" in caught.value.hint
    proprio = np.full((len(made), 1), np.nan, np.float32)
    with pytest.raises(DataError, match="E-LEARN-DATA-002") as caught:
        attrs.evolve(made, proprio=proprio, proprio_names=("gyro",))
    assert caught.value.seen == "state gyro is nan at step 0"


def test_of_two_kinds_of_episodes_only_what_differs_is_told():
    joints = [f"a_long_name_of_a_joint_{i}" for i in range(26)]
    other = arm([*joints[:25], "gripper"], "e1")
    with pytest.raises(DataError, match="E-LEARN-DATA-005") as caught:
        check_like((arm(joints), other))
    assert caught.value.seen == "26 actions, of them here alone gripper"
    assert caught.value.allowed == (
        "26 actions, of them here alone a_long_name_of_a_joint_25"
    )
    assert caught.value.where == "e1"
    assert "folder" in caught.value.hint
    with pytest.raises(DataError) as caught:
        check_like((arm(("a", "b")), arm(("b", "a"))))
    assert caught.value.seen == "actions b, a"
    with pytest.raises(DataError) as caught:
        check_like((*stripe_episodes(1), *stripe_episodes(1, speed=True)))
    assert caught.value.seen == "1 states, of them here alone speed_mps"
    assert caught.value.allowed == "0 states"


def test_episodes_without_a_valid_step_are_counted_and_named():
    (made,) = stripe_episodes(1)
    blind = attrs.evolve(made, valid=np.zeros(len(made), bool))
    for refused in (
        lambda: WindowSampler((blind, blind), Recipe(), 0),
        lambda: fit_mean((blind, blind)),
    ):
        with pytest.raises(DataError, match="E-LEARN-DATA-006") as caught:
            refused()
        assert caught.value.seen == f"0 of {2 * len(made)} steps in 2 episodes"
        assert caught.value.where == made.episode_id


def test_a_state_that_is_not_there_is_told_beside_those_that_are(tmp_path):
    (made,) = stripe_episodes(1)
    record_episode(tmp_path, made, start_wall_ns=1)
    with pytest.raises(DataError, match="E-LEARN-DATA-004") as caught:
        load_arrays(tmp_path, image_height=8, image_width=12, proprio=("wing",))
    assert caught.value.seen == "no wing"
    assert caught.value.allowed == "no state at all"
    assert "`continuon train --state`" in caught.value.hint


def test_when_no_recording_suits_the_policy_the_first_reason_is_the_error(tmp_path):
    hope = pytest.importorskip("continuon.hope")
    from continuon.learn.mid_episodes import latest_episodes

    for index, made in enumerate(stripe_episodes(2)):
        record_episode(tmp_path, made, start_wall_ns=1 + index)
    size = {"image_height": HEIGHT, "image_width": WIDTH, "proprio": ("wing",)}
    config = hope.preset("seed", **size, **TINY)
    with pytest.raises(DataError, match="E-LEARN-MID-008") as caught:
        latest_episodes(tmp_path, config, check=lambda: None)
    assert caught.value.seen.startswith("2 set aside; made-000.mcap: E-LEARN-DATA-004")
    assert caught.value.where == str(tmp_path)
    assert "--checkpoint" in caught.value.hint
