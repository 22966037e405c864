"""The supervisor's end of the guard: start it, permit, forbid, and read what it did."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Self

import attrs

from continuon.clock import Clock, SystemClock
from continuon.errors import HardwareError
from continuon.robot.board import Board, GuardStatus, Permit
from continuon.robot.factory import Factory
from continuon.robot.guard_rules import REASONS, OffReason
from continuon.robot.supply import Supply

__all__ = ["GuardHandle", "GuardReport", "shared_memory_folder"]

_START_TIMEOUT_NS = 20_000_000_000
_STOP_TIMEOUT_S = 3.0
_WAIT_NS = 5_000_000
_HUNG_NS = 3_000_000_000
_SECOND_NS = 300_000_000
_PREFIX = "continuon-board-"


def shared_memory_folder() -> Path:
    """Return where files are memory: /dev/shm, else the temporary folder."""
    shm = Path("/dev/shm")  # noqa: S108
    return shm if os.access(shm, os.W_OK) else Path(tempfile.gettempdir())


@attrs.frozen(kw_only=True)
class GuardReport:
    """The guard's own account, for people and gates."""

    alive: bool
    driving: bool
    reason: OffReason
    polls: int
    applied: int
    stops: int
    trips: int
    bus_errors: int
    max_gap_ms: float
    off_delay_ms: float
    driven_channels: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return attrs.asdict(self) | {"reason": self.reason.value}


class GuardHandle:
    """A running guard. It dies, outputs off, when the process that started it dies.

    Args:
        servos: builds the rig or its servos inside the guard's process.
        heartbeat_timeout_ms: silence of the loop that stops the outputs; the stop is
            proven a few milliseconds later, and within half a second in all.
        permit_expires: a permission must be renewed within 450 ms, by whoever could
            take it back.
        clock: for waiting on the guard's first poll.
    """

    def __init__(
        self,
        servos: Factory,
        *,
        heartbeat_timeout_ms: float = 400.0,
        permit_expires: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._servos = servos
        self._heartbeat_ms = heartbeat_timeout_ms
        self._clock = clock or SystemClock()
        self._board: Board | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._expires = permit_expires
        self._permitting = threading.Lock()
        self._permit = Permit(epoch=0, allowed=False, e_stop=False)

    @property
    def board_path(self) -> Path:
        """The board's file, for the control process."""
        return self._opened().path

    @property
    def pid(self) -> int:
        """The guard's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the guard's process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the process and wait until it has proven every output off.

        Raises:
            HardwareError: it ended, or could not prove the outputs off in 20 s.
        """
        self.launch()
        return self.wait_ready()

    def launch(self) -> None:
        """Start the process, and do not wait."""
        memory = shared_memory_folder()
        _sweep(memory)
        folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=memory)
        board = self._board = Board.create(Path(folder) / "board")
        board.write_permit(self._permit)
        command = [sys.executable, "-m", "continuon.robot.guard"]
        command += ["--rig", json.dumps(self._servos.as_dict())]
        command += ["--board", str(board.path), "--parent", str(os.getpid())]
        command += ["--heartbeat-ms", str(self._heartbeat_ms)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def wait_ready(self) -> Self:
        """Wait until it has proven every output off.

        Raises:
            HardwareError: it ended, or could not prove the outputs off in 20 s.
        """
        board = self._opened()
        deadline_ns = self._clock.monotonic_ns() + _START_TIMEOUT_NS
        while not self._is_ready(board):
            if not self.alive or self._clock.monotonic_ns() > deadline_ns:
                code = self.close()
                raise HardwareError(
                    "E-ROBOT-GUARD-001",
                    "the guard did not prove the outputs off at its start",
                    seen=f"exit status {code}",
                    hint="see its message above, then `continuon rig scan`",
                )
            self._clock.sleep_until_ns(self._clock.monotonic_ns() + _WAIT_NS)
        return self

    def permit(self) -> int:
        """Allow motion for one new epoch, and return its number for the loop."""
        with self._permitting:
            epoch = self._permit.epoch + 1
            self._write(Permit(epoch=epoch, allowed=True, e_stop=False))
            return epoch

    def forbid(self, *, e_stop: bool = False) -> None:
        """Take the permission back; the guard turns outputs off at its next poll.

        Before the guard was started there is none to take.
        """
        with self._permitting:
            if self._board is None:
                return
            epoch = self._permit.epoch
            self._write(Permit(epoch=epoch, allowed=False, e_stop=e_stop))

    def renew(self) -> None:
        """Say that whoever gave the permission could still take it back."""
        with self._permitting:
            if self._expires and self._board is not None:
                self._write(self._permit)

    def _write(self, permit: Permit) -> None:
        now_ns = self._clock.monotonic_ns() if self._expires else 0
        self._permit = attrs.evolve(permit, renewed_ns=now_ns)
        self._opened().write_permit(self._permit)

    def status(self) -> GuardStatus | None:
        """Return what the guard wrote last; None before its first poll."""
        return self._opened().read_status()

    def supply(self) -> Supply | None:
        """Return what it saw of the battery last; None before its first look."""
        return self._opened().read_supply()

    def report(self) -> GuardReport:
        """Return the guard's own account.

        Raises:
            HardwareError: E-ROBOT-GUARD-002, it never wrote one.
        """
        status = self.status()
        if status is None:
            raise HardwareError(
                "E-ROBOT-GUARD-002", "the guard has not looked at its board yet"
            )
        return GuardReport(
            alive=self.alive,
            driving=status.driving,
            reason=REASONS[status.reason],
            polls=status.polls,
            applied=status.applied,
            stops=status.stops,
            trips=status.trips,
            bus_errors=status.bus_errors,
            max_gap_ms=status.max_gap_ns / 1e6,
            off_delay_ms=status.off_delay_ns / 1e6,
            driven_channels=sum(us != 0.0 for us in status.read_back_us),
        )

    def kill_if_hung(self) -> bool:
        """Kill a guard that has not looked for three seconds; returns whether it was.

        A bus call may hold it for one second; a guard that was stopped holds for ever.
        """
        status = self.status()
        if status is None or not self.alive or self._process is None:
            return False
        if self._clock.monotonic_ns() - status.poll_ns < _HUNG_NS:
            return False
        self._process.kill()
        self._process.wait()
        return True

    def stop_without_guard(self) -> bool:
        """See that the outputs are off, the guard being dead.

        Its second has done that by now, and says so on the board. Where it has not, a
        new process does, which takes as long as starting Python; the chip drives its
        last pulses until then. Returns whether outputs were read back as off.
        """
        assert not self.alive, "two processes never use one bus"
        limit_ns = self._clock.monotonic_ns() + _SECOND_NS
        while self._clock.monotonic_ns() < limit_ns:
            status = self.status()
            if status is not None and REASONS[status.reason] is OffReason.GUARD_DIED:
                if not status.driving:
                    return True
                break
            self._clock.sleep_until_ns(self._clock.monotonic_ns() + _WAIT_NS)
        command = [sys.executable, "-m", "continuon.robot.guard", "--stop"]
        command += ["--rig", json.dumps(self._servos.as_dict())]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
        return run.returncode == 0

    def close(self) -> int | None:
        """Stop outputs and the process; returns its exit status (4: unproven stop)."""
        if self._board is None:
            return None
        code = None
        if self._process is not None:
            self._process.terminate()
            try:
                code = self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                code = self._process.wait()
        self._board.close()
        shutil.rmtree(self._board.path.parent)
        self._board = None
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _opened(self) -> Board:
        assert self._board is not None, "start() comes first"
        return self._board

    @staticmethod
    def _is_ready(board: Board) -> bool:
        status = board.read_status()
        return status is not None and status.off_ns > 0


def _sweep(memory: Path) -> None:
    """Remove the boards of starters that were killed."""
    for folder in memory.glob(f"{_PREFIX}*"):
        starter = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if starter.isdigit() and not Path(f"/proc/{starter}").exists():
            shutil.rmtree(folder, ignore_errors=True)
