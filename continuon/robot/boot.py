"""Prove a boot: start the service as a process, look at it from outside, stop it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from continuon.clock import Clock, SystemClock
from continuon.errors import HardwareError
from continuon.home import Home
from continuon.robot.bodies import Body, open_body
from continuon.robot.discovery import discover
from continuon.robot.factory import Factory
from continuon.robot.guard import servos_of

__all__ = ["BootReport", "boot_check"]

_READY_NS = 30_000_000_000
_WATCH_NS = 1_000_000_000
_LOOK_NS = 50_000_000
_STOP_S = 10.0
_BYTES_PER_CHANNEL = 4
_BODY_NAMES = {"pi": "pi"}


@attrs.frozen(kw_only=True)
class BootReport:
    """What was seen of a boot from outside.

    Attributes:
        api_up: /readyz said yes.
        discovered: another process found it by mDNS, with the port it listens on.
        mode, executing: as the API said.
        servo_bytes_driving: bytes that drove an output: pulse updates that the guard
            wrote, and driven channels that were read back, four bytes each.
        ready_after_s: from the start of the process to the first yes.
        outputs_looked_at: how often the outputs were read back from here.
        stopped_cleanly: it ended by itself on SIGTERM, with status 0.
        driving_after_stop: channels that were still driven when it had ended.
        notes: plain sentences for a person.
    """

    api_up: bool
    discovered: bool
    mode: str | None
    executing: bool | None
    servo_bytes_driving: int | None
    ready_after_s: float | None
    port: int | None
    outputs_looked_at: int
    stopped_cleanly: bool
    driving_after_stop: int | None
    status: dict[str, Any] | None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return attrs.asdict(self)


@attrs.define
class _Outputs:
    """The outputs as seen from this process, where that is possible at all.

    On a real robot the guard alone may use the bus; there its own read back counts.
    """

    rig: Any
    looked: int = 0
    driven: int = 0

    def look(self) -> int | None:
        if self.rig is None:
            return None
        # A simulated chip shows its outputs without a bus transaction, which would
        # meet the guard's on the way.
        chip = getattr(self.rig, "chip", None)
        pulses = chip.pulses_us() if chip else servos_of(self.rig).read_pulses_us()
        values = pulses.values() if isinstance(pulses, Mapping) else pulses
        now = len([us for us in values if us != 0.0])
        self.looked += 1
        self.driven = max(self.driven, now)
        return now


def boot_check(
    *,
    rig: str | Factory = "sim",
    home: Home | None = None,
    seed: int = 0,
    name: str | None = None,
    clock: Clock | None = None,
    discover_timeout_s: float = 8.0,
) -> BootReport:
    """Boot the robot service and report what can be seen from outside.

    Args:
        rig: "sim" (a world is started for it), "pi", or a factory of a rig that other
            processes may look at.
        home: the data root; None takes a temporary one.
        seed: of the simulated world.
        name: what the robot is called for the time of the check.
        clock: measures the start; the machine's own.
        discover_timeout_s: how long to listen for the robot.

    Raises:
        HardwareError: E-ROBOT-BOOT-001, the service did not become ready.
    """
    clock = clock or SystemClock()
    if home is None:
        with tempfile.TemporaryDirectory() as folder:
            return boot_check(
                rig=rig,
                home=Home(Path(folder)),
                seed=seed,
                name=name,
                clock=clock,
                discover_timeout_s=discover_timeout_s,
            )
    name = name or f"continuon-{os.getpid()}"
    with open_body(rig, seed=seed) as body:
        outputs = _Outputs(None if body.word in _BODY_NAMES else body.rig.build())
        try:
            return _check(
                body,
                home,
                outputs,
                name=name,
                clock=clock,
                discover_timeout_s=discover_timeout_s,
            )
        finally:
            if outputs.rig is not None and hasattr(outputs.rig, "close"):
                outputs.rig.close()


def _check(
    body: Body,
    home: Home,
    outputs: _Outputs,
    *,
    name: str,
    clock: Clock,
    discover_timeout_s: float,
) -> BootReport:
    word = json.dumps(body.rig.as_dict()) if body.word not in _BODY_NAMES else body.word
    command = [sys.executable, "-m", "continuon.robot.service", "--port", "0"]
    command += ["--rig", word, "--name", name, "--home", str(home.root)]
    record = home.state / "service.json"
    record.unlink(missing_ok=True)
    outputs.look()
    began_ns = clock.monotonic_ns()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        port = _wait_ready(process, record, clock, outputs)
        ready_s = (clock.monotonic_ns() - began_ns) / 1e9
        found = discover(discover_timeout_s, name=name)
        discovered = any(robot.port == port for robot in found)
        until_ns = clock.monotonic_ns() + _WATCH_NS
        while clock.monotonic_ns() < until_ns:
            outputs.look()
            clock.sleep_until_ns(clock.monotonic_ns() + _LOOK_NS)
        status = _get(port, "/status")
        process.terminate()
        code = process.wait(_STOP_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    after = outputs.look()
    guard = status["guard"]
    updates = int(guard["applied"]) + int(guard["driven_channels"]) + outputs.driven
    return BootReport(
        api_up=True,
        discovered=discovered,
        mode=status["mode"],
        executing=status["executing"],
        servo_bytes_driving=updates * _BYTES_PER_CHANNEL,
        ready_after_s=ready_s,
        port=port,
        outputs_looked_at=outputs.looked,
        stopped_cleanly=code == 0,
        driving_after_stop=after,
        status=status,
        notes=_notes(name, ready_s, outputs, found_port=port if discovered else None),
    )


def _notes(
    name: str, ready_s: float, outputs: _Outputs, *, found_port: int | None
) -> tuple[str, ...]:
    seen = (
        f"outputs read back {outputs.looked} times from another process"
        if outputs.rig is not None
        else "outputs as the guard read them back; nobody else may use the bus"
    )
    where = (
        f"{name} was found by mDNS at port {found_port}"
        if found_port
        else f"{name} was not found by mDNS"
    )
    return (f"ready after {ready_s:.2f} s", where, seen)


def _wait_ready(
    process: subprocess.Popen[bytes], record: Path, clock: Clock, outputs: _Outputs
) -> int:
    limit_ns = clock.monotonic_ns() + _READY_NS
    while clock.monotonic_ns() < limit_ns and process.poll() is None:
        if record.exists():
            port = int(json.loads(record.read_bytes())["port"])
            answer = _try_get(port, "/readyz")
            if answer is not None and answer.get("ready"):
                return port
        outputs.look()
        clock.sleep_until_ns(clock.monotonic_ns() + _LOOK_NS)
    raise HardwareError(
        "E-ROBOT-BOOT-001",
        "the service did not become ready",
        seen=f"exit status {process.poll()}",
        allowed="a yes from /readyz within 30 s",
        hint="its own message stands above",
    )


def _try_get(port: int, path: str) -> dict[str, Any] | None:
    try:
        return _get(port, path)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def _get(port: int, path: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}{path}"
    with urllib.request.urlopen(url, timeout=5.0) as answer:
        body: dict[str, Any] = json.loads(answer.read())
    return body
