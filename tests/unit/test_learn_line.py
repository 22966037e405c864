"""A network can start on a line, and keeps of what it learnt what others bear out."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

pytest.importorskip("jax")

import jax
import jax.numpy as jnp

from continuon import hope
from continuon._specs.hope.examples import RICH, TINY, at, observations
from continuon.errors import ContractError, DataError
from continuon.hope.bend import bent
from continuon.hope.straight import on_line
from continuon.learn.data import EpisodeArrays
from continuon.learn.line import fit_line, lies_on_line
from continuon.learn.line_start import judged, line_start, paced, parted
from continuon.learn.recipe import Recipe

JOINTS = ("joint_0", "joint_1", "speed_mps")
TEACHER = np.array([[0.5, -0.2], [0.0, 0.4], [0.0, 0.0]])


def arm(seed, ticks=24, names=JOINTS, noise=0.0):
    """Return an episode whose actions are a line of its joints, of unlike units."""
    rng = np.random.default_rng(seed)
    felt = rng.uniform(-1.0, 1.0, (ticks, 3))
    action = felt @ TEACHER + 0.1 + noise * rng.standard_normal((ticks, 2))
    return EpisodeArrays(
        episode_id=f"e{seed}",
        origin="imported",
        images=np.zeros((ticks, 0, 0, 3), np.uint8),
        proprio=(felt * [1.0, 100.0, 1.0]).astype(np.float32),
        action=np.clip(action, -1, 1).astype(np.float32),
        stamp_ns=np.arange(ticks, dtype=np.int64),
        valid=np.ones(ticks, bool),
        proprio_names=names,
        action_names=("shoulder", "elbow"),
    )


def test_a_line_is_found_whatever_the_units_and_what_is_invalid_counts_for_nothing():
    episodes = [arm(seed) for seed in range(5)]
    line = fit_line(episodes)
    np.testing.assert_allclose(line.told(arm(9)), arm(9).action, atol=0.01)
    assert line.error < 0.02 < line.mean_error
    spoilt = arm(5)
    wrong = attrs.evolve(spoilt, valid=np.zeros(24, bool), action=-spoilt.action)
    np.testing.assert_array_equal(
        fit_line([*episodes[:4], episodes[4]]).proprio, line.proprio
    )
    assert np.abs(fit_line([*episodes, wrong]).proprio - line.proprio).max() < 0.01


def test_a_sense_in_another_unit_changes_neither_the_line_nor_its_penalty():
    metres = [arm(seed, noise=0.3) for seed in range(8)]
    unit = np.array([1000.0, 1e-3, 1.0], np.float32)
    others = [attrs.evolve(e, proprio=e.proprio * unit) for e in metres]
    line, other = fit_line(metres), fit_line(others)
    np.testing.assert_array_equal(other.penalty, line.penalty)
    np.testing.assert_allclose(other.told(others[0]), line.told(metres[0]), atol=1e-5)


def test_each_component_gets_the_penalty_that_its_own_folds_ask_for():
    half = np.array([1.0, 0.0], np.float32)
    rng = np.random.default_rng(0)
    episodes = [
        attrs.evolve(
            e,
            action=np.where(
                half > 0, e.action, rng.uniform(-1, 1, e.action.shape)
            ).astype(np.float32),
        )
        for e in (arm(seed, ticks=6) for seed in range(8))
    ]
    line = fit_line(episodes)
    assert line.penalty[0] < 1.0 < line.penalty[1]


def test_a_fold_is_not_learnt_from_when_it_judges():
    rng = np.random.default_rng(1)

    def noise(seed):
        one = arm(seed, ticks=4)
        told = rng.uniform(-1, 1, one.action.shape).astype(np.float32)
        return attrs.evolve(one, action=told)

    lines = [fit_line([noise(seed) for seed in range(4)]) for _ in range(20)]
    # noise has no line: what was learnt from it tells no more of it than its mean
    assert np.mean([line.error / line.mean_error for line in lines]) > 0.88


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_an_episode_without_a_valid_step_has_no_part_in_any_fold(count):
    episodes = [arm(seed, noise=0.1) for seed in range(count)]
    nothing = attrs.evolve(arm(9), valid=np.zeros(24, bool))
    line, other = fit_line(episodes), fit_line([nothing, *episodes])
    assert (other.error, other.mean_error) == (line.error, line.mean_error)
    np.testing.assert_array_equal(other.penalty, line.penalty)
    np.testing.assert_array_equal(other.proprio, line.proprio)
    with pytest.raises(DataError, match="E-LEARN-DATA-006"):
        fit_line([nothing] * count)


def test_a_line_is_asked_for_only_where_more_is_felt_than_a_cars_speed():
    assert lies_on_line([arm(seed) for seed in range(4)])
    car = [
        attrs.evolve(
            arm(seed),
            proprio=arm(seed).proprio[:, 2:],
            proprio_names=("speed_mps",),
        )
        for seed in range(4)
    ]
    assert not lies_on_line(car)
    rng = np.random.default_rng(0)
    noise = [
        attrs.evolve(arm(s), action=rng.uniform(-1, 1, (24, 2)).astype(np.float32))
        for s in range(4)
    ]
    line = fit_line(noise)
    assert line.error > 0.95 * line.mean_error


@pytest.mark.req("R-HOPE-87")
@pytest.mark.parametrize("base", [TINY, RICH], ids=["plain", "rich"])
def test_on_a_line_every_tick_of_every_order_tells_the_line(base):
    config = attrs.evolve(base, straight_action=True, action_levels=())
    rng = np.random.default_rng(1)
    proprio = 0.3 * rng.standard_normal((1, 2))
    instruction = 0.3 * rng.standard_normal((config.instruction_size, 2))
    bias = np.array([0.2, -0.9])
    params = on_line(
        hope.init(3, config),
        config,
        proprio=proprio,
        instruction=instruction,
        bias=bias,
    )
    obs = observations(config, seed=2)
    wanted = np.asarray(obs["proprio"]) @ proprio + bias
    if config.instruction_size:
        wanted = wanted + np.clip(obs["instruction"], -1, 1) @ instruction
    state = hope.init_state(config, 2)
    _, out = hope.sequence(params, config, state, obs)
    told = np.asarray(out.chunk)
    wanted = np.broadcast_to(np.clip(wanted, -1, 1)[:, :, None], told.shape)
    np.testing.assert_allclose(told, wanted, atol=2e-5)
    for tick in range(3):
        state, one = hope.step(params, config, state, at(obs, tick))
        np.testing.assert_allclose(one.action, wanted[:, tick, 0], atol=2e-5)


@pytest.mark.req("R-HOPE-87")
def test_a_network_that_bends_or_is_too_narrow_cannot_start_on_a_line():
    weights = {"proprio": np.zeros((1, 2)), "instruction": np.zeros((0, 2))}
    wide = attrs.evolve(TINY, straight_action=True, action_chunk=9)
    for config in (TINY, wide):
        with pytest.raises(ContractError, match="E-HOPE-LINE-001"):
            on_line(hope.init(0, config), config, **weights, bias=np.zeros(2))


@pytest.mark.req("R-HOPE-87")
def test_a_straight_action_is_cut_and_is_told_the_way_back():
    config = attrs.evolve(TINY, straight_action=True)
    raw = jnp.asarray([[-3.0, 0.5]])
    np.testing.assert_array_equal(bent(config, raw), [[-1.0, 0.5]])
    slope = jax.grad(lambda x: bent(config, x).sum())(raw)
    np.testing.assert_array_equal(slope, np.ones((1, 2)))
    np.testing.assert_allclose(bent(TINY, raw), np.tanh(raw), rtol=1e-6)


@pytest.mark.req("R-LEARN-26")
def test_only_what_enough_judges_bear_out_is_kept():
    judges = [arm(seed, noise=0.05) for seed in range(5)]

    def nearer(share):
        return [np.asarray(e.action * share, np.float32) for e in judges]

    assert judged(judges, nearer).share == 1.0
    assert judged(judges, lambda share: nearer(1.0 - share)).share == 0.0
    few = judged(judges[:4], nearer)
    assert (few.share, few.judges) == (0.0, 4)
    assert few.gain > few.spread
    assert judged(judges[:1], nearer).as_dict()["spread"] is None
    # what helps one episode much and the others nothing is not borne out
    lucky = judged(judges, lambda share: [*nearer(share)[:1], *nearer(0.0)[1:]])
    assert lucky.gain > 0.0
    assert lucky.share == 0.0


@pytest.mark.req("R-LEARN-26")
def test_the_doubt_is_of_the_episodes_and_one_without_a_valid_step_is_not_asked():
    judges = [arm(seed, noise=0.05) for seed in range(6)]

    def told(share):
        return [np.asarray(e.action * share, np.float32) for e in judges]

    verdict = judged(judges, told)
    each = np.array([np.abs(e.action).mean() for e in judges])
    assert verdict.gain == pytest.approx(each.mean())
    assert verdict.spread == pytest.approx(each.std(ddof=1) / 6**0.5)
    judges[2] = attrs.evolve(judges[2], valid=np.zeros(24, bool))
    fewer = judged(judges, told)
    assert (fewer.judges, fewer.share) == (5, 1.0)
    assert fewer.gain == pytest.approx(np.delete(each, 2).mean())


def test_what_begins_on_a_line_learns_at_a_third_of_the_rate():
    recipe = Recipe(learning_rate=3e-3)
    slower = attrs.evolve(paced(recipe), learning_rate=3e-3)
    assert paced(recipe).learning_rate == pytest.approx(1e-3)
    assert slower == recipe


@pytest.mark.req("R-LEARN-26")
def test_where_nothing_is_borne_out_the_line_of_all_training_episodes_is_kept():
    episodes = [arm(seed) for seed in range(5)]
    config = hope.preset(
        "seed",
        image_height=0,
        image_width=0,
        proprio=JOINTS,
        action=("shoulder", "elbow"),
        straight_action=True,
    )
    made = line_start(hope.init(0, config), config, episodes)
    assert [len(part) for part in parted(episodes)] == [4, 1]
    spoilt = jax.tree.map(lambda leaf: leaf + 1.0, made.start)
    kept, verdict = made.kept(spoilt)
    assert verdict.share == 0.0
    assert kept is made.whole


@pytest.mark.slow
@pytest.mark.req("R-LEARN-26")
def test_an_arm_is_trained_from_its_line_and_says_what_was_kept(tmp_path):
    from continuon.cli.train import _scored
    from continuon.hope import load_checkpoint
    from continuon.learn.slow import train_arrays

    recipe = attrs.evolve(
        Recipe().plain(), image_height=8, image_width=8, batch_size=2, window=16
    )
    seeing = [
        attrs.evolve(arm(seed), images=np.full((24, 8, 8, 3), 90, np.uint8))
        for seed in range(6)
    ]
    report = train_arrays(
        tuple(seeing), tmp_path, config_preset="seed", num_steps=2, recipe=recipe
    )
    loaded = load_checkpoint(report.checkpoint)
    assert loaded.config.straight_action
    assert report.line == loaded.metadata["line"]
    assert (report.line["share"], report.line["judges"]) == (0.0, 1)
    told = report.evaluation
    assert max(told.mae.values()) < 0.05
    # nothing more was kept, so the policy is the line that it is scored beside
    assert told.line_mae == pytest.approx(told.mae, abs=1e-5)
    assert told.as_dict()["line_mae"] == told.line_mae
    shown = f"line {told.line_mae['elbow']:.4f}"
    assert any(shown in row for row in _scored(told) if "elbow" in row)
