"""What a command says can be read, done and typed: one line, real options, figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs
import numpy as np
import pytest

import continuon
from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon.cli.learn import loss, margin
from continuon.cli.plane import _told
from continuon.cli.program import run
from continuon.cli.table import COMMANDS
from continuon.errors import ContractError, DataError
from continuon.learn.controls import Interval
from continuon.rlds.steps import steps_of
from continuon.rlds.validate import validate_recording

SOURCE = Path(continuon.__file__).parent
WORDS = {command.words for command in COMMANDS}
SAID = re.compile(r"continuon ((?:[a-z-]+ )*[a-z][a-z-]*) (--[a-z][a-z-]*)")


def said():
    """Return (command, option) of every `continuon ... --option` in the source."""
    found = set()
    for path in sorted(SOURCE.rglob("*.py")):
        for words, option in SAID.findall(path.read_text("utf-8")):
            parts = words.split()
            known = [" ".join(parts[:n]) for n in (2, 1)]
            command = next((one for one in known if one in WORDS), None)
            if command is not None:
                found.add((command, option))
    return sorted(found)


@pytest.mark.parametrize(("command", "option"), said())
def test_an_option_that_a_hint_names_exists(command, option, capsys):
    assert run([*command.split(), "--help"]) == 0
    assert option in capsys.readouterr().out.split()


def test_a_name_with_control_characters_stays_on_the_error_s_one_line():
    error = ContractError("E-X-Y-003", "odd", seen="new\nline", where="a\x1b[31mb\r")
    assert str(error) == "E-X-Y-003: odd; seen new\\nline; at a\\x1b[31mb\\r"
    assert error.as_dict()["seen"] == "new\nline"
    assert str(ContractError("E-X-Y-003", "ü", seen="größe/β\xa0")).endswith("β\xa0")


def test_a_dead_sensor_is_named(tmp_path):
    draft = legal_draft()
    names = ("elbow", "wrist")
    rows = tuple(
        (at, np.array([0.1, np.nan], np.float32)) for at, _ in draft.samples["state"]
    )
    streams = tuple(
        attrs.evolve(s, names=names) if s.name == "state" else s for s in draft.streams
    )
    dead = attrs.evolve(
        draft, streams=streams, samples={**draft.samples, "state": rows}
    )
    told = validate_recording(write_draft(dead, tmp_path)).warnings
    (text,) = [f.text for f in told if f.code == "E-EPISODE-STATE-001"]
    assert text.endswith("of wrist")


def test_a_recording_without_pictures_says_what_to_do_with_it(tmp_path):
    draft = legal_draft()
    kept = tuple(s for s in draft.streams if s.name in ("state", "action"))
    samples = {s.name: draft.samples[s.name] for s in kept}
    blind = attrs.evolve(draft, streams=kept, samples=samples)
    with pytest.raises(DataError, match="E-RLDS-STEPS-001") as caught:
        steps_of(write_draft(blind, tmp_path))
    assert "rgb" in caught.value.allowed
    assert "folder" in caught.value.hint


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("evaluate", "no.hope"), "`continuon train`"),
        (("infer", "--model-path", "."), "`continuon compile`"),
        (("infer", "--model-path", "no"), "`continuon compile`"),
        (("train",), "`continuon convert`"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_is_missing_is_named_with_the_command_that_makes_it(
    tmp_path, monkeypatch, capsys, words, hint
):
    pytest.importorskip("jax")
    monkeypatch.setenv("CONTINUON_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert run([*words, "--json"]) == 1
    assert hint in json.loads(capsys.readouterr().out)["error"]["hint"]


def test_margins_and_losses_are_told_in_figures():
    assert margin(Interval(0.14645109, -0.39432366, 0.68722584)) == (
        "0.1465, between -0.3943 and 0.6872"
    )
    assert loss(1.3522722721099854) == "1.3523"
    assert loss(None) == "none"


def test_episodes_that_are_too_short_for_memory_are_not_called_old():
    nothing = {"taken": (), "short": ("a", "b"), "version": 0}
    assert _told(nothing) == [
        "no other episode is new; there is no version yet",
        "too short to go in: a, b",
    ]
    assert _told({"taken": (), "short": (), "version": 3}) == [
        "no episode is new; version 3 is the newest"
    ]
