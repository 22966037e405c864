"""How many connections one peer may hold, and which makes room when there is none.

A connection that never asks anything costs a file descriptor. Without a bound, one
machine on the network could take them all, and with them a person's stop button. What
waits (for the rest of a request, or for the next one) gives its place to a newcomer of
the same peer; what is being answered, or is a socket, keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from continuon.robot.access import is_loopback

__all__ = ["MAX_LAN", "MAX_LOCAL", "MAX_PEER", "Connections", "Held"]

MAX_PEER = 24
"""A page holds six at most, and a socket."""

MAX_LOCAL = 128
"""Of this machine's own; the network never takes these."""

MAX_LAN = 272
"""Of all peers on the network: with the local ones 400 of a process's 1024 files."""


class Closable(Protocol):
    """As much of an asyncio transport as is needed here."""

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        ...

    def abort(self) -> None:
        """Close it now, whatever is still to be sent."""
        ...


@attrs.define(eq=False)
class Held:
    """One connection that was let in.

    Attributes:
        peer: its address.
        transport: the connection.
        waits: it waits for its client; only then it is dropped for another.
    """

    peer: str
    transport: Closable
    waits: bool = True


class Connections:
    """Who holds which connections now, over all listeners of the service."""

    def __init__(self) -> None:
        self._held: list[Held] = []  # oldest first

    def admit(self, peer: str, transport: Closable) -> Held | None:
        """Return one more connection's place, or None where there is no room."""
        self._held = [one for one in self._held if not one.transport.is_closing()]
        if is_loopback(peer):
            fits = self._fits(lambda one: is_loopback(one.peer), MAX_LOCAL)
        else:
            fits = self._fits(lambda one: one.peer == peer, MAX_PEER) and self._fits(
                lambda one: not is_loopback(one.peer), MAX_LAN
            )
        if not fits:
            return None
        held = Held(peer, transport)
        self._held.append(held)
        return held

    def touch(self, held: Held, *, waits: bool) -> None:
        """Note that a connection waits from now on, or no longer."""
        held.waits = waits
        if waits and held in self._held:
            self._held.remove(held)
            self._held.append(held)

    def _fits(self, belongs: Callable[[Held], bool], most: int) -> bool:
        """Return whether there is room for one more; who waited longest makes it."""
        room = [one for one in self._held if belongs(one)]
        if len(room) < most:
            return True
        longest = next((one for one in room if one.waits), None)
        if longest is None:
            return False
        longest.transport.abort()
        self._held.remove(longest)
        return True
