"""What a person at the robot drives with: a terminal's keyboard or a gamepad.

Both are read without waiting and turned into the car's normalised command. A terminal
tells of no key's release, so a key counts as held for a short while after it was last
heard; hands off means neutral.
"""

from __future__ import annotations

import os
import struct
import sys
import termios
import tty
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, Self

import attrs

from continuon.errors import HardwareError, UsageError

__all__ = ["Gamepad", "Handset", "Keyboard", "Press", "Stick"]

STEER_SHARE = 0.8
THROTTLE_SHARE = 0.3
HELD_NS = 600_000_000
_EVENT = struct.Struct("<IhBB")
"""Linux joystick API: time ms, value, type, number (include/uapi/linux/joystick.h)."""

_BUTTON, _AXIS, _INITIAL = 1, 2, 0x80
_FULL = 32767.0
_DEADZONE = 0.08


class Press(StrEnum):
    """What a person asks for beside driving."""

    RECORD = "record"
    STOP = "stop"
    QUIT = "quit"


@attrs.frozen(kw_only=True)
class Stick:
    """A command in the car's normalised units, -1..1, and what was pressed."""

    steering: float
    throttle: float
    presses: tuple[Press, ...] = ()


class Handset(Protocol):
    """Anything that a person drives with."""

    def poll(self, now_ns: int) -> Stick:
        """Return the command of now; never waits."""
        ...


_KEYS = {
    b"\x1b[A": ("throttle", THROTTLE_SHARE),
    b"\x1b[B": ("throttle", -THROTTLE_SHARE),
    b"\x1b[C": ("steering", STEER_SHARE),
    b"\x1b[D": ("steering", -STEER_SHARE),
    b"w": ("throttle", THROTTLE_SHARE),
    b"s": ("throttle", -THROTTLE_SHARE),
    b"d": ("steering", STEER_SHARE),
    b"a": ("steering", -STEER_SHARE),
}
_PRESSES = {b"r": Press.RECORD, b"x": Press.STOP, b"q": Press.QUIT, b"\x03": Press.QUIT}


class Keyboard:
    """Keys of a terminal: arrows or WASD, r records, x stops, q quits.

    Args:
        fd: of the terminal.

    Raises:
        UsageError: E-ROBOT-PERSON-002, this is no terminal.
    """

    help = "arrows or WASD drive, r records, x is the emergency stop, q quits"

    def __init__(self, fd: int | None = None) -> None:
        self._fd = sys.stdin.fileno() if fd is None else fd
        if not os.isatty(self._fd):
            raise UsageError(
                "E-ROBOT-PERSON-002",
                "driving by keyboard needs a person at a terminal",
                hint="run it from a terminal, or use --driver gamepad",
                exit_code=5,
            )
        self._held: dict[str, tuple[float, int]] = {}
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._fd)
        tty.setraw(self._fd, termios.TCSANOW)
        os.set_blocking(self._fd, False)
        return self

    def __exit__(self, *exc: object) -> None:
        os.set_blocking(self._fd, True)
        if self._before is not None:
            # Keys that were still held are not typed into the shell afterwards.
            termios.tcsetattr(self._fd, termios.TCSAFLUSH, self._before)

    def poll(self, now_ns: int) -> Stick:
        """Return the command of the keys that count as held."""
        presses = []
        for key in _split(self._read()):
            if key in _KEYS:
                axis, value = _KEYS[key]
                self._held[axis] = (value, now_ns)
            elif key in _PRESSES:
                presses.append(_PRESSES[key])
        axes = {
            axis: value
            for axis, (value, heard_ns) in self._held.items()
            if now_ns - heard_ns <= HELD_NS
        }
        return Stick(
            steering=axes.get("steering", 0.0),
            throttle=axes.get("throttle", 0.0),
            presses=tuple(presses),
        )

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, 1024)
        except BlockingIOError:
            return b""


class Gamepad:
    """A gamepad through Linux' joystick device.

    Left stick steers, right trigger pushes, left trigger brakes; A records, B is the
    emergency stop, Start quits (the Xbox layout of the kernel's xpad driver).

    Raises:
        HardwareError: E-ROBOT-GAMEPAD-001, it is not there.
    """

    help = "left stick steers, triggers drive, A records, B is the emergency stop"
    _steer_axis, _brake_axis, _push_axis = 0, 2, 5
    _buttons = {0: Press.RECORD, 1: Press.STOP, 7: Press.QUIT}  # noqa: RUF012

    def __init__(self, path: Path = Path("/dev/input/js0")) -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise HardwareError(
                "E-ROBOT-GAMEPAD-001",
                f"there is no gamepad: {error.strerror}",
                where=path,
                hint="plug it in, or use --driver keyboard",
            ) from error
        self._axes: dict[int, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    def poll(self, now_ns: int) -> Stick:  # noqa: ARG002
        """Return the command of the sticks.

        Raises:
            HardwareError: E-ROBOT-GAMEPAD-002, it was unplugged.
        """
        presses = []
        for value, kind, number in self._events():
            if kind & ~_INITIAL == _AXIS:
                self._axes[number] = value / _FULL
            elif kind == _BUTTON and value and number in self._buttons:
                presses.append(self._buttons[number])
        steer = self._axes.get(self._steer_axis, 0.0)
        # A trigger that was never touched is at rest, which reads -1 once it moves.
        push = (self._axes.get(self._push_axis, -1.0) + 1.0) / 2.0
        brake = (self._axes.get(self._brake_axis, -1.0) + 1.0) / 2.0
        return Stick(
            steering=steer if abs(steer) > _DEADZONE else 0.0,
            throttle=(push - brake) * THROTTLE_SHARE,
            presses=tuple(presses),
        )

    def _events(self) -> list[tuple[int, int, int]]:
        try:
            data = os.read(self._fd, 64 * _EVENT.size)
        except BlockingIOError:
            return []
        except OSError as error:
            raise HardwareError(
                "E-ROBOT-GAMEPAD-002", "the gamepad was unplugged", hint="plug it in"
            ) from error
        whole = len(data) // _EVENT.size * _EVENT.size
        return [event[1:] for event in _EVENT.iter_unpack(data[:whole])]


def _split(data: bytes) -> list[bytes]:
    """Return single keys; an arrow is a sequence of three bytes."""
    keys = []
    while data:
        length = 3 if data[:2] == b"\x1b[" else 1
        keys.append(data[:length])
        data = data[length:]
    return keys
