"""The grant office on the web: a small ASGI application for robots and owners' apps.

    POST /v1/robots                      a robot's own enrolment -> its name
    POST /v1/grants                      a robot's signed request -> a signed grant
    POST /v1/robots/ID/claim             {"code"} by the owner who stands beside it
    POST /v1/robots/ID/transfer          {"to"} by its owner
    GET  /v1/robots/ID                   by its owner
    GET  /v1/rollouts/BUNDLE             by anybody

Owners come with `Authorization: Bearer TOKEN`, of which the office keeps a digest.
Nothing else authenticates anybody. An address may ask 30 times at once and then every
two seconds; a body has 64 KiB and ten seconds to arrive.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from continuon.bundle.canonical import parse_strict
from continuon.clock import Clock
from continuon.errors import (
    BudgetError,
    ContinuonError,
    MissingPackageError,
    UsageError,
)
from continuon.ota.office import GrantOffice
from continuon.ota.requests import MAX_REQUEST_BYTES
from continuon.ota.throttle import Throttle, network_of

__all__ = ["grant_app"]

BODY_TIMEOUT_S = 10.0
_STATUS = {"trust": 403, "contract": 400, "data": 400, "usage": 400, "budget": 429}


def grant_app(office: GrantOffice, *, throttle: Throttle | None = None) -> Any:
    """Return the ASGI application of an office; `throttle` bounds each address."""
    bucket = throttle or Throttle()
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
                _count(bucket, request, office.clock)
                return await handler(request)
            except ContinuonError as error:
                missing = error.code.endswith("-404")
                status = 404 if missing else _STATUS.get(error.family, 500)
                later = {"Retry-After": "60"} if status == 429 else None
                return JSONResponse(error.as_dict(), status_code=status, headers=later)

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


def _count(bucket: Throttle, request: Any, clock: Clock) -> None:
    who = network_of(request.client.host if request.client else "")
    wait_s = bucket.take(who, clock.monotonic_ns())
    if wait_s > 0:
        raise BudgetError(
            "E-OTA-OFFICE-012",
            "this address asks too often",
            hint=f"try again in {wait_s:.0f} s",
            exit_code=1,
        )


async def _body(request: Any) -> bytes:
    import anyio

    data = bytearray()
    try:
        with anyio.fail_after(BODY_TIMEOUT_S):
            async for part in request.stream():
                data += part
                if len(data) > MAX_REQUEST_BYTES:
                    raise UsageError(
                        "E-OTA-OFFICE-009",
                        "the request is too large",
                        allowed=f"{MAX_REQUEST_BYTES} bytes",
                    )
    except TimeoutError as error:
        raise UsageError(
            "E-OTA-OFFICE-009",
            "the request takes too long to arrive",
            allowed=f"{BODY_TIMEOUT_S:g} s",
        ) from error
    return bytes(data)


def _text(data: bytes, name: str) -> str:
    value = parse_strict(data, where="request", max_bytes=MAX_REQUEST_BYTES)
    text = value.get(name) if isinstance(value, dict) else None
    if not isinstance(text, str) or not 0 < len(text) <= 128:
        raise UsageError(
            "E-OTA-OFFICE-010", f"the request needs {name}", allowed="short text"
        )
    return text
