"""One suite for every rig: `pytest tests/hil --rig sim|umockdev|vm|pi`.

A rig that cannot be had here, or a part that it lacks, is a skip with its reason.
`umockdev` is the Pi's own rig on simulated device nodes; it is run below
`python -m continuon.testing.umockdev`.
"""

from __future__ import annotations

import os

import pytest

RIGS = ("sim", "umockdev", "vm", "pi")


def pytest_addoption(parser):
    parser.addoption("--rig", choices=RIGS, default="sim", help="what to test")
    parser.addoption(
        "--move", action="store_true", help="a person allows servos to move"
    )
    parser.addoption(
        "--runs", type=int, default=2, help="how many seeded runs of each failure"
    )


@pytest.fixture
def rig_name(request):
    """The rig's word, or a skip with the reason that there is none here."""
    name = request.config.getoption("--rig")
    if name == "vm":
        pytest.skip(
            "a virtual machine with real kernel nodes is not built yet: inside one, the "
            "rig is pi"
        )
    if name == "umockdev" and "UMOCKDEV_DIR" not in os.environ:
        pytest.skip("not below `python -m continuon.testing.umockdev`")
    if name == "pi" and "UMOCKDEV_DIR" in os.environ:
        pytest.skip("these are simulated device nodes, not a Pi's")
    return name


@pytest.fixture
def rig(rig_name):
    if rig_name == "sim":
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
        why = getattr(rig, "reasons", {}).get(name, "it has none")
        pytest.skip(f"this rig ({rig.name}) has no {name}: {why}")
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
