"""How many connections one peer may hold: a flood from one leaves the others room.

A connection that never asks anything costs a file descriptor. Without a bound, one
machine on the network could take them all, and with them a person's stop button.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from continuon.robot.access import is_loopback

__all__ = ["MAX_LOCAL", "MAX_PEER", "Connections"]

MAX_PEER = 24
"""A page holds six at most, and a socket."""

MAX_LOCAL = 128
MAX_ALL = 400
"""Of the 1024 descriptors that a process has by default."""


class Closable(Protocol):
    """As much of an asyncio transport as is needed here."""

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        ...


class Connections:
    """Who holds which connections now, over all listeners of the service."""

    def __init__(self) -> None:
        self._held: dict[str, list[Closable]] = {}

    def admit(self, peer: str, transport: Closable) -> bool:
        """Return whether one more may stay; it is counted if so."""
        self._forget_closed()
        mine = self._held.get(peer, [])
        most = MAX_LOCAL if is_loopback(peer) else MAX_PEER
        if len(mine) >= most or sum(map(len, self._held.values())) >= MAX_ALL:
            return False
        self._held.setdefault(peer, []).append(transport)
        return True

    def protocol(self) -> type[asyncio.Protocol]:
        """Return uvicorn's HTTP protocol with this bound."""
        from uvicorn.protocols.http.auto import AutoHTTPProtocol

        admit = self.admit

        class Bounded(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
            """One connection; one too many is dropped without a word."""

            def connection_made(self, transport: asyncio.Transport) -> None:
                """Begin, or drop it."""
                peer = transport.get_extra_info("peername")
                if peer is not None and not admit(peer[0], transport):
                    transport.abort()
                super().connection_made(transport)

        return Bounded

    def _forget_closed(self) -> None:
        held = {
            peer: [one for one in mine if not one.is_closing()]
            for peer, mine in self._held.items()
        }
        self._held = {peer: mine for peer, mine in held.items() if mine}
