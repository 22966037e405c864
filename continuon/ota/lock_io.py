"""One writer at a time for the model root."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from continuon.errors import UsageError

__all__ = ["hold_lock"]

LOCK_NAME = ".lock"


@contextmanager
def hold_lock(root: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the writer's lock of `root`; the kernel lets go if this process dies.

    With `wait`, for what another process holds only briefly, its end is waited for.

    Raises:
        UsageError: E-OTA-LOCK-001, another process is changing something right now.
    """
    root.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(root / LOCK_NAME, flags, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise UsageError(
                "E-OTA-LOCK-001",
                "another process is changing the installed bundles right now",
                where=root / LOCK_NAME,
                hint="wait until it is done, then try again",
                exit_code=1,
            ) from error
        yield
    finally:
        os.close(descriptor)
