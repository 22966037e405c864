"""A process that ends with the one that started it: no writer outlives its run."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["die_with_parent", "name_process"]

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when the thread that started it is gone.

    Args:
        parent: process id of the starter, as the starter said it; when it is gone
            already, this process ends at once.

    Raises:
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent:
        sys.exit(1)


def name_process(name: str) -> None:
    """Let `ps` and `top` show a forked process by its own name, 15 bytes of it."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15])
