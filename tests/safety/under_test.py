"""A robot to be hurt: a live simulated body, and the real processes upon it.

The outputs are read from the servo board's registers in shared memory, where nothing but
bytes on the (simulated) bus, through the real smbus2, can have put them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from continuon.robot.control import ControlHandle
from continuon.robot.control_config import ControlConfig
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.guard_handle import GuardHandle
from continuon.robot.install import WATCHDOG_S
from continuon.robot.modes import Motion
from continuon.sim.live import attach, start_live_rig

FAKES = "continuon._specs.robot.fakes"
POLL_S = 0.0005


class Outputs:
    """The registers, watched from outside."""

    def __init__(self, path):
        self._rig = attach(path)
        self._chip = self._rig.chip

    @property
    def driven(self):
        """Whether any channel carries pulses."""
        return any(self._chip.pulses_us().values())

    def wait(self, driven, seconds):
        """Wait until outputs are driven, or off; returns whether they are."""
        until = time.monotonic() + seconds
        while self.driven != driven:
            if time.monotonic() > until:
                return False
            time.sleep(POLL_S)
        return True

    def close(self):
        self._rig.close()


class Body:
    """A live world with a small camera, which costs little."""

    def __init__(self, seed):
        self.world = start_live_rig(seed, width=64, height=48, depth=False)
        self.outputs = Outputs(self.world.path)
        kwargs = {"handle": self.world.path}
        self.rig = Factory(target="continuon.sim.live:attach", kwargs=kwargs)
        self._owner = None

    def claim(self, owner):
        """End whoever drove before: one guard at a time owns the bus."""
        if self._owner not in (None, owner):
            self._owner.close()
        self._owner = owner

    def mend(self):
        """Undo every fault of the world."""
        self.world.fail_bus("none")
        self.world.hang_camera(hangs=False)
        self.world.unplug_camera(unplugged=False)

    def close(self):
        self.outputs.close()
        self.world.close()


class Loops:
    """Guard and control loop on a body; a loop that died is started again."""

    def __init__(self, body):
        self.body = body
        self.guard = GuardHandle(body.rig)
        self.control = None
        self._guarded = False
        self._hand_off = threading.Event()
        self._hand = None

    def drive(self):
        """Let a policy drive, and return once outputs are driven."""
        self._start()
        self.control.start_executing(Motion.POLICY)
        assert self.body.outputs.wait(True, 10.0), "it does not drive"

    def drive_by_hand(self):
        """Let a hand drive that never falls silent."""
        self.let_go()
        self._start()
        self._hand_off = threading.Event()
        self._hand = threading.Thread(target=self._hold, args=(self._hand_off,))
        self._hand.start()
        for _ in range(5):
            self.control.start_executing(Motion.TELEOP)
            if self.body.outputs.wait(True, 2.0):
                return
        raise AssertionError("it does not drive")

    def let_go(self):
        self._hand_off.set()
        if self._hand is not None:
            self._hand.join()
            self._hand = None

    def _hold(self, off):
        while not off.wait(0.03):
            self.control.teleop([0.1, 0.1], "human_teleop_xr")

    def _start(self):
        self.body.claim(self)
        if not self._guarded:
            self.guard.start()
            self._guarded = True
        if self.control is None or not self.control.alive:
            self.end_loop()
            config = ControlConfig(
                rig=self.body.rig,
                limits=car_limits(),
                artifact_dir="gain-0.0",
                loader=f"{FAKES}:load_fake",
                log_capacity=10_000,
            )
            self.control = ControlHandle(config, self.guard).start()

    def end_loop(self):
        self.let_go()
        if self.control is not None:
            if self.control.alive:
                os.kill(self.control.pid, signal.SIGCONT)
            self.control.close()
            self.control = None

    def thaw(self):
        """Let a frozen loop go on; what it was doing is over."""
        os.kill(self.control.pid, signal.SIGCONT)
        self.control.stop_executing()

    def renew_guard(self):
        """A guard that died is replaced, and the loop with it."""
        until = time.monotonic() + 10
        while self.guard.alive:
            assert time.monotonic() < until, "the second left the guard hung"
            time.sleep(0.001)
        assert self.guard.stop_without_guard()
        self.end_loop()
        self.guard.close()
        self.guard.start()

    def close(self):
        self.end_loop()
        self.guard.close()
        self._guarded = False


class Service:
    """The whole service as a process forked from a template, and a person's hand on it."""

    def __init__(self, body, home, template):
        self.body = body
        self.home = Path(home)
        self.process = None
        self.port = 0
        self._template = template
        self._hand_off = threading.Event()
        self._hand = None

    def start(self):
        self.body.claim(self)
        arguments = ["--port", "0", "--policy", "gain-0.0", "--home", str(self.home)]
        arguments += ["--rig", json.dumps(self.body.rig.as_dict())]
        record = self.home / "state" / "service.json"
        record.unlink(missing_ok=True)
        self.process = self._template.fork(arguments)
        until = time.monotonic() + 60
        while not (record.exists() and self._ready(record)):
            assert time.monotonic() < until, "the service does not start"
            assert self.process.poll() is None, "the service ended"
            time.sleep(0.05)

    def ask(self, path, body=None, timeout=10.0):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=data,
            headers={"content-type": "application/json"},
        )
        return json.loads(urllib.request.urlopen(request, timeout=timeout).read())

    def drive(self, mode="MANUAL"):
        """Drive by hand, thirty commands a second, and return once outputs are driven."""
        self.enter(mode)
        self._hand_off = threading.Event()
        self._hand = threading.Thread(target=self._hold, args=(self._hand_off,))
        self._hand.start()
        time.sleep(0.1)
        self._go()

    def drive_by_policy(self):
        """Let the policy drive, and return once outputs are driven."""
        self.enter("AUTONOMOUS")
        self._go()

    def enter(self, mode):
        """Start the service where it does not run, and go to a mode, idle."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        self.let_go()
        if self.ask("/mode")["mode"] == "E_STOP":
            self.ask("/mode", {"request": "CLEAR"})
        self.ask("/mode", {"request": mode})

    def _go(self):
        for _ in range(5):
            self.ask("/mode", {"request": "START"})
            if self.body.outputs.wait(True, 2.0):
                return
        raise AssertionError("it does not drive")

    def let_go(self):
        self._hand_off.set()
        if self._hand is not None:
            self._hand.join()
            self._hand = None

    def thaw(self):
        """Let a hung service go on, and wait until it answers again."""
        self.let_go()
        self.process.send_signal(signal.SIGCONT)
        assert self.ask("/livez", timeout=20)["live"]

    def end_as_systemd_does(self):
        """Wait for WatchdogSec, abort, kill, and run the unit's ExecStopPost."""
        silent_since = time.monotonic()
        while time.monotonic() - silent_since < WATCHDOG_S:
            assert not self.body.outputs.driven
            time.sleep(0.05)
        for number in (signal.SIGABRT, signal.SIGCONT):
            self.process.send_signal(number)
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        stop = [sys.executable, "-m", "continuon.robot.guard", "--stop"]
        stop += ["--rig", json.dumps(self.body.rig.as_dict())]
        assert subprocess.run(stop, check=False).returncode == 0
        assert not self.body.outputs.driven

    def kill(self):
        """End it at once, whatever state it is in."""
        self.let_go()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        self.let_go()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(20)
        self._template.close()

    def _hold(self, off):
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        frame = json.dumps({"action": [0.1, 0.1], "source": "human_teleop_xr"})
        try:
            url = f"ws://127.0.0.1:{self.port}/teleop"
            with connect(url, compression=None, close_timeout=0.2) as socket:
                while not off.wait(0.033):
                    socket.send(frame)
                    try:
                        socket.recv(timeout=0.2)
                    except TimeoutError:
                        continue
        except (OSError, WebSocketException):
            return

    def _ready(self, record):
        self.port = json.loads(record.read_text())["port"]
        try:
            return self.ask("/readyz")["ready"]
        except OSError:
            return False


class StopButton:
    """Presses without waiting for the answer: how soon is off, not how soon is said."""

    def __init__(self, service):
        self.service = service
        self.link = None

    def press(self):
        port, body = self.service.port, b'{"reason": "pressed"}'
        self.link = socket.create_connection(("127.0.0.1", port), 10)
        head = "POST /estop HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.link.sendall(head.encode() + b"\r\n" + body)

    def hear(self):
        """Take the answer: the mode, and the latch on disk."""
        with self.link as link:
            answer = b""
            while more := link.recv(4096):
                answer += more
        assert b" 200 OK" in answer
        assert b"E_STOP" in answer
