"""A number that no command could work with is refused before anything is read."""

from __future__ import annotations

import json

import pytest

from continuon.cli.program import run
from continuon.cli.ranges import check_ranges


@pytest.fixture
def code(tmp_path, monkeypatch, capsys):
    """Run a command that must fail by usage; returns its error code."""
    monkeypatch.setenv("CONTINUON_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def call(*words):
        assert run([*words, "--json"]) == 2
        assert list(tmp_path.iterdir()) == []
        return json.loads(capsys.readouterr().out)["error"]["code"]

    return call


SEEDED = [
    ("sanity",),
    ("train",),
    ("mid", "run", "--enable"),
    ("train", "hand", "."),
    ("train", "codebook"),
    ("train", "distil"),
    ("memory", "merge", "a.plane"),
    ("record",),
    ("pipeline", "run"),
]


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
@pytest.mark.parametrize("words", SEEDED, ids=" ".join)
def test_a_seed_that_no_generator_takes_is_refused(code, words, seed):
    assert code(*words, f"--seed={seed}") == "E-CLI-SEED-001"


@pytest.mark.parametrize("command", ["sanity", "prove", "train"])
@pytest.mark.parametrize(
    "words",
    [
        ("--depth", "8", "0"),
        ("--depth", "0", "8"),
        ("--depth", "-3", "8"),
        ("--depth", "8", "-2"),
        ("--instruction-size", "-3"),
    ],
    ids=" ".join,
)
def test_a_sense_without_a_size_is_refused(code, command, words):
    assert code(command, *words) == "E-LEARN-SENSE-004"


@pytest.mark.parametrize("ticks", ["0", "-5"])
def test_no_tick_at_all_cannot_be_timed(code, ticks):
    assert code("infer", "--model-path", ".", "--ticks", ticks) == "E-CLI-COUNT-001"


@pytest.mark.parametrize("rate", ["0", "-30", "nan", "inf"])
def test_a_policy_without_a_rate_is_not_compiled(code, rate):
    pytest.importorskip("jax")
    assert code("compile", "none.hope", f"--control-rate-hz={rate}") == (
        "E-EXPORT-RATE-001"
    )


@pytest.mark.parametrize("words", [("train", "distil"), ("evaluate",)], ids=" ".join)
@pytest.mark.parametrize("share", ["0", "1", "-0.5", "nan", "inf"])
def test_a_held_out_share_is_a_proper_fraction(code, words, share):
    assert code(*words, f"--holdout={share}") == "E-CLI-RANGE-001"


@pytest.mark.parametrize(
    "option",
    [
        "--learning-rate=0",
        "--learning-rate=-1",
        "--learning-rate=nan",
        "--learning-rate=inf",
        "--sparsity-lambda=-1",
        "--sparsity-lambda=inf",
        "--sparsity-lambda=nan",
    ],
)
def test_a_rate_that_teaches_nothing_is_refused(code, option):
    assert code("sanity", option) == "E-CLI-RANGE-001"


def test_an_adapter_of_no_rank_is_refused(code):
    assert code("mid", "run", "--enable", "--rank=0") == "E-CLI-RANGE-001"


@pytest.mark.parametrize("command", ["sanity", "prove", "train"])
def test_a_state_that_is_named_twice_is_refused(code, command):
    assert code(command, "--state", "elbow", "--state", "elbow") == "E-CLI-RANGE-002"


def test_one_name_of_many_letters_is_no_list_of_names():
    check_ranges({"state": "elbow", "holdout": None, "other": -1})
