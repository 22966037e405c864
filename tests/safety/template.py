"""A process that has the service's packages, and forks a service whenever it is asked.

What is hurt hundreds of times must start in less than ten seconds. The forked process
runs the service's own `main`, forks its own spares and starts its own guard; only its
imports are done before.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs

FAKES = "continuon._specs.robot.fakes"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""As the unit sets it; a second thread would keep the service from having spares."""


class Template:
    """The parent of services; they are killed with it."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD,
        )

    def fork(self, arguments):
        return Forked(self, self.ask({"fork": arguments}))

    def ask(self, wish):
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


class Forked:
    """As much of `subprocess.Popen` as the harness uses."""

    def __init__(self, template, pid):
        self._template, self.pid = template, pid
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            self.returncode = self._template.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout=None):
        until = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired([f"pid {self.pid}"], timeout)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number):
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def be_template(main):
    """Fork a `main` for each wish on the standard input, until that ends."""
    lines, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads: not safe to fork"
    children = set()
    for line in lines:
        wish = json.loads(line)
        if "fork" in wish:
            pid = os.fork()
            if not pid:
                lines.close()
                answers.close()
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                run(main, wish["fork"])
            children.add(pid)
            answer = pid
        else:
            pid, status = os.waitpid(wish["poll"], os.WNOHANG)
            children.discard(pid)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run(main, arguments):
    """Do a forked process's work; never returns."""
    code = 1
    try:
        code = main(arguments) or 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main():
    """Be the template of services with a policy that needs no artifact."""
    import uvicorn  # noqa: F401

    from continuon.robot import (
        api,  # noqa: F401
        control_process,  # noqa: F401
        recorder_process,  # noqa: F401
        service,
    )

    configured = service._config
    loader = f"{FAKES}:load_fake"
    service._config = lambda *args: attrs.evolve(configured(*args), loader=loader)
    be_template(service.main)


if __name__ == "__main__":
    main()
