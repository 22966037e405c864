"""The guard's second: waits for the guard's death, and turns the outputs off then.

It is forked from the guard with the rig built, so it needs neither an import nor a
start: a few milliseconds after the kernel says that the guard is gone, outputs are off.
It touches the bus never before that, and a guard that hangs it kills first.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

import attrs

from continuon.clock import Clock
from continuon.parent import name_process
from continuon.robot.board import CHANNELS, Board, GuardStatus
from continuon.robot.guard_rules import REASONS, OffReason

__all__ = ["ENDED", "HUNG_NS", "is_hung", "start_second", "watch_guard"]

HUNG_NS = 1_500_000_000
"""A guard that has not looked for so long hangs; one bus call takes far less."""

ENDED = frozenset({OffReason.TERMINATED, OffReason.ORPHANED, OffReason.FAULT})
"""How a guard ends that has turned the outputs off itself."""

_LOOK_MS = 250


def start_second(
    board: Board, clock: Clock, stop: Callable[[], bool], prepare: Callable[[], object]
) -> int:
    """Fork the second, and return its process id; call it from the guard, once.

    Args:
        board: the guard's.
        clock: the host's.
        stop: turns every output off; returns whether that was proven.
        prepare: done in the second before it watches.
    """
    guard = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        # Told to end together with the guard, it ends after it.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        name_process("guard_second")
        prepare()
        code = 0 if watch_guard(guard, board, clock, stop) else 4
    finally:
        # Nothing of the guard's is to be flushed or released twice.
        os._exit(code)


def watch_guard(
    guard: int, board: Board, clock: Clock, stop: Callable[[], bool]
) -> bool:
    """Wait for the end of process `guard`; returns whether outputs are proven off."""
    try:
        ended = os.pidfd_open(guard)
    except ProcessLookupError:
        return _take_over(board, clock, stop)
    waiting = select.poll()
    waiting.register(ended, select.POLLIN)
    # Its parent's number changes first if it died before the line above.
    while os.getppid() == guard and not waiting.poll(_LOOK_MS):
        if is_hung(board.read_status(), clock.monotonic_ns()):
            os.kill(guard, signal.SIGKILL)
            # Held in a bus call, it goes when the kernel gives that call up.
            waiting.poll()
    os.close(ended)
    return _take_over(board, clock, stop)


def is_hung(status: GuardStatus | None, now_ns: int) -> bool:
    """Return whether a guard that has looked at its board no longer does."""
    return status is not None and 0 < status.poll_ns < now_ns - HUNG_NS


def _take_over(board: Board, clock: Clock, stop: Callable[[], bool]) -> bool:
    status = board.read_status()
    if status is not None and not status.driving and REASONS[status.reason] in ENDED:
        return True
    proven = stop()
    if status is not None:
        now_ns = clock.monotonic_ns()
        # The guard is gone: nobody else writes its record now.
        board.write_status(
            attrs.evolve(
                status,
                stops=status.stops + 1,
                off_ns=now_ns if proven else status.off_ns,
                reason=REASONS.index(OffReason.GUARD_DIED),
                driving=not proven,
                read_back_us=(0.0,) * CHANNELS if proven else status.read_back_us,
            )
        )
    return proven
