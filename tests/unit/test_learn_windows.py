from __future__ import annotations

import attrs
import numpy as np
import pytest

from continuon._specs.learn.examples import RECIPE, episode_of, stripe_episodes
from continuon.errors import ContractError, DataError
from continuon.learn.augment import augment, mirror_signs
from continuon.learn.recipe import Recipe
from continuon.learn.windows import WindowSampler, cut

NAMES = {"proprio_names": (), "action_names": ("steering", "throttle")}


def test_a_batch_depends_on_seed_and_step_alone():
    episodes = stripe_episodes(3)
    one, two = WindowSampler(episodes, RECIPE, 5), WindowSampler(episodes, RECIPE, 5)
    one.batch(0)
    for field in ("images", "action", "valid", "follows"):
        a, b = getattr(one.batch(3), field), getattr(two.batch(3), field)
        np.testing.assert_array_equal(a, b)
    other = WindowSampler(episodes, RECIPE, 6).batch(3)
    assert not np.array_equal(other.images, one.batch(3).images)


@pytest.mark.req("R-LEARN-02")
def test_a_short_episode_is_padded_with_steps_that_do_not_count():
    episode = stripe_episodes(1, ticks=5)[0]
    window = cut(episode, 0, 8)
    assert window.valid.tolist() == [True] * 5 + [False] * 3
    assert np.array_equal(window.images[5:], np.repeat(episode.images[4:], 3, 0))


def test_a_step_of_a_long_episode_is_drawn_as_often_as_one_of_a_short_one():
    short, long = stripe_episodes(1, ticks=10)[0], stripe_episodes(1, ticks=90)[0]
    sampler = WindowSampler((short, long), RECIPE, 0)
    drawn = [place for step in range(300) for place in sampler.places(step)]
    share = np.mean([index for index, _ in drawn])
    assert share == pytest.approx(0.9, abs=0.05)


def test_every_window_of_an_episode_is_drawn_the_last_one_too():
    recipe = attrs.evolve(RECIPE, window=8)
    sampler = WindowSampler(stripe_episodes(1, ticks=11), recipe, 0)
    firsts = {first for step in range(60) for _, first in sampler.places(step)}
    assert firsts == {0, 1, 2, 3}


def test_nothing_follows_in_a_scrambled_window():
    recipe = attrs.evolve(RECIPE, scramble=1.0)
    batch = WindowSampler(stripe_episodes(3), recipe, 0).batch(0)
    assert not batch.follows.any()
    plain = WindowSampler(stripe_episodes(3), recipe.plain(), 0).batch(0)
    assert plain.follows[:, 1:].all()
    assert not plain.follows[:, 0].any()


@pytest.mark.req("R-LEARN-16")
@pytest.mark.parametrize("each", [False, True])
def test_a_mirrored_image_goes_with_mirrored_steering(each):
    recipe = attrs.evolve(RECIPE.plain(), flip=1.0)
    window = cut(stripe_episodes(1)[0], 0, 8)
    rng = np.random.default_rng(0)
    once = augment(window, recipe, rng, each=each, **NAMES)
    np.testing.assert_array_equal(once.images, window.images[:, :, ::-1])
    np.testing.assert_array_equal(once.action[:, 0], -window.action[:, 0])
    np.testing.assert_array_equal(once.action[:, 1], window.action[:, 1])
    twice = augment(once, recipe, rng, each=each, **NAMES)
    np.testing.assert_array_equal(twice.images, window.images)
    np.testing.assert_array_equal(twice.action, window.action)


def test_without_a_known_mirror_nothing_is_mirrored():
    recipe = attrs.evolve(RECIPE.plain(), flip=1.0)
    window = cut(stripe_episodes(1)[0], 0, 8)
    same = augment(
        window,
        recipe,
        np.random.default_rng(0),
        proprio_names=(),
        action_names=("left_wheel", "right_wheel"),
    )
    np.testing.assert_array_equal(same.images, window.images)
    assert mirror_signs(("steering", "yaw_rate_rad_s", "speed_mps")).tolist() == [
        -1,
        -1,
        1,
    ]


def test_relighting_is_one_draw_a_window_or_one_a_tick():
    images = np.full((6, 8, 12, 3), 100, np.uint8)
    window = cut(episode_of(0, images, np.zeros((6, 2))), 0, 6)
    recipe = attrs.evolve(RECIPE.plain(), brightness=0.2)
    rng = np.random.default_rng(1)
    together = augment(window, recipe, rng, **NAMES).images[:, 0, 0, 0]
    apart = augment(window, recipe, rng, each=True, **NAMES).images[:, 0, 0, 0]
    assert len(set(together.tolist())) == 1
    assert len(set(apart.tolist())) > 1


def test_a_plain_recipe_changes_nothing():
    window = cut(stripe_episodes(1, speed=True)[0], 2, 8)
    same = augment(
        window,
        RECIPE.plain(),
        np.random.default_rng(0),
        proprio_names=("speed_mps",),
        action_names=("steering", "throttle"),
    )
    np.testing.assert_array_equal(same.images, window.images)
    np.testing.assert_array_equal(same.proprio, window.proprio)


def test_episodes_without_one_valid_step_are_refused():
    episode = stripe_episodes(1)[0]
    blind = attrs.evolve(episode, valid=np.zeros(len(episode), bool))
    with pytest.raises(DataError, match="E-LEARN-DATA-006"):
        WindowSampler((blind,), RECIPE, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("flip", 1.1), ("learning_rate", float("nan")), ("window", 0), ("average", 1.0)],
)
def test_a_recipe_out_of_range_names_its_field(field, value):
    with pytest.raises(ContractError, match=f"the field {field} ") as caught:
        Recipe(**{field: value})
    assert caught.value.code == "E-LEARN-RECIPE-001"


def test_equal_recipes_have_equal_digests():
    assert Recipe().digest() == Recipe().digest()
    assert Recipe(flip=0.1).digest() != Recipe().digest()
