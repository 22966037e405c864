"""The robot's API as a Starlette application over a supervisor."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from continuon.clock import Clock, SystemClock
from continuon.errors import ContinuonError, ContractError, HardwareError, TrustError
from continuon.rlds.episode import ActionSource, EndReason
from continuon.robot import modes
from continuon.robot.access import (
    CODE_TTL_NS,
    Access,
    Role,
    decide_access,
    names_this_host,
)
from continuon.robot.api_bodies import (
    MAX_BODY_BYTES,
    EpisodeBody,
    EpisodeEndBody,
    ModeBody,
    NoBody,
    PairBody,
    PairingBody,
    RollbackBody,
    StopBody,
    TeleopFrame,
    decode,
    read_body,
    unfit,
)
from continuon.robot.api_cockpit import cockpit_routes
from continuon.robot.api_robot import Robot
from continuon.robot.endpoints import ENDPOINTS, Endpoint, openapi_document
from continuon.robot.metrics import CONTENT_TYPE, metrics_text
from continuon.robot.modes import Actor, ModeState
from continuon.robot.recordings import Wish
from continuon.robot.token_store import TokenStore

__all__ = ["Api", "Robot"]

_TELEOP_SOURCES = (
    ActionSource.HUMAN_TELEOP_XR,
    ActionSource.HUMAN_DEV_XR,
    ActionSource.HUMAN_SUPERVISOR,
)


PROTOCOL = "continuon.v1"
"""The WebSocket subprotocol of teleoperation."""

_BEARER = "bearer."
_FRAME_LOOKS = 100
_FRAME_LOOK_S = 0.01


class Api:
    """Handlers, one for each endpoint of the table.

    Args:
        robot: what is asked.
        tokens: who is paired.
        own_names: names and addresses, beside loopback, that this robot is reached by.
        clock: the host's.
    """

    def __init__(
        self,
        robot: Robot,
        tokens: TokenStore,
        *,
        own_names: Sequence[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._robot = robot
        self._tokens = tokens
        self._own_names = tuple(own_names)

    def application(self) -> Starlette:
        """Return the application to serve."""
        routes: list[BaseRoute] = [
            Route(
                endpoint.path,
                self._guarded(endpoint, getattr(self, endpoint.name)),
                methods=[endpoint.method],
            )
            for endpoint in ENDPOINTS
        ]
        routes.append(WebSocketRoute("/teleop", self.teleop))
        routes += cockpit_routes()
        return Starlette(routes=routes)

    async def livez(self, _request: Request, _access: Access) -> Response:
        """Say that the service answers."""
        return _json({"live": True})

    async def readyz(self, _request: Request, _access: Access) -> Response:
        """Say whether every part is well."""
        readiness = await asyncio.to_thread(self._robot.readiness)
        body = {
            "ready": readiness.ready,
            "parts": readiness.parts,
            "gates": msgspec.to_builtins(readiness.gates),
        }
        return _json(body, 200 if readiness.ready else 503)

    async def openapi(self, _request: Request, _access: Access) -> Response:
        """Describe the API."""
        return _json(openapi_document())

    async def pair(self, request: Request, _access: Access) -> Response:
        """Exchange a code for a token."""
        body = await read_body(request, PairBody)
        secret, role = await asyncio.to_thread(self._tokens.pair, body.code, body.name)
        return _json({"token": secret, "role": role.name.lower()})

    async def open_pairing(self, request: Request, _access: Access) -> Response:
        """Show a code that another client pairs with."""
        role = Role[(await read_body(request, PairingBody)).role.upper()]
        window = self._tokens.open_window(role)
        seconds = CODE_TTL_NS / 1e9
        return _json({"code": window.code, "role": role.name.lower(), "for_s": seconds})

    async def whoami(self, _request: Request, access: Access) -> Response:
        """Say who asks, and what they may."""
        paired = bool(self._tokens.tokens)
        role = access.role.name.lower()
        body = {"role": role, "name": access.name, "paired": paired}
        return _json(body | ({"reason": access.reason} if access.reason else {}))

    async def status(self, _request: Request, _access: Access) -> Response:
        """Return everything that is known."""
        return _json(await asyncio.to_thread(self._robot.status))

    async def metrics(self, _request: Request, _access: Access) -> Response:
        """Return the figures for Prometheus."""
        text = await asyncio.to_thread(self._metrics)
        return PlainTextResponse(text, media_type=CONTENT_TYPE)

    def _metrics(self) -> str:
        robot, now_ns = self._robot, self._clock.monotonic_ns()
        return metrics_text(
            state=robot.keeper.state,
            guard=robot.guard.report(),
            timing=robot.timing(),
            ticks=robot.control.log.count,
            parts=robot.readiness().parts,
            camera=robot.viewfinder.facts(now_ns),
            supply=robot.guard.supply(),
            now_ns=now_ns,
            recording=robot.recordings.current(),
            episodes=robot.recordings.finished,
        )

    async def episodes(self, _request: Request, _access: Access) -> Response:
        """List the recordings, and the one under way."""
        shelf = await asyncio.to_thread(self._robot.episodes)
        now = await asyncio.to_thread(self._robot.recordings.current)
        return _json({"episodes": shelf, "recording": now})

    async def begin_episode(self, request: Request, _access: Access) -> Response:
        """Begin to record what the robot does now."""
        body = await read_body(request, EpisodeBody)
        wish = Wish(**msgspec.structs.asdict(body))
        return _json(await asyncio.to_thread(self._robot.begin_episode, wish))

    async def end_episode(self, request: Request, _access: Access) -> Response:
        """End the recording under way; the robot goes on."""
        body = await read_body(request, EpisodeEndBody)
        reason = EndReason(body.outcome)
        return _json(await asyncio.to_thread(self._robot.end_episode, reason))

    async def judge_episode(self, request: Request, _access: Access) -> Response:
        """Validate a recording; the verdict stands in the list soon after."""
        episode_id = str(request.path_params["episode_id"])
        await asyncio.to_thread(self._robot.recordings.judge, episode_id)
        return _json({"episode_id": episode_id, "judging": True})

    async def health(self, _request: Request, _access: Access) -> Response:
        """Return the checks that can be made while the robot runs."""
        return _json(await asyncio.to_thread(self._robot.health))

    async def camera(self, request: Request, _access: Access) -> Response:
        """Return the newest frame; with `after`, wait a little for a newer one."""
        try:
            after = int(request.query_params.get("after", "-1"))
        except ValueError:
            raise unfit("after is the number of a frame") from None
        finder = self._robot.viewfinder
        for _ in range(_FRAME_LOOKS):
            now_ns = self._clock.monotonic_ns()
            picture = await asyncio.to_thread(finder.look, after, now_ns)
            if picture is not None:
                headers = {
                    "x-frame": str(picture.number),
                    "x-age-ms": f"{picture.age_ns / 1e6:.1f}",
                    "cache-control": "no-store",
                }
                return Response(picture.jpeg, media_type="image/jpeg", headers=headers)
            await asyncio.sleep(_FRAME_LOOK_S)
        raise HardwareError(
            "E-ROBOT-CAMERA-001",
            "the camera shows nothing new",
            hint="check its cable, then `continuon rig scan`",
        )

    async def ota(self, _request: Request, _access: Access) -> Response:
        """Return which bundle runs, and which ones are kept."""
        return _json(await asyncio.to_thread(self._robot.software_status))

    async def roll_back(self, request: Request, _access: Access) -> Response:
        """Return to the bundle before."""
        body = await read_body(request, RollbackBody)
        return _json(await asyncio.to_thread(self._robot.roll_back, body.reason))

    async def take_adapter(self, request: Request, _access: Access) -> Response:
        """Drive with the adapter in use."""
        await read_body(request, NoBody)
        return _json(await asyncio.to_thread(self._robot.take_adapter))

    async def mode(self, _request: Request, _access: Access) -> Response:
        """Return the mode."""
        return _json(_state(self._robot.keeper.state))

    async def change_mode(self, request: Request, access: Access) -> Response:
        """Change the mode for a person."""
        body = await read_body(request, ModeBody)
        if body.request is modes.Request.FAULT:
            raise unfit("only the robot itself reports a fault")
        if body.request is modes.Request.CLEAR and access.role < Role.OWNER:
            raise TrustError(
                "E-ROBOT-API-003",
                "only the owner clears an emergency stop",
                seen=access.role.name.lower(),
                allowed="owner",
                hint="look at the robot first",
            )
        state = await asyncio.to_thread(
            self._robot.request, body.request, Actor.PERSON, reason=body.reason
        )
        return _json(_state(state))

    async def estop(self, request: Request, _access: Access) -> Response:
        """Stop now. A body that cannot be read does not keep it from stopping."""
        try:
            reason = (await read_body(request, StopBody)).reason
        except ContractError:
            reason = "no reason given"
        state = await asyncio.to_thread(
            self._robot.request, modes.Request.E_STOP, Actor.PERSON, reason=reason
        )
        return _json(_state(state))

    async def teleop(self, socket: WebSocket) -> None:
        """Take commands as JSON: {"action": [...], "source": "human_teleop_xr"}."""
        if self._access(socket).role < Role.OPERATOR or not self._same_origin(socket):
            await socket.close(code=1008, reason="pair first")
            return
        await socket.accept(subprotocol=_offered(socket))
        while True:
            try:
                text = await socket.receive_text()
                self._take_frame(text)
            except WebSocketDisconnect:
                return
            except KeyError:
                await socket.close(code=1003, reason="send text, not bytes")
                return
            except ContinuonError as error:
                await socket.send_text(_encode(error.as_dict()).decode())
                continue
            await socket.send_text('{"taken":true}')

    def _take_frame(self, text: str) -> None:
        if len(text) > MAX_BODY_BYTES:
            raise unfit("the frame is too long")
        frame = decode(text.encode(), TeleopFrame)
        if frame.source not in _TELEOP_SOURCES:
            raise unfit("this is not a person's command")
        if not all(math.isfinite(value) for value in frame.action):
            raise unfit("an action is finite")
        self._robot.teleop(frame.action, frame.source.value)

    def _guarded(
        self,
        endpoint: Endpoint,
        handler: Callable[[Request, Access], Awaitable[Response]],
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            access = self._access(request)
            if access.role < endpoint.role:
                status = 401 if access.role is Role.NOBODY else 403
                return _refusal("E-ROBOT-API-001", access.reason or "not yours", status)
            if endpoint.body is not None and not self._same_origin(request):
                return _refusal("E-ROBOT-API-002", "another page's request", 403)
            if endpoint.name != "estop" and not _is_json(endpoint, request):
                return _refusal("E-ROBOT-API-005", "the body is not JSON", 415)
            try:
                return await handler(request, access)
            except ContinuonError as error:
                return _json(error.as_dict(), _http_status(error))

        return answer

    def _access(self, connection: HTTPConnection) -> Access:
        authorization = connection.headers.get("authorization")
        return decide_access(
            peer=connection.client.host if connection.client else None,
            host_header=connection.headers.get("host"),
            authorization=authorization or _bearer_protocol(connection),
            tokens=self._tokens.tokens,
            own_names=self._own_names,
            local_sha256=self._tokens.local_sha256,
        )

    def _same_origin(self, connection: HTTPConnection) -> bool:
        """Return whether no foreign web page is behind this request."""
        origin = connection.headers.get("origin")
        return origin is None or names_this_host(
            urlsplit(origin).netloc, self._own_names
        )


def _bearer_protocol(connection: HTTPConnection) -> str | None:
    """Return the token that a browser's WebSocket carries as `bearer.TOKEN`.

    A page cannot set headers on a WebSocket; the protocols it offers are all it has.
    """
    for offered in connection.scope.get("subprotocols", ()):
        if offered.startswith(_BEARER):
            return f"Bearer {offered.removeprefix(_BEARER)}"
    return None


def _offered(socket: WebSocket) -> str | None:
    """Return the protocol to answer with, where the client offered it."""
    return PROTOCOL if PROTOCOL in socket.scope.get("subprotocols", ()) else None


def _is_json(endpoint: Endpoint, request: Request) -> bool:
    if endpoint.body is None:
        return True
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json"


def _http_status(error: ContinuonError) -> int:
    if isinstance(error, TrustError):
        return 403
    if error.code == "E-ROBOT-API-004":
        return 400
    return 503 if isinstance(error, HardwareError) else 409


def _state(state: ModeState) -> dict[str, Any]:
    return {
        "mode": state.mode.value,
        "executing": state.executing,
        "motion": state.motion.value,
    }


def _encode(body: Any) -> bytes:
    return msgspec.json.encode(body)


def _json(body: Any, status: int = 200) -> Response:
    return Response(_encode(body), status, media_type="application/json")


def _refusal(code: str, what: str, status: int) -> Response:
    return _json({"code": code, "what": what}, status)
