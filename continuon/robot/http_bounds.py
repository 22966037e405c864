"""uvicorn's HTTP protocol with an end to every wait for a client.

uvicorn itself waits for ever for a request's head, a body, and a client that takes an
answer; only between two requests it has a limit. A client that sends one byte now and
then would hold its connections, and with enough of them everybody's.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Any

from continuon.robot.connections import Connections, Held

__all__ = ["LIMIT_S", "Phase", "bounded_protocol"]


class Phase(StrEnum):
    """What a connection waits for."""

    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    NEXT = "next"
    SOCKET = "socket"


LIMIT_S = {Phase.HEAD: 5.0, Phase.BODY: 10.0, Phase.ANSWER: 120.0, Phase.NEXT: 10.0}
"""An answer takes as long as loading a policy does; a socket has no limit here."""

TRIM_S = 0.02
"""A request comes with its connection, or a moment later; then it is no longer idle."""


def bounded_protocol(connections: Connections) -> type[asyncio.Protocol]:
    """Return uvicorn's h11 protocol, its connections counted and its waits limited.

    h11 is named, and not the fastest that is installed: it bounds a head's length.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Bounded(H11Protocol):
        """One connection; one too many is dropped without a word."""

        _held: Held | None = None
        _phase: Phase | None = None
        _asked: object = None
        _alarm: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            """Begin, or drop it."""
            super().connection_made(transport)
            peer = transport.get_extra_info("peername")
            if peer is None:
                return
            self._held = connections.admit(peer[0], transport)
            if self._held is None:
                transport.abort()
            else:
                self._enter(Phase.HEAD)
                self.loop.call_later(TRIM_S, connections.trim)

        def data_received(self, data: bytes) -> None:
            """Take bytes, and see how far they brought the request."""
            super().data_received(data)
            self._follow()

        def on_response_complete(self) -> None:
            """Wait for the next request."""
            super().on_response_complete()
            self._follow()

        def handle_websocket_upgrade(self, event: Any) -> None:
            """Leave the connection to the socket's own protocol."""
            self._enter(Phase.SOCKET)
            super().handle_websocket_upgrade(event)

        def connection_lost(self, exc: Exception | None) -> None:
            """End, with nothing left to wait for."""
            self._disarm()
            super().connection_lost(exc)

        def _follow(self) -> None:
            if self._held is None or self.transport.is_closing():
                return
            if self._phase is Phase.SOCKET:
                return
            cycle = self.cycle
            if cycle is not None and not cycle.response_complete:
                phase = Phase.BODY if cycle.more_body else Phase.ANSWER
                self._enter(phase, cycle)
            elif cycle is None or self.conn.trailing_data[0]:
                self._enter(Phase.HEAD)
            else:
                self._enter(Phase.NEXT)

        def _enter(self, phase: Phase, asked: object = None) -> None:
            is_same = phase is self._phase and asked is self._asked
            if is_same or self._held is None:
                return
            self._phase, self._asked = phase, asked
            self._disarm()
            waits = phase in (Phase.HEAD, Phase.NEXT)
            connections.touch(self._held, waits=waits)
            if phase in LIMIT_S:
                self._alarm = self.loop.call_later(LIMIT_S[phase], self.transport.abort)

        def _disarm(self) -> None:
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

    return Bounded
