"""What the API offers, as one table: routes and the OpenAPI document come from it."""

from __future__ import annotations

import re
from typing import Any

import attrs

import continuon
from continuon.instruction import MAX_INSTRUCTION
from continuon.rlds.episode import ActionSource, ControlRole, XrMode
from continuon.robot.access import Role
from continuon.robot.modes import Mode, Request
from continuon.robot.recordings import CLIENTS, MAX_DURATION_S

__all__ = ["ENDPOINTS", "Endpoint", "openapi_document"]

_TEXT = {"type": "string", "maxLength": 200}
_ERROR = {
    "type": "object",
    "required": ["code", "what"],
    "properties": {"code": {"type": "string"}, "what": {"type": "string"}},
}


@attrs.frozen(kw_only=True)
class Endpoint:
    """One way to ask.

    Attributes:
        name: the handler's name in `api`.
        role: the least role that is answered.
        body: JSON schema of the request, None where it has none.
        query: JSON schema by query parameter.
        answers: description by HTTP status.
    """

    path: str
    method: str
    name: str
    role: Role
    summary: str
    body: dict[str, Any] | None = None
    content_type: str = "application/json"
    query: dict[str, Any] = attrs.field(factory=dict)
    answers: dict[str, str] = attrs.field(factory=dict)


ENDPOINTS = (
    Endpoint(
        path="/livez",
        method="GET",
        name="livez",
        role=Role.NOBODY,
        summary="The service answers.",
    ),
    Endpoint(
        path="/readyz",
        method="GET",
        name="readyz",
        role=Role.NOBODY,
        summary="Every part of the robot is well.",
        answers={"503": "a part is not well; the answer says which"},
    ),
    Endpoint(
        path="/openapi.json",
        method="GET",
        name="openapi",
        role=Role.NOBODY,
        summary="This document.",
    ),
    Endpoint(
        path="/pair",
        method="POST",
        name="pair",
        role=Role.NOBODY,
        summary="Exchange the code that the robot shows for a token.",
        body={
            "type": "object",
            "required": ["code", "name"],
            "additionalProperties": False,
            "properties": {
                "code": {"type": "string", "pattern": "^[0-9]{6}$"},
                "name": {"type": "string", "minLength": 1, "maxLength": 64},
            },
        },
        answers={"403": "wrong code, or no pairing is under way"},
    ),
    Endpoint(
        path="/pairing",
        method="POST",
        name="open_pairing",
        role=Role.OWNER,
        summary="Show a code that pairs one more client; an older code is void.",
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {"role": {"enum": ["viewer", "operator", "owner"]}},
        },
    ),
    Endpoint(
        path="/clients",
        method="GET",
        name="clients",
        role=Role.OWNER,
        summary="Who is paired, with which role and since when.",
    ),
    Endpoint(
        path="/clients/revoke",
        method="POST",
        name="revoke",
        role=Role.OWNER,
        summary="Turn a client away: its token and its open sockets end at once. "
        "With the last one the robot is unpaired and leaves the network.",
        body={
            "type": "object",
            "required": ["client"],
            "additionalProperties": False,
            "properties": {"client": {"type": "string", "pattern": "^[0-9a-f]{12}$"}},
        },
        answers={"409": "there is no such client"},
    ),
    Endpoint(
        path="/whoami",
        method="GET",
        name="whoami",
        role=Role.NOBODY,
        summary="Who asks, what they may, and whether anybody is paired.",
    ),
    Endpoint(
        path="/status",
        method="GET",
        name="status",
        role=Role.VIEWER,
        summary="Mode, processes, timing and the policy, as measured.",
    ),
    Endpoint(
        path="/metrics",
        method="GET",
        name="metrics",
        role=Role.VIEWER,
        summary="The same figures for Prometheus.",
        content_type="text/plain",
    ),
    Endpoint(
        path="/episodes",
        method="GET",
        name="episodes",
        role=Role.VIEWER,
        summary="Recordings on this robot with their verdicts, and the one under way.",
    ),
    Endpoint(
        path="/episodes",
        method="POST",
        name="begin_episode",
        role=Role.OPERATOR,
        summary="Record what the robot does from now on, with a task and tags.",
        body={
            "type": "object",
            "required": ["task"],
            "additionalProperties": False,
            "properties": {
                "task": {"type": "string", "minLength": 1, "maxLength": 200},
                "tags": {
                    "type": "array",
                    "maxItems": 16,
                    "items": {"type": "string", "minLength": 1, "maxLength": 64},
                },
                "source": {"enum": [source.value for source in ActionSource]},
                "xr_mode": {"enum": [mode.value for mode in XrMode]},
                "control_role": {"enum": [role.value for role in ControlRole]},
                "client": {"enum": list(CLIENTS)},
                "max_duration_s": {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "maximum": MAX_DURATION_S,
                },
            },
        },
        answers={"409": "nothing can be recorded now", "503": "no camera, or no disk"},
    ),
    Endpoint(
        path="/episodes/end",
        method="POST",
        name="end_episode",
        role=Role.OPERATOR,
        summary="End the recording under way; the robot goes on.",
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {"outcome": {"enum": ["complete", "stopped"]}},
        },
        answers={"409": "nothing is being recorded"},
    ),
    Endpoint(
        path="/episodes/{episode_id}/validate",
        method="POST",
        name="judge_episode",
        role=Role.OPERATOR,
        summary="Validate a recording; its verdict stands in the list soon after.",
        body={"type": "object", "additionalProperties": False},
        answers={"409": "there is no such recording"},
    ),
    Endpoint(
        path="/health",
        method="GET",
        name="health",
        role=Role.VIEWER,
        summary="The checks that can be made while the robot runs.",
    ),
    Endpoint(
        path="/camera.jpg",
        method="GET",
        name="camera",
        role=Role.VIEWER,
        summary="The newest camera frame; with `after`, one newer than that number.",
        content_type="image/jpeg",
        query={"after": {"type": "integer"}},
        answers={"400": "after is no number", "503": "the camera shows nothing new"},
    ),
    Endpoint(
        path="/ota",
        method="GET",
        name="ota",
        role=Role.VIEWER,
        summary="Which bundle runs, which ones are kept, and what failed.",
    ),
    Endpoint(
        path="/ota/rollback",
        method="POST",
        name="roll_back",
        role=Role.OWNER,
        summary="Return to the bundle before, on disk and in the running loop.",
        body={
            "type": "object",
            "required": ["reason"],
            "additionalProperties": False,
            "properties": {"reason": _TEXT | {"minLength": 1}},
        },
        answers={"409": "there is nothing to go back to"},
    ),
    Endpoint(
        path="/adapter/use",
        method="POST",
        name="take_adapter",
        role=Role.OWNER,
        summary="Drive with the adapter in use, or with the bundle alone.",
        body={"type": "object", "additionalProperties": False},
        answers={"409": "it does not fit the bundle that runs"},
    ),
    Endpoint(
        path="/mode",
        method="GET",
        name="mode",
        role=Role.VIEWER,
        summary="The mode, and whether it is executing.",
    ),
    Endpoint(
        path="/mode",
        method="POST",
        name="change_mode",
        role=Role.OPERATOR,
        summary="Ask for another mode, or for START or STOP.",
        body={
            "type": "object",
            "required": ["request"],
            "additionalProperties": False,
            "properties": {
                "request": {
                    "enum": [r.value for r in Request if r is not Request.FAULT]
                },
                "reason": _TEXT,
            },
        },
        answers={"403": "this role may not", "409": "refused in this mode"},
    ),
    Endpoint(
        path="/instruction",
        method="POST",
        name="instruct",
        role=Role.OPERATOR,
        summary="Tell the robot what to do from the next tick on; an empty text is "
        "nothing. An episode of the policy under way ends, and another begins.",
        body={
            "type": "object",
            "required": ["text"],
            "additionalProperties": False,
            "properties": {"text": {"type": "string", "maxLength": MAX_INSTRUCTION}},
        },
        answers={"409": "the episode under way does not end", "503": "no loop runs"},
    ),
    Endpoint(
        path="/estop",
        method="POST",
        name="estop",
        role=Role.VIEWER,
        summary="Stop now, and stay stopped until a person clears it.",
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {"reason": _TEXT},
        },
    ),
)


def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of every endpoint."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(
            endpoint
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Continuon robot", "version": continuon.__version__},
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Error": _ERROR,
                "Mode": {"enum": [mode.value for mode in Mode]},
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    refusal = {
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Error"}}
        }
    }
    answers: dict[str, Any] = {
        "200": {"description": "done", "content": {endpoint.content_type: {}}}
    }
    reasons = dict(endpoint.answers)
    if endpoint.role is not Role.NOBODY:
        reasons |= {"401": "who asks is not known"}
        reasons.setdefault("403", "this role may not")
    if endpoint.body is not None:
        reasons |= {"400": "the body does not fit", "415": "the body is not JSON"}
    for status, text in sorted(reasons.items()):
        answers[status] = {"description": text, **refusal}
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "responses": answers,
    }
    parameters: list[dict[str, Any]] = [
        {"name": n, "in": "path", "required": True, "schema": {"type": "string"}}
        for n in re.findall(r"{(\w+)}", endpoint.path)
    ]
    parameters += [
        {"name": n, "in": "query", "schema": s} for n, s in endpoint.query.items()
    ]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.role is not Role.NOBODY:
        operation["security"] = [{"bearer": []}]
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": endpoint.body}},
        }
    return operation
