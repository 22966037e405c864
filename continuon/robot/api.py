"""The robot's API as a Starlette application over a supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from continuon.clock import Clock, SystemClock
from continuon.errors import ContinuonError, ContractError, HardwareError, TrustError
from continuon.rlds.episode import EndReason
from continuon.robot import modes
from continuon.robot.access import (
    Access,
    Role,
    decide_access,
    names_this_host,
)
from continuon.robot.api_bodies import (
    EpisodeBody,
    EpisodeEndBody,
    InstructionBody,
    ModeBody,
    NoBody,
    RollbackBody,
    StopBody,
    read_body,
    unfit,
)
from continuon.robot.api_clients import ClientsApi, answer_json
from continuon.robot.api_cockpit import cockpit_routes
from continuon.robot.api_robot import Robot
from continuon.robot.api_teleop import TeleopApi
from continuon.robot.endpoints import ENDPOINTS, Endpoint, openapi_document
from continuon.robot.metrics import CONTENT_TYPE, metrics_text
from continuon.robot.modes import Actor, ModeState
from continuon.robot.recordings import Wish
from continuon.robot.token_store import TokenStore
from continuon.robot.wheel import Wheel

__all__ = ["Api", "Robot"]

_BEARER = "bearer."
_FRAME_LOOKS = 100
_FRAME_LOOK_S = 0.01
_STOP_BODY_S = 0.1


class Api(ClientsApi, TeleopApi):
    """Handlers, one for each endpoint of the table.

    Args:
        robot: what is asked.
        tokens: who is paired.
        own_names: names and addresses, beside loopback, that this robot is reached by;
            the attribute is replaced when they change.
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
        self._wheel = Wheel()
        self.own_names = tuple(own_names)

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
        return answer_json({"live": True})

    async def readyz(self, _request: Request, _access: Access) -> Response:
        """Say whether every part is well."""
        readiness = await asyncio.to_thread(self._robot.readiness)
        body = {
            "ready": readiness.ready,
            "parts": readiness.parts,
            "gates": msgspec.to_builtins(readiness.gates),
        }
        return answer_json(body, 200 if readiness.ready else 503)

    async def openapi(self, _request: Request, _access: Access) -> Response:
        """Describe the API."""
        return answer_json(openapi_document())

    async def status(self, _request: Request, _access: Access) -> Response:
        """Return everything that is known."""
        return answer_json(await asyncio.to_thread(self._robot.status))

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
        return answer_json({"episodes": shelf, "recording": now})

    async def begin_episode(self, request: Request, _access: Access) -> Response:
        """Begin to record what the robot does now."""
        body = await read_body(request, EpisodeBody)
        wish = Wish(**msgspec.structs.asdict(body))
        return answer_json(await asyncio.to_thread(self._robot.begin_episode, wish))

    async def end_episode(self, request: Request, _access: Access) -> Response:
        """End the recording under way; the robot goes on."""
        body = await read_body(request, EpisodeEndBody)
        reason = EndReason(body.outcome)
        return answer_json(await asyncio.to_thread(self._robot.end_episode, reason))

    async def judge_episode(self, request: Request, _access: Access) -> Response:
        """Validate a recording; the verdict stands in the list soon after."""
        episode_id = str(request.path_params["episode_id"])
        await asyncio.to_thread(self._robot.recordings.judge, episode_id)
        return answer_json({"episode_id": episode_id, "judging": True})

    async def health(self, _request: Request, _access: Access) -> Response:
        """Return the checks that can be made while the robot runs."""
        return answer_json(await asyncio.to_thread(self._robot.health))

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
        return answer_json(await asyncio.to_thread(self._robot.software_status))

    async def roll_back(self, request: Request, _access: Access) -> Response:
        """Return to the bundle before."""
        body = await read_body(request, RollbackBody)
        return answer_json(await asyncio.to_thread(self._robot.roll_back, body.reason))

    async def take_adapter(self, request: Request, _access: Access) -> Response:
        """Drive with the adapter in use."""
        await read_body(request, NoBody)
        return answer_json(await asyncio.to_thread(self._robot.take_adapter))

    async def instruct(self, request: Request, _access: Access) -> Response:
        """Tell the robot what to do."""
        body = await read_body(request, InstructionBody)
        return answer_json(await asyncio.to_thread(self._robot.instruct, body.text))

    async def mode(self, _request: Request, _access: Access) -> Response:
        """Return the mode."""
        return answer_json(_state(self._robot.keeper.state))

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
        return answer_json(_state(state))

    async def estop(self, request: Request, _access: Access) -> Response:
        """Stop now; a body that cannot be read, or is slow, keeps it from nothing.

        The permission goes first, from here: a thread for the rest may come late where
        every thread answers somebody.
        """
        self._robot.guard.forbid(e_stop=True)
        try:
            async with asyncio.timeout(_STOP_BODY_S):
                reason = (await read_body(request, StopBody)).reason
        except (ContractError, TimeoutError):
            reason = "no reason given"
        state = await asyncio.to_thread(
            self._robot.request, modes.Request.E_STOP, Actor.PERSON, reason=reason
        )
        return answer_json(_state(state))

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
                return answer_json(error.as_dict(), _http_status(error))
            except OSError as error:
                # A full or failing disk: what was asked for did not happen.
                what = f"this machine could not do it: {error.strerror or error}"
                return _refusal("E-ROBOT-API-006", what, 503)

        return answer

    def _access(self, connection: HTTPConnection) -> Access:
        authorization = connection.headers.get("authorization")
        return decide_access(
            peer=connection.client.host if connection.client else None,
            host_header=connection.headers.get("host"),
            authorization=authorization or _bearer_protocol(connection),
            tokens=self._tokens.tokens,
            own_names=self.own_names,
            local_sha256=self._tokens.local_sha256,
        )

    def _same_origin(self, connection: HTTPConnection) -> bool:
        """Return whether no foreign web page is behind this request."""
        origin = connection.headers.get("origin")
        return origin is None or names_this_host(
            urlsplit(origin).netloc, self.own_names
        )


def _bearer_protocol(connection: HTTPConnection) -> str | None:
    """Return the token that a browser's WebSocket carries as `bearer.TOKEN`.

    A page cannot set headers on a WebSocket; the protocols it offers are all it has.
    """
    for offered in connection.scope.get("subprotocols", ()):
        if offered.startswith(_BEARER):
            return f"Bearer {offered.removeprefix(_BEARER)}"
    return None


def _is_json(endpoint: Endpoint, request: Request) -> bool:
    if endpoint.body is None:
        return True
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json"


def _http_status(error: ContinuonError) -> int:
    if isinstance(error, TrustError):
        return 403
    if error.code == "E-ROBOT-API-004" or error.code.startswith("E-TEXT-"):
        return 400
    return 503 if isinstance(error, HardwareError) else 409


def _state(state: ModeState) -> dict[str, Any]:
    return {
        "mode": state.mode.value,
        "executing": state.executing,
        "motion": state.motion.value,
    }


def _refusal(code: str, what: str, status: int) -> Response:
    return answer_json({"code": code, "what": what}, status)
