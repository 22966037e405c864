"""One suite for simulated and real rigs: `pytest tests/hil --rig sim|pi`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser):
    parser.addoption("--rig", choices=["sim", "pi"], default="sim", help="what to test")
    parser.addoption(
        "--move", action="store_true", help="a person allows servos to move"
    )


@pytest.fixture
def rig(request):
    if request.config.getoption("--rig") == "sim":
        from continuon.sim import SimRig

        made = SimRig(11, width=640, height=480)
    else:
        from continuon.rig.pi import PiRig

        made = PiRig()
    yield made
    made.close()


def part(rig, name):
    """Return a part of the rig, or skip with the reason that it is absent."""
    found = getattr(rig, name)
    if found is None:
        pytest.skip(f"this rig ({rig.name}) has no {name}")
    return found


@pytest.fixture
def camera(rig):
    found = part(rig, "camera")
    found.open()
    return found


@pytest.fixture
def servos(rig):
    return part(rig, "servos")


@pytest.fixture
def battery(rig):
    return part(rig, "battery")


@pytest.fixture
def thermal(rig):
    return part(rig, "thermal")


@pytest.fixture
def state(rig):
    return part(rig, "state")


@pytest.fixture
def may_move(request, rig):
    if rig.origin == "real" and not request.config.getoption("--move"):
        pytest.skip("servos move only with --move and a person beside the robot")
