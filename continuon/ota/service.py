"""The grant office on the web: a small ASGI application for robots and owners' apps.

    POST /v1/robots                      a robot's own enrolment -> its name
    POST /v1/grants                      a robot's signed request -> a signed grant
    POST /v1/robots/ID/claim             {"code"} by the owner who stands beside it
    POST /v1/robots/ID/transfer          {"to"} by its owner
    GET  /v1/robots/ID                   by its owner
    GET  /v1/rollouts/BUNDLE             by anybody

Owners come with `Authorization: Bearer TOKEN`, of which the office keeps a digest.
Nothing else authenticates anybody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from continuon.bundle.canonical import parse_strict
from continuon.errors import ContinuonError, MissingPackageError, UsageError
from continuon.ota.office import GrantOffice
from continuon.ota.requests import MAX_REQUEST_BYTES

__all__ = ["grant_app"]

_STATUS = {"trust": 403, "contract": 400, "data": 400, "usage": 400}


def grant_app(office: GrantOffice) -> Any:
    """Return the ASGI application of an office."""
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import JSONResponse, Response
        from starlette.routing import Route
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "starlette", "pi", purpose="the grant service"
        ) from error

    def answered(
        handler: Callable[[Any], Awaitable[Any]],
    ) -> Callable[[Any], Awaitable[Any]]:
        async def answer(request: Any) -> Any:
            try:
                return await handler(request)
            except ContinuonError as error:
                missing = error.code.endswith("-404")
                status = 404 if missing else _STATUS.get(error.family, 500)
                return JSONResponse(error.as_dict(), status_code=status)

        return answer

    async def owner_of(request: Any) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token if scheme.lower() == "bearer" else ""
        return await run_in_threadpool(office.owner_of, given)

    async def enrol(request: Any) -> Any:
        name = await run_in_threadpool(office.enrol, await _body(request))
        return JSONResponse({"robot_id": name})

    async def grants(request: Any) -> Any:
        data = await _body(request)
        sealed = await run_in_threadpool(office.grant, data)
        return Response(sealed, media_type="application/json")

    async def claim(request: Any) -> Any:
        owner, robot = await owner_of(request), request.path_params["robot"]
        code = _text(await _body(request), "code")
        epoch = await run_in_threadpool(office.claim, robot, code, owner)
        return JSONResponse({"robot_id": robot, "owner_epoch": epoch})

    async def transfer(request: Any) -> Any:
        owner, robot = await owner_of(request), request.path_params["robot"]
        heir = _text(await _body(request), "to")
        epoch = await run_in_threadpool(office.transfer, robot, owner, heir)
        return JSONResponse({"robot_id": robot, "owner_epoch": epoch})

    async def robot(request: Any) -> Any:
        name = request.path_params["robot"]
        owner = await owner_of(request)
        facts = await run_in_threadpool(office.describe, name, owner)
        return JSONResponse(facts)

    async def rollout(request: Any) -> Any:
        bundle = request.path_params["bundle"]
        found = await run_in_threadpool(office.rollout, bundle)
        if found is None:
            raise UsageError("E-OTA-OFFICE-404", "no such rollout", seen=bundle)
        return JSONResponse(attrs.asdict(found))

    return Starlette(
        routes=[
            Route("/v1/robots", answered(enrol), methods=["POST"]),
            Route("/v1/grants", answered(grants), methods=["POST"]),
            Route("/v1/robots/{robot}/claim", answered(claim), methods=["POST"]),
            Route("/v1/robots/{robot}/transfer", answered(transfer), methods=["POST"]),
            Route("/v1/robots/{robot}", answered(robot)),
            Route("/v1/rollouts/{bundle}", answered(rollout)),
        ]
    )


async def _body(request: Any) -> bytes:
    parts: list[bytes] = []
    async for part in request.stream():
        parts.append(part)
        if sum(map(len, parts)) > MAX_REQUEST_BYTES:
            raise UsageError(
                "E-OTA-OFFICE-009",
                "the request is too large",
                allowed=f"{MAX_REQUEST_BYTES} bytes",
            )
    return b"".join(parts)


def _text(data: bytes, name: str) -> str:
    value = parse_strict(data, where="request", max_bytes=MAX_REQUEST_BYTES)
    text = value.get(name) if isinstance(value, dict) else None
    if not isinstance(text, str) or not 0 < len(text) <= 128:
        raise UsageError(
            "E-OTA-OFFICE-010", f"the request needs {name}", allowed="short text"
        )
    return text
