from __future__ import annotations

import attrs
import numpy as np
import pytest

from continuon._specs.learn.examples import stripe_episodes
from continuon.errors import ContractError, DataError
from continuon.learn.data import (
    digest_of,
    origin_of,
    require_episodes,
    split_by_time,
)
from continuon.learn.refusals import check_like


@pytest.mark.req("R-LEARN-03")
def test_the_last_episodes_in_time_are_held_out_whole():
    episodes = stripe_episodes(10)
    train, held_out = split_by_time(episodes, 0.2)
    assert [e.episode_id for e in held_out] == ["made-008", "made-009"]
    assert train + held_out == episodes
    assert train[-1].stamp_ns[-1] < held_out[0].stamp_ns[0]


@pytest.mark.req("R-LEARN-03")
@pytest.mark.parametrize(("count", "held"), [(7, 1), (8, 2), (16, 3), (18, 4)])
def test_the_share_that_is_held_out_is_the_nearest_number_of_episodes(count, held):
    assert len(split_by_time(range(count), 0.2)[1]) == held


@pytest.mark.req("R-LEARN-03")
@pytest.mark.parametrize("count", [2, 3])
def test_at_least_one_episode_is_held_out_and_one_trained_on(count):
    for share in (0.01, 0.99):
        train, held_out = split_by_time(stripe_episodes(count), share)
        assert train
        assert held_out


@pytest.mark.req("R-LEARN-03")
def test_one_episode_cannot_be_split():
    with pytest.raises(DataError, match="E-LEARN-FEW-002"):
        split_by_time(stripe_episodes(1))


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan"), -0.1])
def test_a_share_that_is_no_proper_fraction_is_refused(share):
    with pytest.raises(ContractError, match="E-LEARN-SPLIT-001"):
        split_by_time(stripe_episodes(4), share)


@pytest.mark.req("R-LEARN-04")
def test_too_few_episodes_are_refused_and_the_number_is_named():
    with pytest.raises(DataError, match="E-LEARN-FEW-001") as caught:
        require_episodes(stripe_episodes(15), 16)
    assert caught.value.seen == "15"
    assert len(require_episodes(stripe_episodes(16), 16)) == 16


@pytest.mark.req("R-LEARN-05")
@pytest.mark.parametrize(
    "change",
    [
        lambda e: attrs.evolve(e, images=e.images ^ np.uint8(1)),
        lambda e: attrs.evolve(e, action=e.action * np.float32(0.5)),
        lambda e: attrs.evolve(e, stamp_ns=e.stamp_ns + 1),
        lambda e: attrs.evolve(e, valid=~e.valid),
        lambda e: attrs.evolve(e, origin="real"),
        lambda e: attrs.evolve(e, episode_id="other"),
        lambda e: attrs.evolve(e, action_names=("throttle", "steering")),
        lambda e: attrs.evolve(e, proprio_names=("yaw",), proprio=e.proprio),
    ],
)
def test_the_digest_changes_with_anything_that_learning_sees(change):
    one, two = stripe_episodes(2, speed=True)
    assert digest_of((one, two)) == digest_of(stripe_episodes(2, speed=True))
    assert digest_of((change(one), two)) != digest_of((one, two))
    assert digest_of((two, one)) != digest_of((one, two))


@pytest.mark.req("R-LEARN-06")
@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5])
def test_an_action_that_no_robot_may_take_is_refused(value):
    episode = stripe_episodes(1)[0]
    action = episode.action.copy()
    action[3, 0] = value
    with pytest.raises(DataError, match="E-LEARN-DATA-002"):
        attrs.evolve(episode, action=action)


def test_arrays_of_different_lengths_do_not_belong_together():
    episode = stripe_episodes(1)[0]
    with pytest.raises(ContractError, match="E-LEARN-DATA-001"):
        attrs.evolve(episode, valid=episode.valid[:-1])


def test_episodes_of_two_kinds_are_refused():
    with pytest.raises(DataError, match="E-LEARN-DATA-005"):
        check_like((*stripe_episodes(1), *stripe_episodes(1, speed=True)))


def test_mixed_origins_stay_visible():
    one, two = stripe_episodes(2)
    assert origin_of((one, attrs.evolve(two, origin="real"))) == "real+synthetic"
