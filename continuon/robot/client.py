"""Talk to a running robot service from this machine: the API as calls."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from continuon.clock import Clock, SystemClock
from continuon.errors import HardwareError, MissingPackageError, error_from_dict
from continuon.home import Home
from continuon.robot.service import LOCAL_TOKEN_FILE, SERVICE_FILE

__all__ = ["RobotClient", "Teleop", "running_or_started"]

_START_NS = 60_000_000_000
_LOOK_NS = 50_000_000
_STOP_S = 15.0
_ANSWER_S = 5.0


class RobotClient:
    """One service's API. Build it with `find`.

    Args:
        port: where the service listens on loopback.
        token: the secret of this run of the service.
    """

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self._token = token

    @classmethod
    def find(cls, home: Home) -> RobotClient:
        """Return a client of the service that runs on this home.

        Raises:
            HardwareError: E-ROBOT-CLIENT-001, none runs.
        """
        try:
            record = json.loads((home.state / SERVICE_FILE).read_bytes())
            token = (home.state / LOCAL_TOKEN_FILE).read_text("ascii")
        except FileNotFoundError as error:
            raise _no_service(home) from error
        if not Path(f"/proc/{record['pid']}").exists():
            raise _no_service(home)
        return cls(int(record["port"]), token)

    def ask(
        self, path: str, body: dict[str, Any] | None = None, *, timeout_s: float = 30.0
    ) -> dict[str, Any]:
        """GET a path, or POST a body to it, and return the answer.

        Raises:
            ContinuonError: the robot refused, with its own code.
            HardwareError: E-ROBOT-CLIENT-002, it does not answer.
        """
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        headers = {"authorization": f"Bearer {self._token}"}
        data = None
        if body is not None:
            headers["content-type"] = "application/json"
            data = json.dumps(body).encode()
        try:
            link.request("GET" if body is None else "POST", path, data, headers)
            answer = link.getresponse()
            found: dict[str, Any] = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise HardwareError(
                "E-ROBOT-CLIENT-002",
                f"the robot service does not answer: {error}",
                where=f"127.0.0.1:{self.port}{path}",
                hint="systemctl status continuon",
            ) from error
        finally:
            link.close()
        if answer.status >= 400 and "code" in found:
            raise error_from_dict(found)
        return found

    def is_ready(self) -> bool:
        """Return whether the service answers that every part is well."""
        try:
            return bool(self.ask("/readyz").get("ready"))
        except HardwareError:
            return False

    @contextmanager
    def teleop(self) -> Iterator[Teleop]:
        """Open the socket that takes a person's commands.

        Raises:
            MissingPackageError: websockets is not installed.
        """
        try:
            from websockets.sync.client import connect
        except ImportError as error:
            raise MissingPackageError.for_extra(
                "websockets", "pi", purpose="teleoperation"
            ) from error
        url = f"ws://127.0.0.1:{self.port}/teleop"
        headers = {"authorization": f"Bearer {self._token}"}
        with connect(url, additional_headers=headers, compression=None) as socket:
            yield Teleop(socket)


class Teleop:
    """An open teleoperation socket."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def send(self, action: tuple[float, ...], source: str) -> dict[str, Any]:
        """Send one command and return the robot's answer to it.

        Raises:
            HardwareError: E-ROBOT-CLIENT-002, the service is gone or silent.
        """
        from websockets.exceptions import WebSocketException

        try:
            self._socket.send(json.dumps({"action": action, "source": source}))
            answer: dict[str, Any] = json.loads(self._socket.recv(timeout=_ANSWER_S))
        except (WebSocketException, TimeoutError) as error:
            raise HardwareError(
                "E-ROBOT-CLIENT-002",
                f"the robot service does not answer: {error}",
                where="/teleop",
                hint="systemctl status continuon",
            ) from error
        return answer


@contextmanager
def running_or_started(
    home: Home, rig: str, *, clock: Clock | None = None
) -> Iterator[RobotClient]:
    """Yield a client of the service on this home; one that was not there is started.

    A service that was started here is stopped at the end, outputs off.

    Raises:
        HardwareError: E-ROBOT-CLIENT-003, it does not become ready.
    """
    found = _found(home)
    if found is not None:
        yield found
        return
    command = [sys.executable, "-m", "continuon.robot.service", "--port", "0"]
    command += ["--rig", rig, "--home", str(home.root)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield _ready(process, home, clock or SystemClock())
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _found(home: Home) -> RobotClient | None:
    try:
        return RobotClient.find(home)
    except HardwareError:
        return None


def _ready(process: subprocess.Popen[bytes], home: Home, clock: Clock) -> RobotClient:
    limit_ns = clock.monotonic_ns() + _START_NS
    while clock.monotonic_ns() < limit_ns and process.poll() is None:
        client = _found(home)
        if client is not None and client.is_ready():
            return client
        clock.sleep_until_ns(clock.monotonic_ns() + _LOOK_NS)
    raise HardwareError(
        "E-ROBOT-CLIENT-003",
        "the robot service did not become ready",
        seen=f"exit status {process.poll()}",
        allowed=f"ready within {_START_NS / 1e9:g} s",
        hint="its own message stands above",
    )


def _no_service(home: Home) -> HardwareError:
    return HardwareError(
        "E-ROBOT-CLIENT-001",
        "no robot service runs on this home",
        where=home.state,
        hint="continuon robot serve",
    )
