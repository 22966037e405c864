"""How many connections one peer may hold, and which makes room when there is none.

A connection that never asks anything costs a file descriptor. Without a bound, one
machine on the network could take them all, and with them a person's stop button. What
waits (for the rest of a request, or for the next one) gives its place to a newcomer of
the same peer; what is being answered, or is a socket, keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import attrs

from continuon.robot.access import is_loopback

__all__ = ["MAX_LAN", "MAX_LOCAL", "MAX_PEER", "Connections", "Held"]

MAX_PEER = 24
"""A page holds six at most, and a socket."""

MAX_LOCAL = 128
"""Of this machine's own; the network never takes these."""

MAX_LAN = 272
"""Of all peers on the network: twice this and the local ones are 800 of 1024 files."""


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
        is_local: whether that is this machine's own.
        transport: the connection.
        waits: it waits for its client; only then it is dropped for another.
    """

    peer: str
    is_local: bool
    transport: Closable
    waits: bool = True


class Connections:
    """Who holds which connections now, over all listeners of the service."""

    def __init__(self) -> None:
        self._held: list[Held] = []  # oldest first

    def admit(self, peer: str, transport: Closable) -> Held | None:
        """Return one more connection's place, or None where there is no room.

        For a moment a room holds up to twice as many: what came with a flood is read
        before it is judged. Call `trim` soon.
        """
        self._held = [one for one in self._held if not one.transport.is_closing()]
        is_local = is_loopback(peer)
        for room, most in self._rooms(peer, is_local=is_local):
            if len(room) >= 2 * most and not self._drop_one(room):
                return None
        held = Held(peer, is_local, transport)
        self._held.append(held)
        return held

    def trim(self) -> None:
        """Drop of each room that is too full who waited longest for its client."""
        for peer, is_local in {one.peer: one.is_local for one in self._held}.items():
            for room, most in self._rooms(peer, is_local=is_local):
                while len(room) > most and self._drop_one(room):
                    pass

    def touch(self, held: Held, *, waits: bool) -> None:
        """Note that a connection waits from now on, or no longer."""
        held.waits = waits
        if waits and held in self._held:
            self._held.remove(held)
            self._held.append(held)

    def _rooms(self, peer: str, *, is_local: bool) -> Iterator[tuple[list[Held], int]]:
        """Yield what shares a room with a peer, and how many should be in it."""
        if is_local:
            yield [one for one in self._held if one.is_local], MAX_LOCAL
            return
        yield [one for one in self._held if one.peer == peer], MAX_PEER
        yield [one for one in self._held if not one.is_local], MAX_LAN

    def _drop_one(self, room: list[Held]) -> bool:
        longest = next((one for one in room if one.waits), None)
        if longest is None:
            return False
        longest.transport.abort()
        room.remove(longest)
        self._held.remove(longest)
        return True
