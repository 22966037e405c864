"""Where judged commands go: to the guard's board, or straight to servos on a desk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from continuon.rig.protocols import Servos
from continuon.robot.board import CHANNELS, Board, Command

__all__ = ["BoardOutput", "Output", "ServoOutput"]


class Output(Protocol):
    """Takes one update a tick."""

    def drive(self, pulses_us: Mapping[int, float], *, now_ns: int) -> None:
        """Ask for these pulses."""
        ...

    def idle(self, *, now_ns: int) -> None:
        """Say that the loop lives and wants nothing driven."""
        ...


class BoardOutput:
    """Publishes commands, and a heartbeat with each, for the guard to judge."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._tick = 0
        self.epoch = 0

    def drive(self, pulses_us: Mapping[int, float], *, now_ns: int) -> None:
        """Ask for these pulses in the current epoch."""
        wide = tuple(float(pulses_us.get(i, 0.0)) for i in range(CHANNELS))
        self._write(wide, enabled=True, now_ns=now_ns)

    def idle(self, *, now_ns: int) -> None:
        """Beat without driving."""
        self._write((0.0,) * CHANNELS, enabled=False, now_ns=now_ns)

    def _write(
        self, pulses_us: tuple[float, ...], *, enabled: bool, now_ns: int
    ) -> None:
        self._tick += 1
        self._board.write_command(
            Command(
                heartbeat_ns=now_ns,
                epoch=self.epoch,
                tick=self._tick,
                enabled=enabled,
                pulses_us=pulses_us,
            )
        )


class ServoOutput:
    """Drives servos in this process: for worlds in virtual time, never a live robot."""

    def __init__(self, servos: Servos) -> None:
        self._servos = servos
        self._driving = True

    def drive(self, pulses_us: Mapping[int, float], *, now_ns: int) -> None:  # noqa: ARG002
        """Write the pulses."""
        self._driving = True
        self._servos.set_pulses_us(pulses_us)

    def idle(self, *, now_ns: int) -> None:  # noqa: ARG002
        """Turn everything off, once."""
        if self._driving:
            self._servos.full_off()
            self._driving = False
