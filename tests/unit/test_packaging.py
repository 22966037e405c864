"""What a person installs: the wheel and the sdist hold the contracts, and only us."""

from __future__ import annotations

import os
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _specs() -> set[str]:
    return {
        path.relative_to(ROOT / "specs").as_posix()
        for path in (ROOT / "specs").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Build both from the working tree, with the build backend itself: no network."""
    from hatchling.build import build_sdist, build_wheel

    target = tmp_path_factory.mktemp("dist")
    here = Path.cwd()
    os.chdir(ROOT)
    try:
        return target / build_wheel(str(target)), target / build_sdist(str(target))
    finally:
        os.chdir(here)


@pytest.mark.slow
def test_the_wheel_holds_every_contract_and_no_other_top_level_name(dist):
    names = set(zipfile.ZipFile(dist[0]).namelist())
    assert {f"continuon/_specs/{name}" for name in _specs()} <= names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"continuon"}
    assert "continuon/py.typed" in names


@pytest.mark.slow
def test_the_sdist_can_be_built_from_again(dist):
    with tarfile.open(dist[1]) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "continuon/_specs/gates.toml",
    } <= names


def test_picamera2_and_an_all_extra_are_in_no_metadata():
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(extras) >= {
        "pi",
        "ota",
        "data",
        "train",
        "tpu",
        "export",
        "sim",
        "viz",
        "beam",
    }
    assert "all" not in extras
    everything = list(PROJECT["project"]["dependencies"])
    for needs in extras.values():
        everything += needs
    assert not [need for need in everything if "picamera2" in need]


def test_the_core_stays_light():
    names = {need.split(">")[0] for need in PROJECT["project"]["dependencies"]}
    assert names == {
        "attrs",
        "msgspec",
        "numpy",
        "cryptography",
        "google-crc32c",
        "cyclopts",
        "rich",
    }
