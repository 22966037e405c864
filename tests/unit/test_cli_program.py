"""The program: commands, common options, layered configuration, exit codes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib import import_module
from types import SimpleNamespace

import pytest

from continuon.cli import program
from continuon.cli.options import layer, split_common
from continuon.cli.pipeline import _say_losses
from continuon.cli.render import Result, plain
from continuon.cli.table import COMMANDS, Command
from continuon.errors import TrustError, UsageError


def _greet(
    name: str,
    *,
    times: int = 1,
    loud: bool = False,
    also: Sequence[str] = (),
):
    """Greet somebody."""
    if name == "stranger":
        raise TrustError("E-T-T-001", "strangers are refused")
    return Result(
        data={"name": name, "times": times, "loud": loud, "also": list(also)},
        exit_code=times - 1,
    )


@pytest.fixture(autouse=True)
def greet(monkeypatch, tmp_path):
    command = Command("greet", "fake:greet", "Greet somebody", ("name",))
    monkeypatch.setattr(program, "COMMANDS", (*COMMANDS, command))
    real = import_module

    def fake(name):
        if name == "continuon.cli.fake":
            return type("module", (), {"greet": staticmethod(_greet)})
        return real(name)

    monkeypatch.setattr(program, "import_module", fake)
    monkeypatch.chdir(tmp_path)


def test_help_lists_every_command_and_returns_zero(capsys):
    assert program.run(["--help"]) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert command.words in out


def test_a_group_alone_shows_its_commands_as_a_usage_error(capsys):
    assert program.run(["bundle"]) == 2
    assert "bundle verify" in capsys.readouterr().out


def test_an_unknown_command_suggests_the_nearest(capsys):
    assert program.run(["epsiodes", "list"]) == 2
    assert "episodes list" in capsys.readouterr().err


def test_a_result_becomes_one_json_object_and_its_exit_code(capsys):
    assert program.run(["greet", "ada", "--times", "4", "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == {
        "name": "ada",
        "times": 4,
        "loud": False,
        "also": [],
    }


def test_json_can_go_to_a_file(tmp_path):
    assert program.run(["greet", "ada", "--json=out.json", "--quiet"]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["name"] == "ada"


@pytest.mark.parametrize(
    "argv",
    [["greet"], ["greet", "ada", "--tims", "3"], ["greet", "ada", "--times", "many"]],
)
def test_a_usage_mistake_is_one_line_and_exit_two(argv, capsys):
    assert program.run(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: E-CLI-USAGE-001")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_refusal_keeps_its_code_and_exit_status(capsys):
    assert program.run(["greet", "stranger", "--json"]) == 5
    captured = capsys.readouterr()
    assert "E-T-T-001" in captured.err
    assert json.loads(captured.out)["error"]["code"] == "E-T-T-001"


def test_a_dry_run_names_what_would_be_written_and_does_nothing(capsys):
    assert program.run(["greet", "stranger", "--dry-run", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["would_write"] == {"name": "stranger"}
    assert data["done"] is False


def test_configuration_is_file_under_environment_under_flag(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "continuon.toml").write_text("[greet]\ntimes = 2\nloud = true\n")
    program.run(["greet", "ada", "--show-config", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["times"] == {"value": 2, "origin": "file continuon.toml"}
    assert shown["loud"]["value"] is True
    monkeypatch.setenv("CONTINUON_GREET_TIMES", "5")
    program.run(["greet", "ada", "--show-config", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["times"] == {
        "value": 5,
        "origin": "environment CONTINUON_GREET_TIMES",
    }
    program.run(["greet", "ada", "--times=7", "--show-config", "--json"])
    assert json.loads(capsys.readouterr().out)["times"] == {
        "value": 7,
        "origin": "flag",
    }


def _shown(capsys, *argv):
    assert program.run(["greet", "--show-config", "--json", *argv]) == 0
    rows = json.loads(capsys.readouterr().out)
    return {
        name: (row["value"], row["origin"].split()[0]) for name, row in rows.items()
    }


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["ada"], "name", "ada"),
        (["--name=ada"], "name", "ada"),
        (["ada", "--loud"], "loud", True),
        (["ada", "--no-loud"], "loud", False),
        (["ada", "--times", "1"], "times", 1),
        (["ada", "--also", "eve", "--also=bob"], "also", ["eve", "bob"]),
        (["--", "ada"], "name", "ada"),
    ],
)
def test_what_the_command_line_says_is_called_a_flag_and_wins(
    monkeypatch, capsys, argv, name, value
):
    monkeypatch.setenv("CONTINUON_GREET_LOUD", "true")
    monkeypatch.setenv("CONTINUON_GREET_TIMES", "5")
    monkeypatch.setenv("CONTINUON_GREET_NAME", "zoe")
    monkeypatch.setenv("CONTINUON_GREET_ALSO", "max")
    assert _shown(capsys, *argv)[name] == (value, "flag")


def test_a_switch_in_the_environment_is_on_or_off_and_nothing_else(monkeypatch, capsys):
    for text, value in (("1", True), ("off", False), ("TRUE", True), ("no", False)):
        monkeypatch.setenv("CONTINUON_GREET_LOUD", text)
        assert _shown(capsys, "ada")["loud"] == (value, "environment")
    monkeypatch.setenv("CONTINUON_GREET_LOUD", "maybe")
    assert program.run(["greet", "ada"]) == 2
    assert "E-CLI-CONFIG-004" in capsys.readouterr().err


def test_the_text_true_stays_a_text(tmp_path, monkeypatch, capsys):
    (tmp_path / "continuon.toml").write_text('[greet]\nname = "true"\n')
    assert _shown(capsys)["name"] == ("true", "file")
    monkeypatch.setenv("CONTINUON_GREET_NAME", "false")
    assert _shown(capsys)["name"] == ("false", "environment")


def test_several_values_come_from_an_array_or_a_path_like_variable(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "continuon.toml").write_text('[greet]\nalso = ["a b", "c"]\n')
    assert _shown(capsys, "ada")["also"] == (["a b", "c"], "file")
    monkeypatch.setenv("CONTINUON_GREET_ALSO", os.pathsep.join(["d", "e"]))
    assert _shown(capsys, "ada")["also"] == (["d", "e"], "environment")


def test_a_required_parameter_may_come_from_the_environment(monkeypatch, capsys):
    monkeypatch.setenv("CONTINUON_GREET_NAME", "eve")
    assert program.run(["greet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "eve"


def test_a_misspelt_key_in_the_file_is_refused(tmp_path):
    (tmp_path / "continuon.toml").write_text("[greet]\ntims = 2\n")
    with pytest.raises(UsageError, match="E-CLI-CONFIG-002"):
        layer("greet", _greet, {}, {})


def test_health_takes_the_path_after_json():
    common, rest = split_common(["health", "--quick", "--json", "report"])
    assert str(common.json_path) == "report"
    assert rest == ["health", "--quick"]
    common, rest = split_common(["greet", "--json", "ada"])
    assert common.json_path is None
    assert rest == ["greet", "ada"]


@pytest.mark.parametrize(
    "argv", [["greet", "ada", "--json", "-"], ["greet", "ada", "--json=-"]]
)
def test_a_dash_is_standard_output_and_nothing_else_is_printed_there(argv, capsys):
    assert program.run(argv) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "ada"


@pytest.mark.parametrize("named", ["", "there"])
def test_a_folder_for_the_report_is_refused_before_anything_is_done(
    tmp_path, capsys, named
):
    (tmp_path / "there").mkdir()
    assert program.run(["greet", "stranger", f"--json={named}"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["code"] == "E-CLI-JSON-001"
    assert captured.err.count("\n") == 1


def test_a_report_says_in_json_what_its_as_dict_says():
    class Report:
        def as_dict(self):
            return {"lost": (1, 2), "exit_code": 3}

    assert plain([Report()]) == [{"lost": [1, 2], "exit_code": 3}]


def test_every_command_in_the_table_exists_and_says_what_it_does():
    for command in COMMANDS:
        module, _, name = command.target.partition(":")
        function = getattr(import_module(f"continuon.cli.{module}"), name)
        assert function.__doc__, command.words
        parameters = function.__annotations__
        for name in command.writes:
            assert name in parameters, f"{command.words} has no parameter {name}"


def test_not_a_number_is_null_in_json():
    assert plain({"a": float("nan"), "b": (1, 2.5)}) == {"a": None, "b": [1, 2.5]}


@pytest.mark.parametrize(("lost", "code", "words"), [(2, 0, 1), (0, 0, 0), (2, 3, 0)])
def test_a_phase_that_passed_still_says_what_an_import_lost(capsys, lost, code, words):
    """One that did not pass says all of its notes anyway."""
    notes = ("imported from a tub", "E-RLDS-TUB-016 rows whose image is missing (2)")
    receipt = SimpleNamespace(
        name="capture", figures={"imported_losses": lost}, notes=notes
    )
    _say_losses(SimpleNamespace(exit_code=code, receipt=receipt))
    said = capsys.readouterr().err.splitlines()
    assert said == [f"lost in capture: {notes[1]}"] * words
