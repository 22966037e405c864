from __future__ import annotations

import attrs
import numpy as np
import pytest

from continuon._specs.learn.examples import (
    RECIPE,
    TINY,
    noise_episodes,
    stripe_episodes,
)
from continuon.errors import ContractError, DataError, UsageError
from continuon.learn.data import split_by_time
from continuon.learn.evaluate import evaluate
from continuon.learn.slow import train, train_arrays

jax = pytest.importorskip("jax")
pytestmark = pytest.mark.slow

STEPS = 80


def run(episodes, folder, **changes):
    settings = {
        "config_preset": "seed",
        "num_steps": STEPS,
        "recipe": RECIPE,
        "overrides": TINY,
        "checkpoint_every": 10,
        **changes,
    }
    return train_arrays(episodes, folder, **settings)


class KilledError(Exception):
    pass


def killed_at(step):
    def progress(done, total, loss):
        if done == step:
            raise KilledError

    return progress


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    episodes = stripe_episodes(12)
    return episodes, run(episodes, tmp_path_factory.mktemp("whole"))


def test_the_policy_beats_the_mean_on_episodes_it_has_not_seen(trained):
    _, report = trained
    told = report.evaluation
    assert told.mae["steering"] < 0.6 * told.mean_mae["steering"]
    assert told.mae_over_mean < 0.6
    assert told.line_mae is None
    assert told.origin == "synthetic"
    assert told.traces[0].predicted.shape == told.traces[0].human.shape
    assert report.loss_curve[-1].loss < report.loss_curve[0].loss


@pytest.mark.req("R-LEARN-10")
def test_labels_that_are_noise_cannot_be_learned_below_the_floor(tmp_path):
    episodes = noise_episodes(12)
    told = run(episodes, tmp_path).evaluation
    assert told.mae["steering"] > 0.9 * told.mean_mae["steering"]


@pytest.mark.req("R-LEARN-10")
def test_changing_the_action_changes_no_prediction(trained):
    episodes, report = trained
    _, held_out = split_by_time(episodes)
    other = [attrs.evolve(e, action=-e.action) for e in held_out]
    told = evaluate(report.checkpoint, other)
    for one, two in zip(told.traces, report.evaluation.traces, strict=True):
        np.testing.assert_array_equal(one.predicted, two.predicted)
    assert told.ridge_mae is None


@pytest.mark.req("R-LEARN-21")
def test_each_episode_is_run_from_a_reset_state(trained):
    episodes, report = trained
    _, held_out = split_by_time(episodes)
    alone = evaluate(report.checkpoint, held_out[1:])
    np.testing.assert_allclose(
        alone.traces[0].predicted,
        report.evaluation.traces[1].predicted,
        atol=1e-5,
    )


@pytest.mark.req("R-LEARN-11")
def test_every_trainable_parameter_changes_and_the_frozen_target_does_not(trained):
    from continuon.hope import load_checkpoint
    from continuon.hope.checkpoint import flatten

    _, report = trained
    before = flatten(load_checkpoint(report.seed_checkpoint).params)
    after = flatten(load_checkpoint(report.checkpoint).params)
    same = {n for n in before if np.array_equal(before[n], after[n])}
    assert same == {n for n in before if n.startswith("frozen/")}
    memory = [n for n in after if "/slow/" in n or "/fast/" in n]
    assert len(memory) > 10


@pytest.mark.req("R-LEARN-12")
def test_equal_data_recipe_and_seed_give_equal_parameters(trained, tmp_path):
    episodes, whole = trained
    _assert_equal_params(run(episodes, tmp_path), whole)


@pytest.mark.req("R-LEARN-13")
@pytest.mark.req("R-LEARN-14")
def test_a_killed_run_goes_on_to_the_very_same_parameters(trained, tmp_path):
    episodes, whole = trained
    with pytest.raises(KilledError):
        run(episodes, tmp_path, on_progress=killed_at(25))
    assert not (tmp_path / "policy.hope").exists()
    assert not list(tmp_path.glob("*.part"))
    seen = []
    report = run(
        episodes, tmp_path, on_progress=lambda done, total, loss: seen.append(done)
    )
    assert report.resumed_at == 20
    assert seen == list(range(21, STEPS + 1))
    _assert_equal_params(report, whole)
    told = [row.loss for row in report.loss_curve]
    assert told == [row.loss for row in whole.loss_curve]
    assert not (tmp_path / "training.state").exists()


@pytest.mark.req("R-LEARN-13")
def test_a_state_of_another_run_is_not_gone_on_from(trained, tmp_path):
    episodes, _ = trained
    with pytest.raises(KilledError):
        run(episodes, tmp_path, on_progress=killed_at(15))
    assert run(episodes, tmp_path, seed=1).resumed_at == 0


def _batch(episode, **changes):
    from continuon.learn.windows import cut, stack

    return attrs.evolve(stack([cut(episode, 0, 8)]), **changes)


@pytest.mark.req("R-LEARN-19")
def test_actions_told_ahead_are_held_against_what_was_done_then():
    from continuon.hope import HopeConfig
    from continuon.learn.losses import _ahead, counts_of

    batch = _batch(stripe_episodes(1)[0])

    def mean(chunk, batch):
        counts = counts_of(HopeConfig(action_chunk=3), batch)
        return float(_ahead(chunk, batch, 1.0) / counts.ahead)

    right = np.stack([np.roll(batch.action, -h, 1) for h in range(3)], 2)
    assert mean(right, batch) == 0.0
    wrong = right + np.float32(0.5)
    assert mean(wrong, batch) == pytest.approx(0.5 + 0.25)
    only_first = right.copy()
    only_first[:, :, 0] += 9.0
    only_first[:, -1:, 1:] += 9.0  # after the window's end nothing is known
    assert mean(only_first, batch) == 0.0
    scattered = attrs.evolve(batch, follows=np.zeros_like(batch.follows))
    assert mean(wrong, scattered) == 0.0
    valid = batch.valid.copy()
    valid[:, 3] = False
    gone = right.copy()
    for tick, ahead in ((2, 1), (1, 2), (2, 2), (3, 1), (3, 2)):
        gone[:, tick, ahead] += 9.0  # at, over or from an invalid step
    assert mean(gone, attrs.evolve(batch, valid=valid)) == 0.0


@pytest.mark.req("R-LEARN-19")
def test_the_part_of_the_head_that_tells_ahead_is_trained():
    from continuon._specs.hope.examples import QUICK
    from continuon.hope import init, preset
    from continuon.learn.losses import knobs_of, losses_of

    config = preset("seed", image_height=8, image_width=12, **TINY, action_chunk=3)
    batch = _batch(stripe_episodes(1)[0])

    def total(params):
        return losses_of(params, config, knobs_of(RECIPE, 10), batch).total

    slope = jax.jit(jax.grad(total), compiler_options=QUICK)(init(0, config))
    assert slope["heads"]["action"].shape == (16, 6)
    assert np.abs(slope["heads"]["action"]).min(0).max() > 0
    assert np.abs(slope["heads"]["action_bias"]).min() > 0


@pytest.mark.req("R-LEARN-19")
@pytest.mark.parametrize("sense", ["depth", "instruction"])
def test_an_input_that_recordings_are_not_read_for_is_refused(sense):
    from continuon.hope import preset
    from continuon.learn.losses import observe

    more = {
        "depth": {"depth_height": 8, "depth_width": 12},
        "instruction": {"instruction_size": 16},
    }
    config = preset("seed", image_height=8, image_width=12, **TINY, **more[sense])
    with pytest.raises(ContractError, match="E-LEARN-SENSE-001") as caught:
        observe(config, _batch(stripe_episodes(1)[0]))
    assert caught.value.seen == sense


@pytest.mark.req("R-LEARN-23")
def test_a_batch_in_parts_gives_the_gradient_of_the_whole():
    from continuon._specs.hope.examples import QUICK
    from continuon.hope import init, preset
    from continuon.hope.checkpoint import flatten
    from continuon.learn.losses import knobs_of, parts
    from continuon.learn.update import gradient_of
    from continuon.learn.windows import Batch, WindowSampler

    config = preset("seed", image_height=8, image_width=12, **TINY, action_chunk=2)
    recipe = attrs.evolve(RECIPE, sparsity_lambda=0.01, scramble=0.4)
    batch = WindowSampler(stripe_episodes(4), recipe, 0).batch(0)
    valid = batch.valid.copy()
    valid[0, 2:] = False  # parts of unequal worth: a mean of their means is wrong
    batch = attrs.evolve(batch, valid=valid)
    params, knobs = init(0, config), knobs_of(recipe, 10)

    def told(accumulate):
        def run(params, *arrays):
            return gradient_of(params, config, knobs, Batch(*arrays), accumulate)

        slope, losses = jax.jit(run, compiler_options=QUICK)(params, *parts(batch))
        return flatten(slope), losses

    whole, losses = told(1)
    for accumulate in (2, 4):
        summed, again = told(accumulate)
        np.testing.assert_allclose(again, losses, atol=1e-6)
        for name, slope in whole.items():
            np.testing.assert_allclose(summed[name], slope, atol=1e-6, err_msg=name)


@pytest.mark.req("R-LEARN-23")
def test_a_batch_that_does_not_divide_into_its_parts_is_refused():
    with pytest.raises(ContractError, match="E-LEARN-RECIPE-001") as caught:
        attrs.evolve(RECIPE, batch_size=4, accumulate=3)
    assert caught.value.where == "accumulate"
    assert attrs.evolve(RECIPE, accumulate=2).part_size == 2


@pytest.mark.slow
@pytest.mark.req("R-LEARN-13")
@pytest.mark.req("R-LEARN-23")
def test_a_killed_run_in_parts_goes_on_to_the_very_same_parameters(tmp_path):
    episodes, recipe = stripe_episodes(4), attrs.evolve(RECIPE, accumulate=2)
    more = {"num_steps": 20, "recipe": recipe}
    whole = run(episodes, tmp_path / "whole", **more)
    with pytest.raises(KilledError):
        run(episodes, tmp_path / "cut", on_progress=killed_at(15), **more)
    report = run(episodes, tmp_path / "cut", **more)
    assert report.resumed_at == 10
    _assert_equal_params(report, whole)


@pytest.mark.req("R-LEARN-54")
def test_the_pytorch_trainer_refuses_what_it_does_not_compute():
    from continuon.hope import preset
    from continuon.learn.mid_torch import _known_here

    parts = {"mid_turns": True, "straight_action": True, "unit_keys": True}
    with pytest.raises(ContractError, match="E-LEARN-TORCH-001") as caught:
        _known_here(preset("nano", action_chunk=4, **parts))
    assert caught.value.seen == "action_chunk, mid_turns, straight_action, unit_keys"
    assert _known_here(preset("nano")) == preset("nano")


@pytest.mark.req("R-LEARN-15")
def test_a_loss_that_is_not_finite_stops_training(tmp_path, trained):
    from continuon.learn.loop import run_steps
    from continuon.learn.losses import Losses
    from continuon.learn.update import start
    from continuon.learn.windows import WindowSampler

    episodes, report = trained
    config = _config(report)
    bad = Losses(*(np.float32("nan"),) * 4)
    with pytest.raises(DataError, match="E-LEARN-NAN-001"):
        run_steps(
            start(config, 0),
            lambda state, batch: (state, bad),
            WindowSampler(episodes, RECIPE, 0),
            until=3,
        )


def test_the_report_is_plain_and_names_what_it_was_made_of(trained):
    import json

    _, report = trained
    facts = json.loads(json.dumps(report.as_dict()))
    assert facts["origin"] == "synthetic"
    assert len(facts["held_out_episodes"]) == 2
    rows = report.loss_csv.read_text().splitlines()
    assert rows[0].startswith("step,loss,")
    assert len(rows) == STEPS + 1


@pytest.mark.req("R-LEARN-22")
def test_a_model_that_does_not_fit_the_episodes_is_refused(trained):
    from continuon.errors import ContractError

    _, report = trained
    with pytest.raises(ContractError, match="E-LEARN-FIT-001"):
        evaluate(report.checkpoint, stripe_episodes(2, speed=True))


def test_a_mode_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UsageError, match="E-LEARN-MODE-001"):
        train(tmp_path, tmp_path, mode="gpu-farm")


def test_evaluating_nothing_is_an_error(trained):
    _, report = trained
    blind = [attrs.evolve(e, valid=~e.valid) for e in stripe_episodes(2)]
    with pytest.raises(DataError, match="E-LEARN-EVAL-001"):
        evaluate(report.checkpoint, blind)


@pytest.mark.req("R-LEARN-21")
def test_a_fed_back_action_is_the_models_own(trained):
    from continuon.hope import init, preset
    from continuon.learn.rollout import predict

    held_out = stripe_episodes(2)
    config = preset(
        "seed", image_height=8, image_width=12, use_previous_action=True, **TINY
    )
    params = init(0, config)
    told = predict(params, config, held_out)
    other = predict(
        params, config, [attrs.evolve(e, action=-e.action) for e in held_out]
    )
    for one, two in zip(told, other, strict=True):
        np.testing.assert_array_equal(one.action, two.action)


def _assert_equal_params(one, two):
    from continuon.hope import load_checkpoint
    from continuon.hope.checkpoint import flatten

    a = flatten(load_checkpoint(one.checkpoint).params)
    b = flatten(load_checkpoint(two.checkpoint).params)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def _config(report):
    from continuon.hope import load_checkpoint

    return load_checkpoint(report.checkpoint).config
