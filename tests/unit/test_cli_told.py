"""What a command says can be read, done and typed: one line, real options, figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import continuon
from continuon.cli.program import run
from continuon.cli.table import COMMANDS
from continuon.errors import ContractError

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
