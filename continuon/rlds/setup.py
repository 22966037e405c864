"""Whether two recordings are of one setup: the same robot, roles, rates and streams."""

from __future__ import annotations

from pathlib import Path

from continuon.errors import DataError
from continuon.rlds.layout import Opening
from continuon.rlds.recording import Recording

__all__ = ["check_same_setup", "opening_differences", "setup_differences"]

_SETUP = (
    "origin",
    "xr_mode",
    "control_role",
    "action_source",
    "robot_id",
    "robot_model",
    "frame_convention",
    "control_rate_hz",
    "camera_rate_hz",
)


def opening_differences(one: Opening, other: Opening) -> list[str]:
    """Return the names of what differs between two setups."""
    pair = (one.metadata, other.metadata)
    differ = [n for n in _SETUP if getattr(pair[0], n) != getattr(pair[1], n)]
    return [*differ, "streams"] if one.streams != other.streams else differ


def setup_differences(one: Recording, other: Recording) -> list[str]:
    """Return the names of what differs between the setups of two recordings."""
    return opening_differences(_opening(one), _opening(other))


def _opening(recording: Recording) -> Opening:
    specs = tuple(stream.spec for stream in recording.streams.values())
    return Opening(recording.metadata, specs)


def check_same_setup(begun: Opening, wanted: Opening, *, where: Path) -> None:
    """Refuse to go on with a session, begun `where`, whose setup has changed.

    Raises:
        DataError: names what differs.
    """
    differ = opening_differences(begun, wanted)
    if differ:
        raise DataError(
            "E-RLDS-SETUP-001",
            "this session was begun with another setup, and is not gone on with",
            where=where,
            seen=", ".join(differ),
            allowed=f"the setup of {begun.metadata.episode_id}",
            hint="record into another folder, or restore the setup",
        )
