"""What an episode says of itself: origin, people's roles, consent and setting."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import attrs
import msgspec

from continuon.errors import ContractError, DataError
from continuon.rlds.sharing import ContentRating, Safety, Share
from continuon.rlds.stream_spec import (
    ACTION,
    AUDIO,
    DEPTH,
    HOST_CLOCKS,
    NOMINAL_CLOCK,
    RGB,
    STATE,
    StreamSpec,
    streams_from_json,
    streams_to_json,
)
from continuon.rlds.vocabulary import (
    ActionSource,
    Codec,
    ControlRole,
    EndReason,
    Int64,
    Origin,
    XrMode,
    member,
    role_problem,
)

__all__ = [
    "ACTION",
    "AUDIO",
    "CAR_FRAME",
    "DEPTH",
    "HOST_CLOCKS",
    "NOMINAL_CLOCK",
    "RGB",
    "SCHEMA_VERSION",
    "SCHEMA_VERSIONS",
    "STATE",
    "ActionSource",
    "Codec",
    "ContentRating",
    "ControlRole",
    "EndReason",
    "EpisodeMetadata",
    "Origin",
    "Safety",
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
CAR_FRAME = "car: steering +1 is full right, throttle +1 full forward"

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


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


def _origin(value: Origin | str) -> Origin:
    return member(Origin, value)


def _xr_mode(value: XrMode | str) -> XrMode:
    return member(XrMode, value)


def _control_role(value: ControlRole | str) -> ControlRole:
    return member(ControlRole, value)


def _action_source(value: ActionSource | str) -> ActionSource:
    return member(ActionSource, value)


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
        duration_ns: from the first sample to the last; None where only they say it.
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
    start_wall_ns: Int64 = 0
    control_rate_hz: float | None = attrs.field(default=None, validator=_is_rate)
    camera_rate_hz: float | None = attrs.field(default=None, validator=_is_rate)
    provenance: Mapping[str, str] = attrs.field(factory=dict, converter=_table)
    capabilities: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    owner: str | None = None
    duration_ns: Int64 | None = None
    safety: Safety = attrs.field(factory=Safety)
    share: Share = attrs.field(factory=Share)


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
            hint="continuon episodes validate --profile lenient shows what can be read",
        ) from error
