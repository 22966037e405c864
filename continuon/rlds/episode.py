"""What an episode says of itself: origin, people's roles, streams and how it ended."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

import attrs
import msgspec

from continuon.errors import ContractError, DataError

__all__ = [
    "ACTION",
    "CAR_FRAME",
    "DEPTH",
    "HOST_CLOCKS",
    "RGB",
    "SCHEMA_VERSION",
    "SCHEMA_VERSIONS",
    "STATE",
    "ActionSource",
    "Codec",
    "ControlRole",
    "EndReason",
    "EpisodeMetadata",
    "Origin",
    "Share",
    "StreamSpec",
    "XrMode",
    "metadata_from_json",
    "metadata_to_json",
    "role_problem",
    "streams_from_json",
    "streams_to_json",
]

SCHEMA_VERSION = "1.1"
SCHEMA_VERSIONS = ("1.0", "1.1")
RGB, DEPTH, STATE, ACTION = "rgb", "depth", "state", "action"
CAR_FRAME = "car: steering +1 is full right, throttle +1 full forward"
HOST_CLOCKS = frozenset({"host", "host-monotonic", "monotonic", "boottime", "wall"})
"""Names of clocks that need no measured offset: they are the recorder's own."""

_E = TypeVar("_E", bound=StrEnum)
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_RESERVED = frozenset({"clock_offset"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_/.-]{0,63}")


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
    """How one sample of a stream is stored; `png` is 8-bit colour without loss."""

    JPEG = "jpeg"
    PNG = "png"
    PNG16 = "png16"
    VECTOR = "vector"


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


@attrs.frozen(kw_only=True)
class Share:
    """What the owner allows. Nothing is public unless this says so."""

    public: bool = False
    pii_attested: bool = False
    pii_cleared: bool = False
    pending_review: bool = True
    license: str | None = None


def _is_id(_: object, field: attrs.Attribute[str], value: str) -> None:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ContractError(
            "E-RLDS-META-001",
            f"{field.name} is not a legal identifier",
            where=field.name,
            seen=value,
            allowed="1 to 128 of A-Z a-z 0-9 . _ -, not starting with . or -",
        )


def _is_version(_: object, __: attrs.Attribute[str], value: str) -> None:
    if value not in SCHEMA_VERSIONS:
        raise ContractError(
            "E-RLDS-META-002",
            "unknown episode schema version",
            where="schema_version",
            seen=value,
            allowed=", ".join(SCHEMA_VERSIONS),
        )


def _member(kind: type[_E], value: object) -> _E:
    for member in kind:
        if member.value == value:
            return member
    raise ContractError(
        "E-RLDS-META-003",
        f"{kind.__name__} has no such value",
        seen=value,
        allowed=", ".join(member.value for member in kind),
    )


def _origin(value: Origin | str) -> Origin:
    return _member(Origin, value)


def _xr_mode(value: XrMode | str) -> XrMode:
    return _member(XrMode, value)


def _control_role(value: ControlRole | str) -> ControlRole:
    return _member(ControlRole, value)


def _action_source(value: ActionSource | str) -> ActionSource:
    return _member(ActionSource, value)


def _strings(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _table(values: Mapping[str, str]) -> dict[str, str]:
    return dict(values)


def _is_rate(_: object, field: attrs.Attribute[float], value: float | None) -> None:
    if value is not None and not 0.0 < value < 1e5:
        raise ContractError(
            "E-RLDS-META-004",
            f"{field.name} is not a rate",
            where=field.name,
            seen=value,
            allowed="above 0 and below 100000 Hz, or none",
        )


@attrs.frozen(kw_only=True)
class EpisodeMetadata:
    """Facts that hold for a whole episode.

    Attributes:
        origin: see `Origin`; never guessed, never dropped.
        task: the language instruction, "" where there was none.
        software: name to version of what wrote the episode.
        start_wall_ns: Unix time of the start in ns, 0 where unknown.
        control_rate_hz: nominal rate of the control loop; readers measure their own.
        camera_rate_hz: nominal rate of the camera; None where the source did not say.
        provenance: where an imported or derived episode came from, as named facts.
    """

    schema_version: str = attrs.field(default=SCHEMA_VERSION, validator=_is_version)
    episode_id: str = attrs.field(validator=_is_id)
    origin: Origin = attrs.field(converter=_origin)
    xr_mode: XrMode = attrs.field(converter=_xr_mode)
    control_role: ControlRole = attrs.field(converter=_control_role)
    action_source: ActionSource = attrs.field(converter=_action_source)
    environment_id: str
    robot_id: str
    robot_model: str
    frame_convention: str
    task: str = ""
    tags: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    software: Mapping[str, str] = attrs.field(factory=dict, converter=_table)
    start_wall_ns: int = 0
    control_rate_hz: float | None = attrs.field(default=None, validator=_is_rate)
    camera_rate_hz: float | None = attrs.field(default=None, validator=_is_rate)
    provenance: Mapping[str, str] = attrs.field(factory=dict, converter=_table)
    capabilities: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    owner: str | None = None
    share: Share = attrs.field(factory=Share)


@attrs.frozen(kw_only=True)
class StreamSpec:
    """One stream of samples that share a codec and a clock.

    Attributes:
        name: "rgb", "depth", "state", "action" or another short name.
        names: components of a vector stream, units in the names; () for images.
        clock: the device clock that `device_ns` counts in; a host's needs no offset.
        rate_hz: nominal rate, None where the source did not say.
        width, height: of images in pixels, 0 for vectors or where not known.
        depth_unit_m: metres per count of a depth image.
    """

    name: str
    codec: Codec = attrs.field(converter=Codec)
    names: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    clock: str = "host"
    rate_hz: float | None = None
    width: int = 0
    height: int = 0
    depth_unit_m: float = 0.001

    def __attrs_post_init__(self) -> None:
        """Refuse a name, a shape or component names that no stream may have."""
        if not _NAME.fullmatch(self.name) or self.name in _RESERVED:
            raise ContractError(
                "E-RLDS-STREAM-001",
                "illegal stream name",
                seen=self.name,
                allowed="a letter, then up to 63 of A-Z a-z 0-9 _ / . -",
            )
        is_vector = self.codec is Codec.VECTOR
        if is_vector != bool(self.names) or len(set(self.names)) != len(self.names):
            raise ContractError(
                "E-RLDS-STREAM-002",
                "component names do not fit the codec",
                where=self.name,
                seen=self.names,
                allowed="one unique name a component for a vector; none for images",
            )
        if not is_vector and min(self.width, self.height) < 0:
            raise ContractError(
                "E-RLDS-STREAM-003",
                "an image stream's size is not negative",
                where=self.name,
                seen=(self.width, self.height),
            )

    @property
    def is_image(self) -> bool:
        """True for streams of encoded pictures."""
        return self.codec is not Codec.VECTOR


def metadata_to_json(metadata: EpisodeMetadata) -> bytes:
    """Return the metadata as JSON with sorted keys, so that equal values are equal."""
    return msgspec.json.encode(metadata, order="sorted")


def metadata_from_json(data: bytes, *, where: object = None) -> EpisodeMetadata:
    """Parse metadata, unknown fields ignored.

    Raises:
        DataError: not JSON, a field is missing, mistyped or outside its enum.
    """
    try:
        return msgspec.json.decode(data, type=EpisodeMetadata)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "E-RLDS-META-005",
            f"episode metadata does not fit the schema: {error}",
            where=where,
            hint="continuon episodes validate --lenient shows what can be read",
        ) from error


def streams_to_json(streams: tuple[StreamSpec, ...]) -> bytes:
    """Return the stream table as JSON."""
    return msgspec.json.encode(streams, order="sorted")


def streams_from_json(data: bytes, *, where: object = None) -> tuple[StreamSpec, ...]:
    """Parse a stream table.

    Raises:
        DataError: not JSON or not a stream table.
    """
    try:
        return msgspec.json.decode(data, type=tuple[StreamSpec, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "E-RLDS-STREAM-004",
            f"stream table does not fit the schema: {error}",
            where=where,
        ) from error
