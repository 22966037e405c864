from __future__ import annotations

import csv
import json

import attrs
import numpy as np
import pytest

from continuon._specs.learn.examples import (
    RECIPE,
    TINY,
    noise_episodes,
    record_episode,
    stripe_episodes,
)
from continuon.errors import ContractError, DataError, UsageError
from continuon.learn.controls import deal_labels
from continuon.learn.data import split_by_time
from continuon.learn.evidence import write_json
from continuon.learn.proof import margins, prove, run_proof
from continuon.learn.resources import ResourceMonitor
from continuon.learn.sanity import METRIC_COLUMNS, run_sanity, sanity_of

jax = pytest.importorskip("jax")
pytestmark = pytest.mark.slow


def sanity(tmp_path, episodes=None, **changes):
    settings = {
        "arch_preset": "seed",
        "max_steps": 8,
        "recipe": RECIPE,
        "overrides": TINY,
        "monitor": ResourceMonitor(tmp_path / "unreadable"),
        **changes,
    }
    return sanity_of(episodes or stripe_episodes(4), **settings)


@pytest.mark.req("R-LEARN-30")
def test_sanity_passes_on_good_data_and_writes_the_plans_columns(tmp_path):
    report = sanity(
        tmp_path,
        metrics_path=tmp_path / "metrics.csv",
        checkpoint_dir=tmp_path / "checkpoints",
        obs_dim=8 * 12 * 3,
        action_dim=2,
    )
    assert report.passed, report.reasons
    assert report.loss_decrease > 0
    assert report.state_shapes_ok
    assert report.unknown_resources == (
        "memory_available_mib",
        "memory_pressure_percent",
        "temperature_celsius",
    )
    text = (tmp_path / "metrics.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert tuple(rows[0]) == METRIC_COLUMNS
    assert [row["step"] for row in rows] == [str(i) for i in range(8)]
    twin = json.loads((tmp_path / "metrics.json").read_text())
    assert [row["loss"] for row in twin] == [float(row["loss"]) for row in rows]
    assert rows[0]["imagination_tail_dims"] == "8"
    assert (tmp_path / "checkpoints/sanity.hope").exists()
    json.dumps(report.as_dict())


@pytest.mark.req("R-LEARN-31")
def test_a_loss_that_does_not_fall_fails_sanity(tmp_path):
    recipe = attrs.evolve(RECIPE, learning_rate=1e-30)
    report = sanity(tmp_path, recipe=recipe, max_steps=2)
    assert not report.passed
    assert report.reasons == ("the loss did not decrease",)


@pytest.mark.req("R-LEARN-31")
def test_no_step_is_no_pass(tmp_path):
    report = sanity(tmp_path, max_steps=0)
    assert not report.passed
    assert "no step was taken" in report.reasons


@pytest.mark.req("R-LEARN-31")
def test_a_critical_resource_stops_sanity(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable: 1024 kB\n")
    report = sanity(
        tmp_path, monitor=ResourceMonitor(tmp_path), checkpoint_dir=tmp_path / "c"
    )
    assert not report.passed
    assert report.critical_alerts == 1
    assert report.steps == 0
    assert report.loss_decrease is None
    assert any("E-LEARN-RES-001" in reason for reason in report.reasons)
    assert not (tmp_path / "c").exists()


@pytest.mark.req("R-LEARN-32")
@pytest.mark.parametrize("asked", [{"obs_dim": 128}, {"action_dim": 32}])
def test_dimensions_that_differ_from_the_data_are_refused(tmp_path, asked):
    with pytest.raises(ContractError, match="E-LEARN-DIM-001") as caught:
        sanity(tmp_path, **asked)
    assert "obs_dim 288, action_dim 2" in caught.value.seen
    assert str(next(iter(asked.values()))) in caught.value.allowed


@pytest.mark.req("R-LEARN-04")
def test_sanity_has_no_synthetic_fallback(tmp_path):
    with pytest.raises(DataError):
        run_sanity(tmp_path, arch_preset="seed")


def proof_of(episodes, **changes):
    from continuon.hope import preset

    train, held_out = split_by_time(episodes)
    config = preset("seed", image_height=8, image_width=12, **TINY)
    settings = {"config": config, "recipe": RECIPE, "num_steps": 40, **changes}
    return prove(train, held_out, **settings)


@pytest.mark.req("R-LEARN-40")
@pytest.mark.req("R-LEARN-42")
def test_data_that_teach_something_pass_the_proof(tmp_path):
    report = proof_of(stripe_episodes(15))
    assert report.passed, report.reasons
    assert report.updates == 40
    assert report.max_parameter_delta > 1e-9
    assert all(seed.unmoved == () for seed in report.seeds)
    assert report.improvement_over_shuffled_ci_low > 0
    assert report.novelty_after < report.novelty_before
    write_json(tmp_path / "proof_of_learning.json", report.as_dict())
    facts = json.loads((tmp_path / "proof_of_learning.json").read_text())
    assert facts["verdict"] == "PASSED"
    assert len(facts["seeds"]) == 5
    for name in ("data_digest", "config_digest", "recipe_digest", "code_digest"):
        assert len(facts[name]) == 64


@pytest.mark.req("R-LEARN-40")
def test_the_margin_is_what_the_reports_own_errors_say(tmp_path):
    report = proof_of(stripe_episodes(15), seeds=(0, 1, 2))
    write_json(tmp_path / "proof.json", report.as_dict())
    told = json.loads((tmp_path / "proof.json").read_text())
    errors = np.array([seed["by_episode"] for seed in told["seeds"]])
    assert errors.shape == (3, 3, report.held_out_episodes)
    over_frozen, over_shuffled = margins(errors)
    assert attrs.asdict(over_frozen) == told["improvement_over_frozen"]
    assert attrs.asdict(over_shuffled) == told["improvement_over_shuffled"]
    of_seeds = (errors[:, 1] - errors[:, 0]).mean(1)
    half = 4.303 * of_seeds.std(ddof=1) / np.sqrt(3)
    assert over_shuffled.low <= of_seeds.mean() - half < of_seeds.mean()
    assert told["seeds"][1]["shuffled"] == pytest.approx(errors[1, 1].mean())


def _noise_all_over(seed):
    rng = np.random.default_rng([seed, 9])
    return [
        attrs.evolve(e, images=rng.integers(0, 256, e.images.shape, np.uint8))
        for e in noise_episodes(15, seed=seed)
    ]


def _dealt(seed):
    return deal_labels(stripe_episodes(15, seed=seed), np.random.default_rng(seed))


@pytest.mark.req("R-LEARN-41")
@pytest.mark.parametrize(
    "made", [lambda seed: noise_episodes(15, seed=seed), _noise_all_over, _dealt]
)
def test_nothing_to_learn_fails_the_proof_whatever_was_drawn(made):
    for seed in range(4):
        report = proof_of(made(seed), seeds=(seed, seed + 10, seed + 20))
        assert report.verdict == "FAILED"
        assert any("shuffled-label" in reason for reason in report.reasons)
        assert report.improvement_over_shuffled_ci_low <= 0


@pytest.mark.req("R-LEARN-41")
def test_recordings_of_noise_fail_the_proof_and_the_report_says_so(tmp_path):
    for index, episode in enumerate(_noise_all_over(0)):
        record_episode(tmp_path / "episodes", episode, start_wall_ns=index)
    report = run_proof(
        tmp_path / "episodes",
        output=tmp_path / "proof.json",
        num_steps=40,
        seeds=(0, 1, 2),
        minimum_episodes=15,
        recipe=RECIPE,
        overrides=TINY,
    )
    told = json.loads((tmp_path / "proof.json").read_text())
    assert report.verdict == told["verdict"] == "FAILED"
    assert told["origin"] == "synthetic"
    assert told["improvement_over_shuffled_ci_low"] <= 0


@pytest.mark.req("R-LEARN-40")
def test_no_updates_fail_the_proof():
    report = proof_of(stripe_episodes(4), num_steps=0)
    assert "no update was made" in report.reasons
    assert len(report.reasons) == 4


@pytest.mark.req("R-LEARN-40")
def test_fewer_than_three_seeds_prove_nothing():
    with pytest.raises(UsageError, match="E-LEARN-SEEDS-001"):
        proof_of(stripe_episodes(4), seeds=(0, 1, 1))


@pytest.mark.req("R-LEARN-04")
def test_a_proof_needs_recordings(tmp_path):
    with pytest.raises(DataError):
        run_proof(tmp_path, output=tmp_path / "proof_of_learning.json")
    assert not (tmp_path / "proof_of_learning.json").exists()
