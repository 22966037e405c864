"""The one systemd unit, started by systemd itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from continuon.home import Home
from continuon.robot.client import RobotClient
from continuon.robot.factory import Factory
from continuon.robot.install import UNIT_NAME, UnitFacts, install_unit

UNITS = Path("/run/systemd/system")
HOME = Path("/run/continuon-unit-test")
"""The unit has a /tmp of its own, where a test's folder would not be seen."""


def systemctl(*words):
    return subprocess.run(
        ["systemctl", *words], capture_output=True, text=True, check=False
    )


@pytest.fixture
def unit(request):
    """The unit on the simulated rig, installed until the next boot."""
    if request.config.getoption("--rig") != "sim":
        pytest.skip("the installed unit of a real robot is left alone")
    if not UNITS.is_dir():
        pytest.skip("systemd does not run this machine")
    if os.geteuid() != 0:
        pytest.skip("installing a unit needs root")
    if systemctl("cat", UNIT_NAME).returncode == 0:
        pytest.skip(f"{UNIT_NAME} is installed here already")
    facts = UnitFacts(
        home=HOME,
        rig="sim",
        servos=Factory(target="continuon.sim:SimRig"),
        python=Path(sys.executable),
        user="root",
    )
    report = install_unit(facts, directory=UNITS)
    systemctl("daemon-reload")
    HOME.mkdir()
    yield Home(HOME)
    systemctl("stop", UNIT_NAME)
    report.path.unlink()
    shutil.rmtree(HOME)
    systemctl("daemon-reload")


@pytest.mark.slow
@pytest.mark.req("R-UNIT-01")
def test_systemd_starts_it_and_starts_it_again_after_a_crash(unit):
    started = systemctl("start", UNIT_NAME)
    # Type=notify: this returns once the service itself said that it is ready.
    assert started.returncode == 0, started.stderr
    client = RobotClient.find(unit)
    assert client.is_ready()
    assert client.ask("/mode")["executing"] is False
    pid = int(systemctl("show", "-P", "MainPID", UNIT_NAME).stdout)
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 60
    while True:
        now = systemctl("show", "-P", "MainPID", UNIT_NAME).stdout.strip()
        if now not in ("0", str(pid)) and systemctl("is-active", UNIT_NAME).stdout == (
            "active\n"
        ):
            break
        assert time.monotonic() < until, systemctl("status", UNIT_NAME).stdout
        time.sleep(0.2)
    assert RobotClient.find(unit).ask("/mode")["executing"] is False
    assert systemctl("stop", UNIT_NAME).returncode == 0
    assert systemctl("is-failed", UNIT_NAME).stdout == "inactive\n"
