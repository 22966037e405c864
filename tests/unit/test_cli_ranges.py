"""A number that no command could work with is refused before anything is read."""

from __future__ import annotations

import json

import pytest

from continuon.cli.program import run


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
