"""The cockpit in a real browser on the simulated rig: `nox -s cockpit`."""

from __future__ import annotations

from pathlib import Path

import pytest

from continuon.home import Home
from continuon.robot.client import running_or_started


def pytest_addoption(parser):
    parser.addoption(
        "--pictures", type=Path, help="keep what the browser showed in this folder"
    )


@pytest.fixture(scope="module")
def robot(tmp_path_factory, request):
    """A robot service on the simulated rig; a test that pairs asks for its own."""
    home = Home(tmp_path_factory.mktemp("home"))
    with running_or_started(home, "sim") as client:
        yield client
