"""One pipeline at a time on a home: the lock lives as long as any worker does."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from continuon.errors import BudgetError

__all__ = ["hold_home"]


@contextmanager
def hold_home(root: Path) -> Iterator[int]:
    """Hold the lock of a home and give its file descriptor, to be inherited.

    A worker that inherits the descriptor keeps the lock when its parent is killed, so
    that no second run begins beside a live writer.

    Raises:
        BudgetError: E-PIPE-BUSY-001, another run holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / ".pipeline.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BudgetError(
                "E-PIPE-BUSY-001",
                "another run of the pipeline works on this home",
                where=root,
                hint="wait for it, or give this run another home with --home",
            ) from None
        yield handle
    finally:
        os.close(handle)
