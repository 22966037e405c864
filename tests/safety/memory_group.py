"""A memory-limited control group: there the kernel itself kills, out of memory."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")
LIMIT_BYTES = 48 << 20
EATER = """
import os, sys
open(sys.argv[1], "w").write(str(os.getpid()))
eaten = []
while True:
    eaten.append(b"x" * (1 << 20))
"""


class NoMemoryGroupError(Exception):
    """Why there can be none here."""


class MemoryGroup:
    """One group, with whom the kernel shall kill first.

    Raises:
        NoMemoryGroupError: the kernel or this user's rights allow none.
    """

    def __init__(self, name):
        is_v1 = (V1 / "memory.limit_in_bytes").exists()
        self.path = (V1 if is_v1 else V2) / name
        try:
            if not is_v1:
                (V2 / "cgroup.subtree_control").write_text("+memory")
            self.path.mkdir()
            limit = "memory.limit_in_bytes" if is_v1 else "memory.max"
            (self.path / limit).write_text(str(LIMIT_BYTES))
        except OSError as error:
            raise NoMemoryGroupError(f"no memory group: {error}") from error
        self._eater = None
        self._events = self.path / ("memory.oom_control" if is_v1 else "memory.events")

    @property
    def kills(self):
        """How often the kernel killed here."""
        facts = dict(line.split() for line in self._events.read_text().splitlines())
        return int(facts["oom_kill"])

    def kill_out_of_memory(self, pid):
        """Eat memory beside `pid` until the kernel kills it; returns when it was dead.

        What eats is killed, and not waited for: that can take half a second, in which
        nobody would look at the outputs.
        """
        self._reap()
        members = self.path / "cgroup.procs"
        members.write_text(str(pid))
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        before = self.kills
        eating = [sys.executable, "-c", EATER, str(members)]
        eater = self._eater = subprocess.Popen(eating)
        try:
            while is_alive(pid):
                time.sleep(0.0005)
            died = time.monotonic()
        finally:
            eater.kill()
        assert self.kills > before
        return died

    def _reap(self):
        if self._eater is not None:
            self._eater.wait()
            self._eater = None

    def close(self):
        self._reap()
        for _ in range(100):
            try:
                self.path.rmdir()
            except OSError:
                time.sleep(0.02)
            else:
                return


def is_alive(pid):
    """Return whether a process runs: neither gone nor a corpse."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
