"""Processes forked at the service's start, each waiting for the work of one module.

Every process of the robot imports the same packages, which takes longer than all the
rest of a start. A spare has them already. What is started later, or where forking is
not safe, is an interpreter of its own as ever. The guard always is one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Protocol

from continuon.parent import name_process

__all__ = ["FD", "Process", "dismiss_spares", "keep_spares", "start_module"]

FD = "{fd}"
"""Stands in the arguments for the number of the descriptor that is handed over."""

_MAX_BYTES = 1 << 16
_WAIT_S = 0.005


class Process(Protocol):
    """As much of `subprocess.Popen` as the robot uses."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status."""
        ...

    def kill(self) -> None:
        """Send SIGKILL."""
        ...

    def terminate(self) -> None:
        """Send SIGTERM."""
        ...


class Forked:
    """A child of this process that was forked from it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit status, None while it runs; negative: the signal."""
        with self._lock:
            if self._code is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self._code = os.waitstatus_to_exitcode(status)
            return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status.

        Raises:
            subprocess.TimeoutExpired: it runs still.
        """
        left, pause = timeout, threading.Event()
        while (code := self.poll()) is None:
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired([f"pid {self.pid}"], timeout or 0.0)
            pause.wait(_WAIT_S)
            left = None if left is None else left - _WAIT_S
        return code

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


_spares: dict[str, tuple[Forked, socket.socket]] = {}


def keep_spares(modules: Sequence[str]) -> bool:
    """Import these modules and fork a spare for each; returns whether that was safe.

    It is while this process has one thread: another one's locks would stay locked.
    """
    loaded = [import_module(name) for name in modules]
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        return False
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # a spare ends by flushing, and would say this again
    for module in loaded:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if not pid:
            name_process(module.__name__.rpartition(".")[2])
            _be_spare(theirs, module.main)
        theirs.close()
        _spares[module.__name__] = (Forked(pid), mine)
    return True


def dismiss_spares() -> None:
    """End the spares that nobody asked for."""
    while _spares:
        _, (process, end) = _spares.popitem()
        end.close()
        process.wait(5.0)


def start_module(
    module: str,
    arguments: Sequence[str],
    *,
    fd: int | None = None,
    env: Mapping[str, str] | None = None,
) -> Process:
    """Run a module's `main`, in its spare or in an interpreter of its own.

    Args:
        module: by its full name.
        arguments: its command line.
        fd: a descriptor that it gets; its number stands where `FD` stands.
        env: more environment variables.
    """
    process, end = _spares.pop(module, (None, None))
    if process is not None and end is not None and process.poll() is None:
        work = {"arguments": list(arguments), "env": dict(env or {})}
        with end, suppress(BrokenPipeError):
            handed = [] if fd is None else [fd]
            socket.send_fds(end, [json.dumps(work).encode()], handed)
            return process
    line = [argument.replace(FD, str(fd)) for argument in arguments]
    return subprocess.Popen(
        [sys.executable, "-m", module, *line],
        stdin=subprocess.DEVNULL,
        pass_fds=() if fd is None else (fd,),
        env=os.environ | dict(env or {}),
    )


def _be_spare(end: socket.socket, main: object) -> None:
    """Wait for work in a process just forked, do it, and never return."""
    code = 1
    try:
        _keep_only(end.fileno())
        data, fds, _, _ = socket.recv_fds(end, _MAX_BYTES, 1)
        if data:
            work = json.loads(data)
            os.environ.update(work["env"])
            number = str(fds[0]) if fds else ""
            end.close()
            assert callable(main)
            code = main([one.replace(FD, number) for one in work["arguments"]]) or 0
        else:
            code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001
        # As the interpreter itself ends on what nobody caught.
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _keep_only(kept: int) -> None:
    """Close what the parent has open, and read nothing from its terminal."""
    for path in list(Path("/proc/self/fd").iterdir()):
        if int(path.name) > 2 and int(path.name) != kept:
            with suppress(OSError):
                os.close(int(path.name))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
