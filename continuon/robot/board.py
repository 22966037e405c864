"""The shared memory between control loop, supervisor and guard.

Four records: `command` (written by the control loop), `permit` (by the supervisor),
`status` and `supply` (by the guard). Nobody writes another's record.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

import attrs

from continuon.errors import DataError
from continuon.robot.seqlock import Seqlock
from continuon.robot.supply import SUPPLY_FORMAT, Supply, pack_supply, unpack_supply

__all__ = ["CHANNELS", "Board", "Command", "GuardStatus", "Permit"]

CHANNELS = 16
_MAGIC = b"continuon-board2"
_COMMAND = struct.Struct(f"<qqqI{CHANNELS}f")
_PERMIT = struct.Struct("<qqII")
_STATUS = struct.Struct(f"<10qII{CHANNELS}f")
_SIZE = 4096
_COMMAND_AT, _PERMIT_AT, _STATUS_AT, _SUPPLY_AT = 64, 512, 1024, 2048


@attrs.frozen(kw_only=True)
class Command:
    """What the control loop wants on the outputs.

    Attributes:
        heartbeat_ns: when it was written, host monotonic.
        epoch: the start it belongs to.
        tick: counts the loop's ticks; an unchanged tick is not written again.
        enabled: False while nothing may be driven.
        pulses_us: one pulse width a channel, 0 for off.
    """

    heartbeat_ns: int
    epoch: int
    tick: int
    enabled: bool
    pulses_us: tuple[float, ...]


@attrs.frozen(kw_only=True)
class Permit:
    """What the supervisor allows: motion of one epoch, or nothing.

    Attributes:
        renewed_ns: when it was last confirmed, host monotonic; 0 if it needs no
            confirming.
    """

    epoch: int
    allowed: bool
    e_stop: bool
    renewed_ns: int = 0


@attrs.frozen(kw_only=True)
class GuardStatus:
    """What the guard did; counts since its start.

    Attributes:
        poll_ns: time of the last poll, host monotonic.
        polls: how often it looked.
        applied: updates written to the outputs.
        stops: full-off writes.
        bus_errors: calls that the bus refused.
        trips: times that it stopped by itself.
        max_gap_ns: longest time between two polls.
        off_ns: when the outputs were last proven off; 0 if never.
        off_delay_ns: from the cause of the last trip to the proof of its stop.
        epoch: the epoch that last drove.
        reason: index into `guard_rules.REASONS`.
        driving: whether outputs may carry pulses now.
        read_back_us: pulses read from the chip at the last proof.
    """

    poll_ns: int
    polls: int
    applied: int
    stops: int
    bus_errors: int
    trips: int
    max_gap_ns: int
    off_ns: int
    off_delay_ns: int
    epoch: int
    reason: int
    driving: bool
    read_back_us: tuple[float, ...] = (0.0,) * CHANNELS


class Board:
    """The four records in a file that several processes map.

    Build one with `create` or `open`; `close` unmaps it, `remove` deletes the file.
    """

    def __init__(self, path: Path, memory: mmap.mmap) -> None:
        self.path = path
        self._memory = memory
        self._command = Seqlock(memory, _COMMAND_AT, _COMMAND)
        self._permit = Seqlock(memory, _PERMIT_AT, _PERMIT)
        self._status = Seqlock(memory, _STATUS_AT, _STATUS)
        self._supply = Seqlock(memory, _SUPPLY_AT, SUPPLY_FORMAT)

    @classmethod
    def create(cls, path: Path) -> Board:
        """Make an empty board readable by this user alone.

        Raises:
            FileExistsError: something is there already.
        """
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(handle, _SIZE)
            memory = mmap.mmap(handle, _SIZE)
        finally:
            os.close(handle)
        memory[: len(_MAGIC)] = _MAGIC
        return cls(path, memory)

    @classmethod
    def open(cls, path: Path) -> Board:
        """Map a board that another process made.

        Raises:
            DataError: E-ROBOT-BOARD-001, the file is no board.
            OSError: it cannot be opened.
        """
        handle = os.open(path, os.O_RDWR)
        try:
            if os.fstat(handle).st_size != _SIZE:
                raise _no_board(path)
            memory = mmap.mmap(handle, _SIZE)
        finally:
            os.close(handle)
        if memory[: len(_MAGIC)] != _MAGIC:
            raise _no_board(path)
        return cls(path, memory)

    def write_command(self, command: Command) -> None:
        """Publish a command."""
        self._command.write(
            command.heartbeat_ns,
            command.epoch,
            command.tick,
            command.enabled,
            *command.pulses_us,
        )

    def read_command(self) -> Command | None:
        """Return the newest command; None if there is none, or it is torn."""
        fields = self._command.read()
        if fields is None:
            return None
        heartbeat_ns, epoch, tick, enabled, *pulses = fields
        return Command(
            heartbeat_ns=heartbeat_ns,
            epoch=epoch,
            tick=tick,
            enabled=enabled == 1,
            pulses_us=tuple(pulses),
        )

    def write_permit(self, permit: Permit) -> None:
        """Publish what is allowed."""
        self._permit.write(
            permit.epoch, permit.renewed_ns, permit.allowed, permit.e_stop
        )

    def read_permit(self) -> Permit | None:
        """Return what is allowed; None, which allows nothing, if unreadable."""
        fields = self._permit.read()
        if fields is None:
            return None
        epoch, renewed_ns, allowed, e_stop = fields
        return Permit(
            epoch=epoch,
            allowed=allowed == 1,
            e_stop=e_stop != 0,
            renewed_ns=renewed_ns,
        )

    def write_status(self, status: GuardStatus) -> None:
        """Publish what the guard did."""
        *numbers, read_back = attrs.astuple(status, recurse=False)
        self._status.write(*numbers, *read_back)

    def read_status(self) -> GuardStatus | None:
        """Return what the guard did last; None if it never polled."""
        fields = self._status.read()
        if fields is None:
            return None
        names = [field.name for field in attrs.fields(GuardStatus)][:-1]
        values = dict(zip(names, fields, strict=False))
        values["driving"] = bool(values["driving"])
        return GuardStatus(**values, read_back_us=tuple(fields[len(names) :]))

    def write_supply(self, supply: Supply) -> None:
        """Publish what the battery's gauge said."""
        self._supply.write(*pack_supply(supply))

    def read_supply(self) -> Supply | None:
        """Return what the gauge said last; None if the guard never looked."""
        fields = self._supply.read()
        return None if fields is None else unpack_supply(fields)

    def close(self) -> None:
        """Unmap; may be called twice."""
        self._memory.close()

    def remove(self) -> None:
        """Unmap and delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)


def _no_board(path: Path) -> DataError:
    return DataError(
        "E-ROBOT-BOARD-001",
        "this file is no command board",
        where=path,
        hint="start the guard through the service, which makes the board",
    )
