"""JSON messages between two processes over a pair of packet sockets."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import msgspec

from continuon.errors import UsageError

__all__ = ["Channel", "channel_pair", "misunderstood"]

_MAX_BYTES = 1 << 18


class Channel:
    """One end. Message borders are kept; a closed other end reads as EOFError."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @classmethod
    def from_fd(cls, fd: int) -> Channel:
        """Return the end that a parent process handed down."""
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        """Return the descriptor, for handing down."""
        return self._end.fileno()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; never waits.

        Raises:
            BrokenPipeError: nobody is at the other end.
            BlockingIOError: the other end does not read.
        """
        self._end.send(msgspec.json.encode(message), socket.MSG_DONTWAIT)

    def receive(self, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait for one message.

        Raises:
            EOFError: the other end is closed.
            TimeoutError: nothing came in time.
        """
        self._end.settimeout(timeout_s)
        return self._decode(self._end.recv(_MAX_BYTES))

    def poll(self) -> dict[str, Any] | None:
        """Return a message that has arrived, or None; never waits.

        Raises:
            EOFError: the other end is closed.
        """
        try:
            data = self._end.recv(_MAX_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        return self._decode(data)

    def shut(self) -> None:
        """End both directions, which wakes whoever waits on this end."""
        self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end; may be called twice."""
        self._end.close()

    def _decode(self, data: bytes) -> dict[str, Any]:
        if not data:
            raise EOFError
        message: dict[str, Any] = msgspec.json.decode(data)
        return message


def channel_pair() -> tuple[Channel, Channel]:
    """Return two connected ends."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(one), Channel(two)


def misunderstood(error: Exception) -> UsageError:
    """Return the answer to a message that lacks something, or is of another kind."""
    return UsageError(
        "E-ROBOT-CONTROL-006",
        "a message cannot be understood",
        seen=f"{type(error).__name__}: {error}",
    )
