"""Every tick of the control loop as measured, in memory that other processes can read.

A ring of fixed rows in a mapped file, allocated before the loop starts; writing one row
takes about a microsecond, and the rows outlive the process that wrote them.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.robot.kernel import Verdict

__all__ = ["EXECUTING", "FRESH", "NON_FINITE", "POLICY_FAILED", "ROW", "SWAPPED"]
__all__ += ["VERDICTS", "TickLog"]

VERDICTS: tuple[Verdict | None, ...] = (None, *Verdict)
"""Index in a row to verdict; 0 is a tick at which nothing was judged."""

FRESH, SWAPPED, EXECUTING, NON_FINITE, POLICY_FAILED = 1, 2, 4, 8, 16

ROW = np.dtype(
    [
        ("start_ns", "<i8"),
        ("lateness_ns", "<i8"),
        ("work_ns", "<i8"),
        ("policy_ns", "<i8"),
        ("policy", "<u4"),
        ("skipped", "<u2"),
        ("verdict", "u1"),
        ("flags", "u1"),
    ]
)
_MAGIC = b"continuon-ticks1"
_HEAD = struct.Struct("<16sQQ")
_COUNT = struct.Struct("<Q")
_COUNT_AT = 24
_ROWS_AT = 64
_ROW = struct.Struct("<qqqqIHBB")


class TickLog:
    """The newest `capacity` ticks. Build one with `create` or `open`."""

    def __init__(self, path: Path, memory: mmap.mmap, capacity: int) -> None:
        self.path = path
        self._memory = memory
        self._capacity = capacity

    @classmethod
    def create(cls, path: Path, capacity: int = 180_000) -> TickLog:
        """Make an empty log; 180,000 rows are an hour at 50 Hz and 7 MB.

        Raises:
            FileExistsError: something is there already.
        """
        size = _ROWS_AT + capacity * _ROW.size
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(handle, 0, size)
            memory = mmap.mmap(handle, size)
        finally:
            os.close(handle)
        _HEAD.pack_into(memory, 0, _MAGIC, capacity, 0)
        return cls(path, memory, capacity)

    @classmethod
    def open(cls, path: Path) -> TickLog:
        """Map a log that another process made.

        Raises:
            DataError: E-ROBOT-TICKS-001, the file is none.
        """
        handle = os.open(path, os.O_RDWR)
        try:
            size = os.fstat(handle).st_size
            memory = mmap.mmap(handle, size) if size >= _ROWS_AT else None
        finally:
            os.close(handle)
        magic, capacity, _ = _HEAD.unpack_from(memory) if memory else (b"", 0, 0)
        if memory is None or magic != _MAGIC:
            raise DataError("E-ROBOT-TICKS-001", "this is no log of ticks", where=path)
        return cls(path, memory, capacity)

    @property
    def count(self) -> int:
        """Ticks written since the start; the newest has the number `count - 1`."""
        return int(_COUNT.unpack_from(self._memory, _COUNT_AT)[0])

    def add(
        self,
        *,
        start_ns: int,
        lateness_ns: int,
        work_ns: int,
        policy_ns: int,
        policy: int,
        skipped: int,
        verdict: Verdict | None,
        flags: int,
    ) -> None:
        """Write one tick; the oldest row makes room."""
        number = self.count
        at = _ROWS_AT + (number % self._capacity) * _ROW.size
        _ROW.pack_into(
            self._memory,
            at,
            start_ns,
            lateness_ns,
            work_ns,
            policy_ns,
            policy,
            min(skipped, 0xFFFF),
            VERDICTS.index(verdict),
            flags,
        )
        _COUNT.pack_into(self._memory, _COUNT_AT, number + 1)

    def rows(self, first: int = 0, last: int | None = None) -> NDArray[Any]:
        """Return ticks `first` up to `last` (excluded) as a copy, dtype `ROW`.

        Ticks that the ring has dropped already are left out at the front.
        """
        count = self.count
        last = count if last is None else min(last, count)
        first = max(first, count - self._capacity, 0)
        numbers = np.arange(first, max(first, last)) % self._capacity
        size = self._capacity * _ROW.size
        ring = np.frombuffer(self._memory[_ROWS_AT : _ROWS_AT + size], ROW)
        return ring[numbers].copy()

    def close(self) -> None:
        """Unmap; may be called twice."""
        self._memory.close()

    def remove(self) -> None:
        """Unmap and delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)
