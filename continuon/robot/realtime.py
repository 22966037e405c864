"""Ask the kernel for real-time treatment, and report what it granted."""

from __future__ import annotations

import ctypes
import os
import sys

import attrs

__all__ = ["Grants", "Wishes", "make_real_time"]

_MCL_CURRENT_AND_FUTURE = 3


@attrs.frozen(kw_only=True)
class Wishes:
    """What to ask for.

    Attributes:
        priority: SCHED_FIFO priority 1..99; 0 asks for none.
        lock_memory: keep every page in RAM (mlockall).
        switch_interval_s: how soon a thread must hand over the interpreter.
    """

    priority: int = 50
    lock_memory: bool = False
    switch_interval_s: float | None = None


@attrs.frozen(kw_only=True)
class Grants:
    """What was granted; `refusals` are the kernel's own words."""

    fifo: bool
    memory_locked: bool
    refusals: tuple[str, ...] = ()


def make_real_time(wishes: Wishes) -> Grants:
    """Change this process (its calling thread, for the scheduler) as far as allowed."""
    refusals = []
    fifo = locked = False
    if wishes.priority:
        try:
            param = os.sched_param(wishes.priority)
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, param)
            fifo = True
        except OSError as error:
            refusals.append(f"SCHED_FIFO: {error.strerror}")
    if wishes.lock_memory:
        libc = ctypes.CDLL(None, use_errno=True)
        locked = libc.mlockall(_MCL_CURRENT_AND_FUTURE) == 0
        if not locked:
            refusals.append(f"mlockall: {os.strerror(ctypes.get_errno())}")
    if wishes.switch_interval_s is not None:
        sys.setswitchinterval(wishes.switch_interval_s)
    return Grants(
        fifo=fifo,
        memory_locked=locked,
        refusals=tuple(refusals),
    )
