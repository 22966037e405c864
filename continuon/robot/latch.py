"""The emergency stop's memory on disk: it outlives crashes, reboots and power cuts.

A missing file means that no stop was ever latched; anything unreadable counts as set.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import attrs
import msgspec

from continuon.clock import Clock
from continuon.durable import replace_file
from continuon.errors import ContractError
from continuon.robot.modes import Actor

__all__ = ["EStopLatch", "LatchRecord"]


@attrs.frozen(kw_only=True)
class LatchRecord:
    """What stands on disk: the last change, its reason and who made it."""

    latched: bool
    reason: str
    actor: str
    wall_ns: int


_UNREADABLE = LatchRecord(
    latched=True, reason="the record is unreadable", actor="system", wall_ns=0
)
_NEVER = LatchRecord(latched=False, reason="never set", actor="system", wall_ns=0)


@attrs.frozen
class EStopLatch:
    """The record at `path`; every call reads or writes the disk."""

    path: Path
    clock: Clock

    def read(self) -> LatchRecord:
        """Return the record; what cannot be read or understood is latched."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return _NEVER
        except OSError:
            return _UNREADABLE
        return _decode(data)

    def engage(self, *, reason: str, actor: Actor) -> LatchRecord:
        """Latch, and return once it is on disk.

        Raises:
            OSError: neither a new record nor the old one's damage reached the disk.
        """
        record = self._record(latched=True, reason=reason, actor=actor)
        try:
            replace_file(self.path, _encode(record))
        except OSError:
            self._spoil()
        return record

    def clear(self, *, reason: str, actor: Actor) -> LatchRecord:
        """Reset the latch for a person, and return once that is on disk.

        Raises:
            ContractError: E-ROBOT-LATCH-001, `actor` is not a person.
            OSError: the disk refused; the latch is still set.
        """
        if actor is not Actor.PERSON:
            raise ContractError(
                "E-ROBOT-LATCH-001",
                "only a person clears the emergency stop",
                seen=actor,
                allowed=Actor.PERSON,
                hint="look at the robot, then `continuon robot clear-estop`",
            )
        record = self._record(latched=False, reason=reason, actor=actor)
        replace_file(self.path, _encode(record))
        return record

    def restore(self, *, reason: str) -> bool:
        """Latch again where the record is gone; returns whether it had to be.

        A record that says "cleared" was written by a person, and stays.

        Raises:
            OSError: as `engage`.
        """
        if self.path.exists():
            return False
        self.engage(reason=reason, actor=Actor.SYSTEM)
        return True

    def prepare(self) -> None:
        """Put a record on disk while there is room, so that `engage` can spoil it."""
        if not self.path.exists():
            replace_file(self.path, _encode(_NEVER))

    def _record(self, *, latched: bool, reason: str, actor: Actor) -> LatchRecord:
        now_ns = self.clock.wall_ns()
        return LatchRecord(
            latched=latched, reason=reason, actor=actor.value, wall_ns=now_ns
        )

    def _spoil(self) -> None:
        """Cut the record to nothing: needs no free block, and reads as latched."""
        handle = os.open(self.path, os.O_WRONLY | os.O_TRUNC | os.O_CREAT, 0o644)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _encode(record: LatchRecord) -> bytes:
    body = msgspec.json.encode(record)
    return b"%08x " % zlib.crc32(body) + body + b"\n"


def _decode(data: bytes) -> LatchRecord:
    checksum, _, body = data.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return _UNREADABLE
    try:
        return msgspec.json.decode(body, type=LatchRecord)
    except msgspec.DecodeError:
        return _UNREADABLE
