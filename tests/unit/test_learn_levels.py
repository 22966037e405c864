"""A teacher who steers by keys is known by the recorded actions."""

from __future__ import annotations

from functools import partial

import attrs
import jax
import numpy as np
import pytest

from continuon._specs.learn.examples import TINY, stripe_episodes
from continuon.clock import ManualClock
from continuon.hope import init, preset
from continuon.learn.levels import count_levels, told_by_levels
from continuon.learn.losses import knobs_of, losses_of
from continuon.learn.recipe import Recipe
from continuon.learn.share import whole_share
from continuon.learn.slow_run import SlowRun, config_of
from continuon.learn.windows import cut, stack

KNOBS = knobs_of(Recipe(), 1)


def keyed(steering):
    """Return an episode with that steering, and a throttle of 0.3."""
    one = stripe_episodes(1)[0]
    ticks = np.resize(np.float32(steering), len(one))
    action = np.stack([ticks, np.full(len(one), 0.3, np.float32)], 1)
    return attrs.evolve(one, action=action, valid=np.ones(len(one), bool))


@pytest.mark.req("R-LEARN-24")
@pytest.mark.parametrize(
    ("steering", "expected"),
    [
        ([0, 0, 1, 0, -1, 0.02, 0.98, 0, 1, 0.4], ("steering",)),
        ([0, 0, 1, 0, -1, 0.02, 0.98, 0, 0.6, 0.4], ()),
        ([0.0], ()),
        ([0.31, -0.7, 0.0], ()),
    ],
)
def test_a_component_is_told_by_levels_where_nine_steps_in_ten_are(steering, expected):
    episode = keyed(steering)
    counts = count_levels([episode])
    assert told_by_levels(episode.action_names, counts) == expected
    assert told_by_levels(episode.action_names, 3 * counts) == expected
    share = whole_share([episode, keyed([0.31, -0.7])], holdout=0.5)
    assert share.action_levels() == expected


@pytest.mark.req("R-LEARN-24")
def test_steps_that_are_not_valid_tell_nothing_of_the_teacher():
    episode = keyed([0, 1, 0.4, -0.4])
    known = np.isin(episode.action[:, 0], [0, 1])
    counts = count_levels([attrs.evolve(episode, valid=known)])
    assert told_by_levels(episode.action_names, counts) == ("steering",)
    none = count_levels([attrs.evolve(episode, valid=np.zeros_like(known))])
    assert told_by_levels(episode.action_names, none) == ()


@pytest.mark.req("R-LEARN-24")
def test_the_loss_is_of_the_action_before_it_is_drawn():
    episode = keyed([0, 1])
    height, width = episode.images.shape[1:3]
    config = preset(
        "seed",
        image_height=height,
        image_width=width,
        proprio=episode.proprio_names,
        action=episode.action_names,
        **TINY,
    )
    drawn = attrs.evolve(config, action_levels=("steering",))
    batch, params = stack([cut(episode, 0, 8)]), init(0, config)
    one, two = (
        jax.make_jaxpr(partial(losses_of, config=c, knobs=KNOBS, batch=batch))(params)
        for c in (config, drawn)
    )
    assert str(one) == str(two)


@pytest.mark.req("R-LEARN-24")
def test_the_network_for_a_teacher_with_keys_has_his_levels(tmp_path):
    run = SlowRun(
        output=str(tmp_path),
        folder=tmp_path,
        config_preset="nano",
        num_steps=1,
        mode="local",
        fsdp=1,
        seed=0,
        recipe=Recipe(),
        checkpoint_every=1,
        resume=False,
        tensorboard=False,
        on_progress=None,
        clock=ManualClock(),
        overrides={},
    )
    keys, wheel = (whole_share([keyed(s)] * 2, 0.5) for s in ([0, 1], [0.3, 0.7]))
    assert config_of(keys, run).action_levels == ("steering",)
    assert config_of(wheel, run).action_levels == ()
    asked = attrs.evolve(run, overrides={"action_levels": ()})
    assert config_of(keys, asked).action_levels == ()
