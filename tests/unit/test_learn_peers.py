"""Networks of a policy's size: alike in all but what mixes over time."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import numpy as np
import pytest

pytest.importorskip("jax")

from jax.tree_util import keystr, tree_leaves_with_path

from continuon._specs.hope.examples import RICH
from continuon._specs.learn.examples import (
    HEIGHT,
    RECIPE,
    TINY,
    WIDTH,
    record_episode,
    stripe_episodes,
)
from continuon.cli.train import evaluate as evaluate_command
from continuon.errors import UsageError
from continuon.hope import init, load_checkpoint, preset, save_checkpoint
from continuon.learn.data import split_by_time
from continuon.learn.evaluate import evaluate, evaluate_params
from continuon.learn.losses import knobs_of
from continuon.learn.peer_fit import (
    PeerPlan,
    fit_peer,
    optimiser_of,
    plan_of,
    score_peers,
    told_by,
)
from continuon.learn.peers import PEERS, check_peers, peer_of, scalars
from continuon.learn.slow import train, train_arrays
from continuon.learn.update import rate_of

CONFIG = preset("seed", image_height=HEIGHT, image_width=WIDTH, **TINY)
PLAN = PeerPlan(names=PEERS, recipe=RECIPE, num_steps=60)


@pytest.mark.req("R-LEARN-25")
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize(
    "config",
    [CONFIG, RICH, preset("nano"), preset("nano", use_previous_action=True)],
    ids=["tiny", "rich", "nano", "fed back"],
)
def test_a_peer_is_of_the_policys_size_and_its_own_seed_moves_all_of_it(name, config):
    peer = peer_of(config, name)
    one, two = peer.init(0), peer.init(1)
    assert scalars(one) == pytest.approx(scalars(init(0, config)), rel=0.1)
    assert "previous_action" not in one["encoder"]
    assert not np.array_equal(one["core"]["out"], two["core"]["out"])


@pytest.mark.slow
@pytest.mark.req("R-LEARN-25")
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_learns_and_knows_the_past_that_it_may_know(name):
    episodes = stripe_episodes(10)
    training, held_out = episodes[:8], episodes[8:]
    peer = peer_of(CONFIG, name)
    params = fit_peer(peer, CONFIG, training, PLAN)

    def told(given):
        return told_by(peer, params, CONFIG, given, window=RECIPE.window)[0]

    seen = told(held_out)
    truth = held_out[0].action
    mean = np.abs(np.concatenate([e.action for e in training]).mean(0) - truth).mean(0)
    assert np.abs(seen - truth).mean(0)[0] < 0.6 * mean[0]
    # the teacher's action is no input
    other = attrs.evolve(held_out[0], action=-held_out[0].action)
    assert np.array_equal(told([other]), seen)
    changed = held_out[0].images.copy()
    changed[6] = 255 - changed[6]
    moved = np.abs(told([attrs.evolve(held_out[0], images=changed)]) - seen).max(1)
    assert moved[:6].max() < 1e-6, "the future is not seen"
    assert moved[6:8].min() > 1e-6
    # tick 7 sees its motion: what attends forgets 6 and 7 with the window after it
    later = moved[7 + RECIPE.window :].max()
    assert later > 1e-7 if name == "gru" else later < 1e-6


@pytest.mark.slow
@pytest.mark.req("R-LEARN-25")
def test_the_report_names_peers_only_where_they_are_asked_for(tmp_path):
    episodes = stripe_episodes(4)
    training, held_out = episodes[:3], episodes[3:]
    params, plan = init(0, CONFIG), attrs.evolve(PLAN, num_steps=1)
    plain = evaluate_params(params, CONFIG, held_out, training=training)
    assert plain.as_dict()["peers"] == {}
    told = evaluate_params(params, CONFIG, held_out, training=training, peers=plan)
    facts = json.loads(json.dumps(told.as_dict()))["peers"]
    assert list(facts) == list(PEERS)
    for score in facts.values():
        assert set(score["mae"]) == {"steering", "throttle"}
        assert score["steps"] == 1
    keyed = attrs.evolve(CONFIG, action_levels=("throttle",))
    drawn = score_peers(keyed, training, held_out, attrs.evolve(plan, names=("gru",)))
    assert drawn["gru"].mae["steering"] == pytest.approx(
        facts["gru"]["mae"]["steering"]
    )
    assert drawn["gru"].mae["throttle"] != facts["gru"]["mae"]["throttle"]
    checkpoint = tmp_path / "p.hope"
    save_checkpoint(checkpoint, CONFIG, params, metadata={})
    with pytest.raises(UsageError, match="E-LEARN-PEER-002"):
        evaluate(checkpoint, held_out, peers=plan)


def test_a_peer_that_does_not_exist_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(UsageError, match="E-LEARN-PEER-001") as caught:
        train(tmp_path / "none", tmp_path, peers=("gru", "mamba"))
    assert caught.value.seen == "mamba"
    assert "--peers" in caught.value.hint


def test_a_checkpoint_that_does_not_say_how_it_was_trained_has_no_peer():
    with pytest.raises(UsageError, match="E-LEARN-PEER-004") as caught:
        plan_of({"recipe": {"window": 8}}, PEERS)
    assert "--peers" in caught.value.hint
    facts = {"recipe": RECIPE.as_dict(), "num_steps": 9, "seed": 2}
    assert plan_of(facts, ("act",)) == PeerPlan(
        names=("act",), recipe=RECIPE, num_steps=9, seed=2
    )


@pytest.mark.slow
def test_the_command_scores_a_checkpoint_beside_all_of_them(tmp_path):
    for index, episode in enumerate(stripe_episodes(4)):
        record_episode(tmp_path / "seen", episode, start_wall_ns=1 + index)
    checkpoint = tmp_path / "p.hope"
    facts = {"recipe": RECIPE.as_dict(), "num_steps": 1, "seed": 0}
    save_checkpoint(checkpoint, CONFIG, init(0, CONFIG), metadata=facts)
    told = evaluate_command(checkpoint, rlds_dir=tmp_path / "seen", peers=("gru",))
    assert list(told.data["peers"]) == ["gru"]
    assert told.data["trained_on_the_others"] is False
    first, *_, last = told.text.splitlines()
    for name in ("steering: error", "ridge", "mean", "gru"):
        assert name in first
    assert last.startswith("not what the checkpoint was trained on")


@pytest.mark.req("R-LEARN-25")
def test_peers_are_not_trained_by_one_host_of_many():
    check_peers(PEERS)
    with pytest.raises(UsageError, match="E-LEARN-PEER-003") as caught:
        check_peers(("gru",), hosts=2)
    assert "continuon evaluate" in caught.value.hint


@pytest.mark.req("R-LEARN-25")
def test_a_tick_that_follows_none_has_no_motion():
    peer = peer_of(CONFIG, "gru")
    assert CONFIG.senses_motion
    obs = {"image": stripe_episodes(1)[0].images[None, :4]}
    params = peer.init(0)
    after = np.array([[False, True, False, True]])
    told = peer.sense(params, obs, after)
    for tick in range(4):
        alone = {"image": obs["image"][:, tick : tick + 1]}
        still = peer.sense(params, alone, np.zeros((1, 1), bool))[0, 0]
        assert np.allclose(told[0, tick], still, atol=1e-6) != after[0, tick]


def moved(training, *, steps=1, **recipe):
    """Return where a peer's updates left it and where it began, as flat dicts."""
    peer = peer_of(CONFIG, "gru")
    plan = PeerPlan(
        names=("gru",), recipe=attrs.evolve(RECIPE, **recipe), num_steps=steps
    )
    begun, ended = peer.init(0), fit_peer(peer, CONFIG, training, plan)
    return tuple(
        {keystr(path): np.asarray(leaf) for path, leaf in tree_leaves_with_path(tree)}
        for tree in (begun, ended)
    )


@pytest.mark.slow
@pytest.mark.req("R-LEARN-25")
def test_a_peers_update_is_the_policys():
    training = stripe_episodes(3)
    begun, ended = moved(training)
    _, whole = moved(training, average=0.0)
    _, shrunk = moved(training, average=0.0, weight_decay=RECIPE.weight_decay + 1.0)
    rate = RECIPE.learning_rate
    for name, was in begun.items():
        # the mean begins with nine tenths of the newest, in the first update already
        change = whole[name] - was
        np.testing.assert_allclose(ended[name] - was, 0.9 * change, atol=1e-6)
        decay = rate * was if was.ndim > 1 else 0.0 * was
        np.testing.assert_allclose(whole[name] - shrunk[name], decay, atol=1e-6)
    out = "['core']['out']"
    assert np.abs(whole[out] - begun[out]).max() > 0.5 * rate, "the first one moves"


@pytest.mark.req("R-LEARN-25")
def test_matrices_decay_at_the_policys_rate_of_each_update_and_biases_never():
    recipe = attrs.evolve(RECIPE, weight_decay=0.5)
    optimiser, knobs = optimiser_of(recipe, 40), knobs_of(recipe, 40)
    params = {"matrix": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
    still = {name: np.zeros_like(leaf) for name, leaf in params.items()}
    state = optimiser.init(params)
    for step in range(6):
        change, state = optimiser.update(still, state, params)
        assert not change["bias"].any()
        expected = -0.5 * rate_of(knobs, step)
        np.testing.assert_allclose(change["matrix"], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.req("R-LEARN-25")
def test_the_seed_of_the_plan_is_that_of_the_windows():
    training = stripe_episodes(3)
    peer = peer_of(CONFIG, "gru")
    begun = peer.init(0)
    alike = peer._replace(init=lambda _: begun)
    plan = PeerPlan(names=("gru",), recipe=RECIPE, num_steps=1)
    first, again, other = (
        fit_peer(alike, CONFIG, training, attrs.evolve(plan, seed=seed))
        for seed in (0, 0, 1)
    )
    out = [told["core"]["out"] for told in (first, again, other)]
    np.testing.assert_array_equal(out[0], out[1])
    assert not np.array_equal(out[0], out[2])


@pytest.mark.slow
@pytest.mark.req("R-LEARN-25")
def test_a_peer_learns_nothing_from_a_tick_that_does_not_count():
    (episode,) = stripe_episodes(1)
    valid = np.arange(len(episode)) % 3 > 0
    action = np.where(valid[:, None], episode.action, -1.0).astype(np.float32)
    _, one = moved((attrs.evolve(episode, valid=valid),))
    _, two = moved((attrs.evolve(episode, valid=valid, action=action),))
    for name, leaf in one.items():
        np.testing.assert_array_equal(leaf, two[name])


@pytest.mark.slow
@pytest.mark.req("R-LEARN-25")
def test_training_and_evaluating_make_the_same_peer(tmp_path):
    episodes = stripe_episodes(5)
    size = {"config_preset": "seed", "overrides": TINY, "num_steps": 2}
    report = train_arrays(
        episodes, tmp_path, seed=3, recipe=RECIPE, peers=("gru",), **size
    )
    loaded = load_checkpoint(Path(report.checkpoint))
    training, held_out = split_by_time(episodes)
    plan = plan_of(loaded.metadata, ("gru",))
    assert plan.seed == 3
    again = score_peers(loaded.config, training, held_out, plan)
    assert again["gru"].mae == report.evaluation.peers["gru"].mae
