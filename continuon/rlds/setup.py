"""Whether two recordings are of one setup: the same robot, roles, rates and streams."""

from __future__ import annotations

from continuon.errors import DataError
from continuon.rlds.recording import Recording

__all__ = ["check_same_setup", "setup_differences"]

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


def setup_differences(one: Recording, other: Recording) -> list[str]:
    """Return the names of what differs between two setups."""
    pair = (one.metadata, other.metadata)
    differ = [n for n in _SETUP if getattr(pair[0], n) != getattr(pair[1], n)]
    specs = [[s.spec for s in recording.streams.values()] for recording in (one, other)]
    return [*differ, "streams"] if specs[0] != specs[1] else differ


def check_same_setup(one: Recording, other: Recording) -> None:
    """Refuse to go on with a session whose setup has changed.

    Raises:
        DataError: names what differs.
    """
    differ = setup_differences(one, other)
    if differ:
        raise DataError(
            "E-RLDS-SETUP-001",
            "this session was begun with another setup, and is not gone on with",
            where=other.path,
            seen=", ".join(differ),
            allowed=f"the setup of {one.metadata.episode_id}",
            hint="record into another folder, or restore the setup",
        )
