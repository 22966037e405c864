"""The one unit under a systemd of its own: it boots, is hurt, and starts again, still.

systemd runs as process 1 of a container, so no machine needs it, and none is changed. The
simulated servo board lies in memory that the container shares with this process, which
sees every pulse.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import continuon
from continuon.errors import ContinuonError
from continuon.home import Home
from continuon.robot.client import RobotClient
from continuon.robot.factory import Factory
from continuon.robot.install import UNIT_NAME, UnitFacts, render_unit
from continuon.robot.service import DEFAULT_PORT, LOCAL_TOKEN_FILE
from continuon.sim.live import attach, start_live_rig

GROUPS = "root:x:0:\ni2c:x:998:\nvideo:x:44:\ngpio:x:997:\n"
PASSWD = "root:x:0:0:root:/root:/bin/sh\n"
TARGET = f"[Unit]\nRequires={UNIT_NAME} told.service\n"
TOLD = f"""\
[Unit]
DefaultDependencies=no
After={UNIT_NAME}
[Service]
Type=oneshot
ExecStart=/bin/touch {{home}}/told-ready
"""


FORKED = ("control_process", "recorder_proces", "live_world", "guard_second")


class Booted:
    """A container with a systemd, whose home and servo board are seen from here."""

    def __init__(self, folder, board):
        # The unit has a /tmp of its own, where a test's folder would not be seen.
        self.home = Path(tempfile.mkdtemp(prefix="continuon-unit-", dir="/run"))
        self._seen = attach(board)
        self.chip = self._seen.chip
        servos = Factory(target="continuon.sim.live:attach", kwargs={"handle": board})
        facts = UnitFacts(
            home=self.home,
            rig=shlex.quote(json.dumps(servos.as_dict())),
            servos=servos,
            python=Path(sys.executable),
            user="root",
        )
        units = Path("/etc/systemd/system")
        files = {
            units / UNIT_NAME: render_unit(facts),
            units / "told.service": TOLD.format(home=self.home),
            units / "test.target": TARGET,
            Path("/etc/group"): GROUPS,
            Path("/etc/passwd"): PASSWD,
        }
        command = ["systemd-nspawn", "--quiet", "--directory=/", "--volatile=yes"]
        command += [
            "--register=no",
            "--keep-unit",
            f"--machine=continuon-{os.getpid()}",
        ]
        command += [f"--bind={self.home}", f"--bind={board}"]
        repository = Path(continuon.__file__).parents[1]
        for shown in {sys.prefix, sys.base_prefix, str(repository)}:
            command += [f"--bind-ro={shown}"]
        for number, (inside, text) in enumerate(files.items()):
            outside = folder / str(number)
            outside.write_text(text)
            command += [f"--bind-ro={outside}:{inside}"]
        command += ["--boot", "systemd.unit=test.target", "systemd.firstboot=off"]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def driven(self):
        return any(self.chip.pulses_us().values())

    def pid(self, module):
        """Return the id here of the container's process that runs a module.

        One that was forked has its parent's command line, and a name of its own.
        """
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                name = (entry / "comm").read_text().strip()
                mine = str(self.home).encode() in (entry / "environ").read_bytes()
            except OSError:
                continue
            named = name == module[:15]
            started = f"continuon.robot.{module}".encode() in words
            if mine and (named or (started and name not in FORKED)):
                return int(entry.name)
        return None

    def wait(self, condition, seconds=150):
        until = time.monotonic() + seconds
        while not (seen := condition()):
            assert self._process.poll() is None, self.log.read_text("utf-8", "replace")
            assert time.monotonic() < until, self.log.read_text("utf-8", "replace")
            time.sleep(0.02)
        return seen

    def ready(self):
        try:
            # Its process has another number here: only the token is looked up.
            token = (Home(self.home).state / LOCAL_TOKEN_FILE).read_text("ascii")
            client = RobotClient(DEFAULT_PORT, token)
            return client if client.is_ready() else None
        except (ContinuonError, OSError):
            return None

    def close(self):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._seen.close()
        shutil.rmtree(self.home)


@pytest.fixture
def booted(request, tmp_path):
    if request.config.getoption("--rig") != "sim":
        pytest.skip("the unit of a real robot is left alone")
    if shutil.which("systemd-nspawn") is None or os.geteuid() != 0:
        pytest.skip(
            "booting a systemd needs root and systemd-nspawn (systemd-container)"
        )
    here = Path(continuon.__file__).resolve()
    if any(here.is_relative_to(hidden) for hidden in ("/tmp", "/var/tmp")):
        pytest.skip("the unit has a /tmp of its own, which hides a checkout below it")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", DEFAULT_PORT)) == 0:
            pytest.skip(f"port {DEFAULT_PORT} is taken")
    world = start_live_rig(5, width=64, height=48, depth=False)
    booted = Booted(tmp_path, world.path)
    yield booted
    booted.close()
    world.close()


def drive(booted, client):
    """Drive by hand until outputs are driven."""
    off = threading.Event()
    client.ask("/mode", {"request": "MANUAL"})

    def hold():
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        frame = json.dumps({"action": [0.1, 0.1], "source": "human_teleop_xr"})
        url = f"ws://127.0.0.1:{DEFAULT_PORT}/teleop"
        try:
            with connect(url, compression=None, close_timeout=0.2) as end:
                while not off.wait(0.03):
                    end.send(frame)
        except (OSError, WebSocketException):
            return

    hand = threading.Thread(target=hold)
    hand.start()
    for _ in range(10):
        client.ask("/mode", {"request": "START"})
        until = time.monotonic() + 2
        while time.monotonic() < until:
            if booted.driven:
                return off, hand
            time.sleep(0.001)
    off.set()
    raise AssertionError("it does not drive")


@pytest.mark.slow
@pytest.mark.req("R-UNIT-01")
def test_systemd_starts_it_stops_the_outputs_after_it_and_starts_it_again(booted):
    client = booted.wait(booted.ready)
    # Type=notify: what comes after the unit begins when the service said READY=1.
    booted.wait((booted.home / "told-ready").exists)
    assert client.ask("/mode")["executing"] is False
    assert not booted.driven
    off, hand = drive(booted, client)
    service, guard = booted.pid("service"), booted.pid("guard")
    # With these gone nobody but ExecStopPost is left to write to the board.
    second, loop = booted.pid("guard_second"), booted.pid("control_process")
    for pid in (second, guard, loop, service):
        os.kill(pid, signal.SIGKILL)
    off.set()
    hand.join()
    booted.wait(lambda: not booted.driven)
    # The next service's own guard would stop them too, a second and more later.
    assert booted.pid("service") is None
    booted.wait(lambda: booted.pid("service") not in (None, service))
    again = booted.wait(booted.ready)
    assert again.ask("/mode")["executing"] is False
    assert not booted.driven
