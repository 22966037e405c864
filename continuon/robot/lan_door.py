"""The API's sockets towards the network: open while somebody is paired, else closed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from continuon.errors import HardwareError

__all__ = ["LanDoor", "Listener", "listen"]

LOOK_S = 0.5
_SHUT_S = 3.0


class Listener(Protocol):
    """A server on sockets of its own, as `uvicorn.Server` is one."""

    should_exit: bool

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer on these sockets until `should_exit`, then close them."""
        ...


class LanDoor:
    """Keeps the sockets as they should be; look at it with `keep`.

    It follows the pairing, and the network too: an address that comes later or changes
    is listened on without a restart.

    Args:
        port: that the API has on loopback; the network's is the same.
        wanted: addresses to listen on now, none while nobody is paired.
        make: makes a listener for the API.
        changed: told the open addresses after each change.
        say: told once why an address cannot be opened.
    """

    def __init__(
        self,
        port: int,
        *,
        wanted: Callable[[], tuple[str, ...]],
        make: Callable[[], Listener],
        changed: Callable[[tuple[str, ...]], Awaitable[None]],
        say: Callable[[str], None],
    ) -> None:
        self.port = port
        self.hosts: tuple[str, ...] = ()
        self._wanted = wanted
        self._make = make
        self._changed = changed
        self._say = say
        self._refused: tuple[str, ...] = ()
        self._listener: Listener | None = None
        self._serving: asyncio.Task[None] | None = None

    async def keep(self) -> None:
        """Look twice a second, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Open or close once, where what is open is not what is wanted."""
        before = self.hosts
        if self._serving is not None and self._serving.done():
            await self.shut()
        wanted = await asyncio.to_thread(self._wanted)
        if wanted != self.hosts:
            await self.shut()
            if wanted:
                self._open(wanted)
        if self.hosts != before:
            await self._changed(self.hosts)

    async def shut(self) -> None:
        """Close what is open, with every connection that came in by it."""
        listener, serving = self._listener, self._serving
        self._listener = self._serving = None
        self.hosts = ()
        if listener is None or serving is None:
            return
        listener.should_exit = True
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(serving), _SHUT_S)
        if not serving.done():
            serving.cancel()

    def _open(self, wanted: tuple[str, ...]) -> None:
        try:
            sockets = listen(wanted, self.port)
        except HardwareError as error:
            if self._refused != wanted:
                self._say(f"not reachable from the network: {error}")
            self._refused = wanted
            return
        self._refused = ()
        self._listener = self._make()
        self._serving = asyncio.create_task(self._listener.serve(sockets))
        self.hosts = wanted


def listen(hosts: tuple[str, ...], port: int) -> list[socket.socket]:
    """Bind one socket a host, all to one port; 0 lets the system choose it.

    Raises:
        HardwareError: E-ROBOT-PORT-001, one cannot be bound; none is left open then.
    """
    sockets: list[socket.socket] = []
    for host in hosts:
        end = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sockets.append(end)
        try:
            end.bind((host, port))
        except OSError as error:
            for opened in sockets:
                opened.close()
            raise HardwareError(
                "E-ROBOT-PORT-001",
                f"the API cannot listen: {error.strerror}",
                where=f"{host}:{port}",
                hint="another service runs already: `systemctl status continuon`",
            ) from error
        port = int(end.getsockname()[1])
    return sockets
