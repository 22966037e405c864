"""The socket that takes a person's commands."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import msgspec
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect

from continuon.clock import Clock
from continuon.errors import ContinuonError
from continuon.rlds.episode import ActionSource
from continuon.robot.access import Access, Role
from continuon.robot.api_bodies import MAX_BODY_BYTES, TeleopFrame, decode, unfit
from continuon.robot.api_robot import Robot
from continuon.robot.wheel import Wheel

__all__ = ["PROTOCOL", "TeleopApi"]

PROTOCOL = "continuon.v1"
"""The WebSocket subprotocol of teleoperation."""

_SOURCES = (
    ActionSource.HUMAN_TELEOP_XR,
    ActionSource.HUMAN_DEV_XR,
    ActionSource.HUMAN_SUPERVISOR,
)
_REFUSED = 1008


class TeleopApi(ABC):
    """The handler of `/teleop`; what it needs of the API is declared here."""

    _robot: Robot
    _clock: Clock
    _wheel: Wheel

    @abstractmethod
    def _access(self, connection: HTTPConnection) -> Access: ...

    @abstractmethod
    def _same_origin(self, connection: HTTPConnection) -> bool: ...

    async def teleop(self, socket: WebSocket) -> None:
        """Take commands as JSON: {"action": [...], "source": "human_teleop_xr"}."""
        if self._access(socket).role < Role.OPERATOR or not self._same_origin(socket):
            await socket.close(code=_REFUSED, reason="pair first")
            return
        await socket.accept(subprotocol=_offered(socket))
        try:
            await self._drive(socket)
        except WebSocketDisconnect:
            return
        finally:
            self._wheel.leave(socket)

    async def _drive(self, socket: WebSocket) -> None:
        while True:
            try:
                text = await socket.receive_text()
            except KeyError:
                await socket.close(code=1003, reason="send text, not bytes")
                return
            # A client that was turned away meanwhile drives no further.
            access = self._access(socket)
            if access.role < Role.OPERATOR:
                await socket.close(code=_REFUSED, reason="no longer allowed")
                return
            try:
                self._take_frame(socket, access.name, text)
            except ContinuonError as error:
                await socket.send_text(msgspec.json.encode(error.as_dict()).decode())
                continue
            await socket.send_text('{"taken":true}')

    def _take_frame(self, socket: WebSocket, name: str, text: str) -> None:
        if len(text) > MAX_BODY_BYTES:
            raise unfit("the frame is too long")
        frame = decode(text.encode(), TeleopFrame)
        if frame.source not in _SOURCES:
            raise unfit("this is not a person's command")
        if not all(math.isfinite(value) for value in frame.action):
            raise unfit("an action is finite")
        now_ns = self._clock.monotonic_ns()
        self._wheel.ask(socket, now_ns)
        self._robot.teleop(frame.action, frame.source.value)
        self._wheel.took(socket, name, now_ns)


def _offered(socket: WebSocket) -> str | None:
    """Return the protocol to answer with, where the client offered it."""
    return PROTOCOL if PROTOCOL in socket.scope.get("subprotocols", ()) else None
