"""Spares: forked early, they do a module's work as an interpreter of its own would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORKER = """
import os, signal, sys

def main(argv=None):
    kind, where, fd = (sys.argv[1:] if argv is None else argv)
    if kind == "sleep":
        os.write(int(fd), b"asleep")
        signal.pause()
    if kind == "raise":
        raise ValueError("a fault of its own")
    if kind == "exit":
        sys.exit(7)
    told = [
        os.environ.get("GIVEN"),
        str(os.getppid() == int(where)),
        str(len(os.listdir("/proc/self/fd"))),
        str(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL),
        open("/proc/self/comm").read().strip(),
        sys.stdin.read(),
    ]
    os.write(int(fd), " ".join(map(str, told)).encode())
    return 5

if __name__ == "__main__":
    sys.exit(main())
"""

SCRIPT = """
import os, signal, socket, subprocess, sys, threading, time
from continuon.robot.spare import FD, Forked, dismiss_spares, keep_spares, start_module

def run(kind, *, module="spare_worker"):
    read, write = os.pipe()
    given = [kind, str(os.getpid()), FD]
    process = start_module(module, given, fd=write, env={"GIVEN": "yes"})
    os.close(write)
    return process, os.fdopen(read, "rb")

held = [socket.socket() for _ in range(20)]
for kind in ("tell", "raise", "exit"):
    assert keep_spares(["spare_worker"])
    process, end = run(kind)
    assert isinstance(process, Forked), process
    print(kind, process.wait(10), end.read().decode())
assert keep_spares(["spare_worker"])
process, end = run("sleep")
assert end.read(6) == b"asleep"
assert process.poll() is None
try:
    process.wait(0.05)
except subprocess.TimeoutExpired:
    print("waits")
process.terminate()
print("terminated", process.wait(10))
process.kill()
keep_spares(["spare_worker"])
import continuon.robot.spare as spare
os.kill(spare._spares["spare_worker"][0].pid, signal.SIGKILL)
time.sleep(0.1)
process, end = run("tell")
print("alone", type(process).__name__, process.wait(20), end.read().decode())
keep_spares(["spare_worker"])
dismiss_spares()
assert not spare._spares
threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
print("threads", keep_spares(["spare_worker"]))
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "spare_worker.py").write_text(WORKER)

    def run(script, **more):
        env = os.environ | {"PYTHONPATH": str(tmp_path)}
        env.pop("PYTHONUNBUFFERED", None)  # it would hide what is said twice
        return subprocess.Popen(
            [sys.executable, "-c", script],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    return run


@pytest.mark.req("R-SPARE-01", "R-SPARE-02")
def test_a_spare_works_as_an_interpreter_of_its_own_would(run):
    out, err = run(SCRIPT).communicate("not for a spare", timeout=60)
    lines = out.splitlines()
    # Its descriptors: three standard ones, the one handed over, and the look at them.
    assert lines[0] == "tell 5 yes True 5 True spare_worker ", err
    assert lines[1:5] == ["raise 1 ", "exit 7 ", "waits", "terminated -15"]
    assert lines[5].startswith("alone Popen 5 yes True 5 True python")
    assert lines[6] == "threads False"
    assert err.count("ValueError: a fault of its own") == 1


@pytest.mark.req("R-SPARE-01")
def test_a_spare_goes_with_its_parent(run):
    parent = run(
        "import time, continuon.robot.spare as s; s.keep_spares(['spare_worker']);"
        "print(s._spares['spare_worker'][0].pid, flush=True); time.sleep(60)"
    )
    pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for end in (parent.stdin, parent.stdout, parent.stderr):
        end.close()
    until = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < until
        time.sleep(0.01)


def is_running(pid):
    """Return whether a process runs, and is no zombie that nobody fetched."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
