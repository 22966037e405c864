"""A child never outlives the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

CHILD = """
import os, sys
from continuon.parent import die_with_parent
die_with_parent(int(sys.argv[1]))
os.write(1, b"r")
sys.stdin.read()
"""
PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())])
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.req("R-RECEIPT-06")
def test_a_child_ends_when_its_parent_is_killed():
    """Both share one pipe: it closes when the last of them is gone."""
    read, write = os.pipe()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=write
    )
    os.close(write)
    assert os.read(read, 1) == b"r"
    parent.send_signal(signal.SIGKILL)
    assert os.read(read, 1) == b""
    parent.wait()
    parent.stdin.close()
    os.close(read)


@pytest.mark.slow
def test_a_child_whose_parent_is_gone_already_does_nothing():
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "1"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"")
