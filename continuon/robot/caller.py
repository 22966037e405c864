"""Ask a child process over a channel: numbered requests, answers as futures, events."""

from __future__ import annotations

import subprocess
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from continuon.errors import BudgetError, HardwareError, error_from_dict
from continuon.robot.channel import Channel
from continuon.robot.spare import Process

__all__ = ["Caller"]

_END_TIMEOUT_S = 5.0


class Caller:
    """The parent's end of a channel to a child. Safe to call from threads.

    Request 0 is the child's own first message, which says that it is ready.

    Args:
        channel: the parent's end.
        process: the child.
        what: what the child is called in sentences.
        codes: error codes of "does not answer" and "is gone".
    """

    def __init__(
        self,
        channel: Channel,
        process: Process,
        *,
        what: str,
        codes: tuple[str, str],
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._channel = channel
        self._process = process
        self._what = what
        self._silent_code, self._gone_code = codes
        self._lock = threading.Lock()
        self._ready: Future[dict[str, Any]] = Future()
        self._waiting: dict[int, Future[dict[str, Any]]] = {0: self._ready}
        self._next_id = 0
        self.events: deque[dict[str, Any]] = deque(maxlen=64)
        self._on_event = on_event or self.events.append
        self._reader = threading.Thread(
            target=self._read, name=f"{what}-answers", daemon=True
        )
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process.poll() is None

    def wait_ready(self, timeout_s: float) -> None:
        """Wait for the child's first message.

        Raises:
            ContinuonError: what kept it from starting, with its own code.
            HardwareError: it ended without a word.
        """
        self._wait(self._ready, timeout_s)

    def ask(self, do: str, timeout_s: float = 5.0, **more: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            ContinuonError: the child refused, with its own code.
            BudgetError: it does not answer.
            HardwareError: it is gone.
        """
        answer: Future[dict[str, Any]] = Future()
        with self._lock:
            self._next_id += 1
            number = self._next_id
            self._waiting[number] = answer
        self.send({"id": number, "do": do, **more})
        return self._wait(answer, timeout_s)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message that has no answer; never waits.

        Raises:
            BudgetError: the child does not read what it was sent before.
            HardwareError: the child is gone.
        """
        if not self.alive:
            raise self._gone()
        try:
            self._channel.send(message)
        except BlockingIOError:
            raise self._silent("that it reads what it was sent") from None
        except OSError:
            raise self._gone() from None

    def close(self) -> int:
        """Close the channel, which ends the child; returns its exit status."""
        self._channel.shut()
        try:
            code = self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join(_END_TIMEOUT_S)
        self._channel.close()
        return code

    def _wait(self, answer: Future[dict[str, Any]], timeout_s: float) -> dict[str, Any]:
        try:
            message = answer.result(timeout_s)
        except TimeoutError:
            raise self._silent(f"an answer within {timeout_s:g} s") from None
        except EOFError:
            raise self._gone() from None
        if "error" in message:
            raise error_from_dict(message["error"])
        return message

    def _read(self) -> None:
        while True:
            try:
                message = self._channel.receive()
            except (EOFError, OSError):
                break
            if "event" in message:
                self._on_event(message)
                continue
            waiting = self._waiting.pop(message["id"], None)
            if waiting is not None:
                waiting.set_result(message)
        for waiting in list(self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(EOFError())
        self._waiting.clear()

    def _silent(self, allowed: str) -> BudgetError:
        return BudgetError(
            self._silent_code,
            f"the {self._what} process does not answer",
            allowed=allowed,
            hint="the guard stops the outputs by itself; restart the service",
            exit_code=1,
        )

    def _gone(self) -> HardwareError:
        return HardwareError(
            self._gone_code,
            f"the {self._what} process is gone",
            seen=f"exit status {self._process.poll()}",
            hint="its own message stands above; restart the service",
        )
