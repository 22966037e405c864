"""The words of the contract: origins, modes, roles, sources, codecs, endings."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias, TypeVar

import msgspec

from continuon.errors import ContractError

__all__ = [
    "ActionSource",
    "Codec",
    "ControlRole",
    "EndReason",
    "Int64",
    "Origin",
    "XrMode",
    "member",
    "role_problem",
]

_E = TypeVar("_E", bound=StrEnum)

Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What every time and count is: JSON has larger ones, columns and files have not."""


class Origin(StrEnum):
    """Where the data came from; stands in every file made from it, for ever."""

    REAL = "real"
    IMPORTED = "imported"
    SIMULATED = "simulated"
    SYNTHETIC = "synthetic"
    REPLAYED = "replayed"


class XrMode(StrEnum):
    """Which of the plan's modes the person was in."""

    TRAINER = "trainer"
    WORKSTATION = "workstation"
    OBSERVER = "observer"


class ControlRole(StrEnum):
    """What the person was to the robot."""

    HUMAN_TELEOP = "human_teleop"
    HUMAN_SUPERVISOR = "human_supervisor"
    HUMAN_DEV_XR = "human_dev_xr"


class ActionSource(StrEnum):
    """Whose commands the action stream holds."""

    HUMAN_TELEOP_XR = "human_teleop_xr"
    HUMAN_DEV_XR = "human_dev_xr"
    HUMAN_SUPERVISOR = "human_supervisor"
    VLA_POLICY = "vla_policy"


class Codec(StrEnum):
    """How one sample of a stream is stored.

    `png` is 8-bit colour without loss, `png16` and `depth-lz4` depth, `audio` 16-bit
    samples of one channel, a document one JSON object, a blob anything.
    """

    JPEG = "jpeg"
    PNG = "png"
    PNG16 = "png16"
    DEPTH_LZ4 = "depth-lz4"
    AUDIO = "audio"
    VECTOR = "vector"
    DOCUMENT = "document"
    BLOB = "blob"

    @property
    def is_depth(self) -> bool:
        """True for pictures of uint16 [height, width]."""
        return self in {Codec.PNG16, Codec.DEPTH_LZ4}


class EndReason(StrEnum):
    """Why an episode ended. Only `complete` is a terminal state in RLDS's sense."""

    COMPLETE = "complete"
    TIME_LIMIT = "time_limit"
    STOPPED = "stopped"
    SLICE = "slice"
    CAMERA_LOST = "camera_lost"
    DISK_FULL = "disk_full"
    EMERGENCY_STOP = "emergency_stop"
    FAULT = "fault"
    TRUNCATED = "truncated"

    @property
    def is_terminal(self) -> bool:
        """True where the last step is a terminal state, not just the end of a file."""
        return self is EndReason.COMPLETE


_HUMAN_SOURCES = {
    (XrMode.TRAINER, ControlRole.HUMAN_TELEOP): ActionSource.HUMAN_TELEOP_XR,
    (XrMode.WORKSTATION, ControlRole.HUMAN_DEV_XR): ActionSource.HUMAN_DEV_XR,
    (XrMode.OBSERVER, ControlRole.HUMAN_SUPERVISOR): ActionSource.HUMAN_SUPERVISOR,
}


def role_problem(mode: XrMode, role: ControlRole, source: ActionSource) -> str | None:
    """Return what is wrong with a mode, role and source together, None if nothing.

    A person acts as trainer/human_teleop, workstation/human_dev_xr or
    observer/human_supervisor, each with the source of the same name. A policy may act
    in any mode, but only under a human supervisor.
    """
    if source is ActionSource.VLA_POLICY:
        if role is ControlRole.HUMAN_SUPERVISOR:
            return None
        return f"{source} acts under control role human_supervisor, not {role}"
    expected = _HUMAN_SOURCES.get((mode, role))
    if expected is None:
        return f"mode {mode} does not go with control role {role}"
    if source is not expected:
        return f"mode {mode} and role {role} record {expected}, not {source}"
    return None


def member(kind: type[_E], value: object) -> _E:
    """Return the enum's member of this value.

    Raises:
        ContractError: it has none; the allowed ones are named.
    """
    for one in kind:
        if one.value == value:
            return one
    raise ContractError(
        "E-RLDS-META-003",
        f"{kind.__name__} has no such value",
        seen=value,
        allowed=", ".join(one.value for one in kind),
    )
