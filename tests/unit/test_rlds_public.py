"""The room's door: every public name is there, and opening it loads little."""

import importlib
import subprocess
import sys

import pytest

import continuon.rlds

HEAVY = {"simplejpeg", "pandera", "polars", "isal", "jax", "tensorflow"}


@pytest.mark.parametrize("name", continuon.rlds.__all__)
def test_every_public_name_is_the_one_of_its_module(name):
    value = getattr(continuon.rlds, name)
    home = importlib.import_module(value.__module__)
    assert value is getattr(home, name)
    assert name in dir(continuon.rlds)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_thing"):
        continuon.rlds.no_such_thing  # noqa: B018


@pytest.mark.slow
def test_importing_the_room_and_its_names_loads_no_heavy_package():
    code = (
        "import sys, continuon.rlds as rlds\n"
        "assert 'numpy' not in sys.modules\n"
        "[getattr(rlds, name) for name in rlds.__all__]\n"
        "print(*sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {name.split(".")[0] for name in out.stdout.split()} & HEAVY
