"""The supervisor's end of the control process: start it, drive it, swap its policy."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import attrs
import msgspec

from continuon.errors import BudgetError, ContinuonError, HardwareError
from continuon.robot.channel import Channel, channel_pair
from continuon.robot.control_config import ControlConfig
from continuon.robot.guard_handle import GuardHandle
from continuon.robot.kernel import SafetyLimits
from continuon.robot.modes import Motion
from continuon.robot.ticklog import TickLog
from continuon.robot.timing import TimingReport, timing_report

__all__ = ["ControlHandle", "SwapResult"]

_START_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 5.0
_SWAP_TIMEOUT_S = 60.0


@attrs.frozen(kw_only=True)
class SwapResult:
    """Where a policy took over, and what it showed before it might.

    Attributes:
        tick: number of the first tick that asked the new policy.
        model: figures of the policy that took over.
        previous: figures of the one that stays resident; None if there was none.
    """

    tick: int
    model: dict[str, Any]
    previous: dict[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return attrs.asdict(self)


class ControlHandle:
    """A running control process, bound to a guard. Safe to call from threads.

    Args:
        config: settings of the process.
        guard: a started guard; it alone owns the servos.
    """

    def __init__(self, config: ControlConfig, guard: GuardHandle) -> None:
        self.config = config
        self._guard = guard
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._log: TickLog | None = None
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._ready: Future[dict[str, Any]] = Future()
        self._next_id = 0
        self._reader: threading.Thread | None = None
        self.events: deque[dict[str, Any]] = deque(maxlen=64)

    @property
    def log(self) -> TickLog:
        """Every tick, readable while the process runs and after it died."""
        assert self._log is not None, "start() comes first"
        return self._log

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The control process's id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start the process and wait until its loop runs; nothing moves.

        Raises:
            ContinuonError: what kept it from starting, with its own code.
            HardwareError: it ended without a word.
        """
        self.launch()
        return self.wait_ready()

    def launch(self) -> None:
        """Start the process, and do not wait; the guard's board must exist."""
        path = self._guard.board_path.with_name(f"ticks-{id(self):x}")
        self._log = TickLog.create(path, self.config.log_capacity)
        mine, theirs = channel_pair()
        command = [sys.executable, "-m", "continuon.robot.control_process"]
        command += ["--fd", str(theirs.fileno()), "--log", str(path)]
        command += ["--board", str(self._guard.board_path)]
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._channel = mine
        self._ready = self._waiting[0] = Future()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env=os.environ | threads,
        )
        theirs.close()
        mine.send(self.config.as_message())
        self._reader = threading.Thread(
            target=self._read, name="control-answers", daemon=True
        )
        self._reader.start()

    def wait_ready(self) -> Self:
        """Wait until the loop runs.

        Raises:
            ContinuonError: what kept it from starting, with its own code.
            HardwareError: it ended without a word.
        """
        try:
            self._wait(self._ready, _START_TIMEOUT_S)
        except ContinuonError:
            self.close()
            raise
        return self

    def start_executing(self, motion: Motion = Motion.POLICY) -> int:
        """Begin to move, on a person's word; returns the guard's epoch.

        Raises:
            ContinuonError: refused, for one because there is no policy.
        """
        epoch = self._guard.permit()
        try:
            self._ask("start", motion=motion.value, epoch=epoch)
        except ContinuonError:
            self._guard.forbid()
            raise
        return epoch

    def stop_executing(self, *, e_stop: bool = False) -> None:
        """Stop moving: first the guard's permission, then the loop."""
        self._guard.forbid(e_stop=e_stop)
        if self.alive:
            self._ask("stop")

    def swap(
        self,
        artifact_dir: Path,
        backend: str,
        *,
        limits: SafetyLimits | None = None,
        timeout_s: float = _SWAP_TIMEOUT_S,
    ) -> SwapResult:
        """Prepare a policy beside the running one and let it take over.

        `limits` are the envelope that its bundle asks for, in force from its first
        tick; None keeps the robot's own.

        Raises:
            ContinuonError: it may not drive; the old policy went on all the while.
        """
        answer = self._ask(
            "swap",
            timeout_s,
            artifact_dir=str(artifact_dir),
            backend=backend,
            limits=msgspec.to_builtins(limits),
        )
        return SwapResult(**answer["swap"])

    def swap_back(self) -> SwapResult:
        """Let the previous policy take over again.

        Raises:
            ContinuonError: there is none.
        """
        return SwapResult(**self._ask("swap_back")["swap"])

    def teleop(self, action: Sequence[float], source: str) -> None:
        """Send a person's command; it holds for a few ticks only."""
        self._send({"do": "teleop", "action": list(action), "source": source})

    def status(self) -> dict[str, Any]:
        """Return what the loop says of itself now."""
        status: dict[str, Any] = self._ask("status")["status"]
        return status

    def timing(self, first: int = 0, last: int | None = None) -> TimingReport:
        """Return what the log says of ticks `first` to `last` (excluded)."""
        rows = self.log.rows(first, last)
        return timing_report(rows, period_ns=self.config.period_ns, first=first)

    def close(self) -> int | None:
        """Stop the loop and end the process; returns its exit status."""
        if self._channel is None:
            return None
        self._guard.forbid()
        self._channel.shut()
        code = None
        if self._process is not None:
            try:
                code = self._process.wait(_ANSWER_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                code = self._process.wait()
        if self._reader is not None:
            self._reader.join(_ANSWER_TIMEOUT_S)
        self._channel.close()
        self._channel = None
        self.log.remove()
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ask(
        self, do: str, timeout_s: float = _ANSWER_TIMEOUT_S, **more: Any
    ) -> dict[str, Any]:
        answer: Future[dict[str, Any]] = Future()
        with self._lock:
            self._next_id += 1
            number = self._next_id
            self._waiting[number] = answer
        self._send({"id": number, "do": do, **more})
        return self._wait(answer, timeout_s)

    def _send(self, message: dict[str, Any]) -> None:
        if self._channel is None or not self.alive:
            raise _gone(self._process)
        try:
            self._channel.send(message)
        except OSError:
            raise _gone(self._process) from None

    def _wait(self, answer: Future[dict[str, Any]], timeout_s: float) -> dict[str, Any]:
        try:
            message = answer.result(timeout_s)
        except TimeoutError:
            raise BudgetError(
                "E-ROBOT-CONTROL-005",
                "the control process does not answer",
                allowed=f"an answer within {timeout_s:g} s",
                hint="the guard stops the outputs by itself; restart the service",
                exit_code=1,
            ) from None
        except EOFError:
            raise _gone(self._process) from None
        if "error" in message:
            facts = dict(message["error"])
            facts.pop("family", None)
            raise ContinuonError(facts.pop("code"), facts.pop("what"), **facts)
        return message

    def _read(self) -> None:
        assert self._channel is not None
        while True:
            try:
                message = self._channel.receive()
            except (EOFError, OSError):
                break
            if "event" in message:
                self.events.append(message)
                continue
            waiting = self._waiting.pop(message["id"], None)
            if waiting is not None:
                waiting.set_result(message)
        for waiting in list(self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(EOFError())
        self._waiting.clear()


def _gone(process: subprocess.Popen[bytes] | None) -> HardwareError:
    return HardwareError(
        "E-ROBOT-CONTROL-004",
        "the control process is gone",
        seen=f"exit status {process.poll() if process else None}",
        hint="the guard has stopped the outputs; its own message stands above",
    )
