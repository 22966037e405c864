"""The bodies of the API's requests: what does not fit one is refused whole."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from continuon.errors import ContractError
from continuon.instruction import MAX_INSTRUCTION
from continuon.rlds.episode import ActionSource, ControlRole, XrMode
from continuon.robot import modes
from continuon.robot.recordings import CLIENTS, MAX_DURATION_S

__all__ = [
    "MAX_BODY_BYTES",
    "EpisodeBody",
    "EpisodeEndBody",
    "InstructionBody",
    "ModeBody",
    "NoBody",
    "PairBody",
    "PairingBody",
    "RevokeBody",
    "RollbackBody",
    "StopBody",
    "TeleopFrame",
    "decode",
    "read_body",
    "unfit",
]

MAX_BODY_BYTES = 4096
T = TypeVar("T")
Outcome = Literal["complete", "stopped"]
_Reason = Annotated[str, msgspec.Meta(max_length=200)]


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request's body; what it does not name is refused."""


class ModeBody(_Body, frozen=True):
    """Another mode, START or STOP."""

    request: modes.Request
    reason: _Reason = ""


class StopBody(_Body, frozen=True):
    """An emergency stop."""

    reason: _Reason = ""


class PairBody(_Body, frozen=True):
    """A pairing code, and the client's name."""

    code: Annotated[str, msgspec.Meta(pattern="^[0-9]{6}$")]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


_Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class PairingBody(_Body, frozen=True):
    """A pairing to open."""

    role: Literal["viewer", "operator", "owner"] = "operator"


class RevokeBody(_Body, frozen=True):
    """A client to turn away, by the id in the list of clients."""

    client: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{12}$")]


class EpisodeBody(_Body, frozen=True):
    """An episode to begin."""

    task: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    tags: Annotated[tuple[_Tag, ...], msgspec.Meta(max_length=16)] = ()
    source: ActionSource | None = None
    xr_mode: XrMode | None = None
    control_role: ControlRole | None = None
    client: Annotated[str, msgspec.Meta(pattern="^(" + "|".join(CLIENTS) + ")$")] = (
        "cockpit"
    )
    max_duration_s: Annotated[float, msgspec.Meta(gt=0, le=MAX_DURATION_S)] = (
        MAX_DURATION_S
    )


class EpisodeEndBody(_Body, frozen=True):
    """How an episode ended, as a person saw it."""

    outcome: Outcome = "complete"


class RollbackBody(_Body, frozen=True):
    """Why a person goes back to the bundle before."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class InstructionBody(_Body, frozen=True):
    """What the robot is told to do; "" is nothing."""

    text: Annotated[str, msgspec.Meta(max_length=MAX_INSTRUCTION)]


class NoBody(_Body, frozen=True):
    """A request that says everything by its path."""


class TeleopFrame(_Body, frozen=True):
    """One command of a person's."""

    action: Annotated[tuple[float, ...], msgspec.Meta(max_length=64)]
    source: ActionSource


async def read_body(request: Request, kind: type[T]) -> T:
    """Return a request's body.

    Raises:
        ContractError: E-ROBOT-API-004, it is too long or does not fit.
    """
    data = b""
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > MAX_BODY_BYTES:
                raise unfit("the body is too long")
    except ClientDisconnect:
        raise unfit("the body never came whole") from None
    return decode(data, kind)


def decode(data: bytes, kind: type[T]) -> T:
    """Return JSON as a body.

    Raises:
        ContractError: E-ROBOT-API-004, it does not fit.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise unfit(str(error)) from error


def unfit(what: str) -> ContractError:
    """Return the error of a request that does not fit."""
    return ContractError(
        "E-ROBOT-API-004",
        f"the request does not fit: {what}",
        hint="see /openapi.json",
    )
