"""How the service is reached: its servers, and what the network is told of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import continuon
from continuon.errors import MissingPackageError
from continuon.robot.connections import Connections
from continuon.robot.discovery import LOOPBACK, Advertisement, lan_addresses
from continuon.robot.http_bounds import bounded_protocol
from continuon.robot.lan_door import LanDoor
from continuon.robot.token_store import TokenStore

__all__ = ["Front"]

_MAX_WEBSOCKET_BYTES = 4096
_AT_ONE_GO = 128
"""Connections that the event loop takes between two looks at all the rest."""

_BACKLOG = 2048
"""Connections that wait for it in the kernel; one too many is tried again in a second,
and it may be a stop."""


class Front:
    """One application, answered on loopback always and on the network while paired.

    Args:
        api: the application's maker; its `own_names` follow the addresses.
        tokens: who is paired.
        name: of the robot.
        port: that the loopback socket has.
        lan: whether the network may ever be listened on.
        say: gets sentences for a person at the robot.
        addresses: this machine's, towards the network.
        advertise: makes what tells the network.
    """

    def __init__(
        self,
        api: Any,
        tokens: TokenStore,
        *,
        name: str,
        port: int,
        lan: bool,
        say: Callable[[str], None],
        addresses: Callable[[], tuple[str, ...]] = lan_addresses,
        advertise: Callable[..., Any] = Advertisement,
    ) -> None:
        self._api = api
        self._application = api.application()
        self._tokens = tokens
        self._name = name
        self._port = port
        self._lan = lan
        self._say = say
        self._addresses = addresses
        self._advertise = advertise
        self._advertisement: Any = None
        self._door = LanDoor(
            port,
            wanted=self._wanted,
            make=self.listener,
            changed=self._tell,
            say=say,
        )
        self._connections = Connections()
        self.told = False
        self._api.own_names = self._names(())

    @property
    def hosts(self) -> tuple[str, ...]:
        """Addresses that are listened on, loopback first."""
        return (*LOOPBACK, *self._door.hosts)

    def listener(self) -> Any:
        """Return a server of the application, not yet started."""
        import uvicorn

        class Server(uvicorn.Server):
            """One of several in this process, whose signals are the service's own."""

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                """Listen with a longer queue than is taken at one go."""
                await super().startup(sockets)
                for end in sockets or ():
                    end.listen(_BACKLOG)

            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                """Leave the handlers as they are."""
                yield

        return Server(
            uvicorn.Config(
                self._application,
                http=bounded_protocol(self._connections),
                backlog=_AT_ONE_GO,
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_level="warning",
                lifespan="off",
                ws="websockets-sansio",
                ws_max_size=_MAX_WEBSOCKET_BYTES,
                timeout_graceful_shutdown=1,
            )
        )

    async def keep(self) -> None:
        """Tell the network, then open and close its sockets as people pair and go."""
        await self._tell(())
        await self._door.keep()

    async def close(self) -> None:
        """Close the network's sockets and say goodbye."""
        await self._door.shut()
        await self._untell()

    def _wanted(self) -> tuple[str, ...]:
        return self._addresses() if self._lan and self._tokens.tokens else ()

    def _names(self, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return (*LOOPBACK, *hosts, f"{self._name}.local")

    async def _tell(self, hosts: tuple[str, ...]) -> None:
        self._api.own_names = self._names(hosts)
        await self._untell()
        told = self._advertisement = self._advertise(
            self._name,
            self._port,
            addresses=(*LOOPBACK, *hosts),
            interfaces=(*LOOPBACK, *hosts),
            properties={
                "version": continuon.__version__,
                "api": "/openapi.json",
                "reach": "lan" if hosts else "loopback",
            },
        )
        try:
            # Registering blocks for a second, and wants a thread without an event loop.
            await asyncio.to_thread(told.start)
        except (OSError, MissingPackageError) as error:
            self._say(f"the network is not told of this robot: {error}")
        self.told = True

    async def _untell(self) -> None:
        told, self._advertisement = self._advertisement, None
        if told is not None:
            await asyncio.to_thread(told.close)
