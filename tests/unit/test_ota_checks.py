import importlib

import pytest

CHECKS = ["stager.explore", "stager.sweep", "stager.powerloss", "bundle.oracle"]


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_tells_how_it_is_used(name, capsys):
    check = importlib.import_module(f"continuon._specs.{name}")
    with pytest.raises(SystemExit) as caught:
        check.main(["--help"])
    assert caught.value.code == 0
    assert f"usage: python -m continuon._specs.{name}" in capsys.readouterr().out


@pytest.mark.req("R-STAGER-05")
def test_an_exploration_ends_with_its_figures(capsys):
    check = importlib.import_module("continuon._specs.stager.explore")
    assert check.main(["300", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("explore: ")
    assert "300 states" in last
    assert "0 violations" in last
