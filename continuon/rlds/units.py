"""Units that component names carry, as `yaw_rate_rad_s` carries rad/s."""

from __future__ import annotations

import re

__all__ = ["is_normalised", "unit_of"]

_NORMALISED = re.compile(r"(user_)?(steering|throttle)(_position)?|gripper(_\d+)?")
_SUFFIXES = (
    ("_rad_s2", "rad/s2"),
    ("_rad_s", "rad/s"),
    ("_rad", "rad"),
    ("_mps2", "m/s2"),
    ("_m_s2", "m/s2"),
    ("_mps", "m/s"),
    ("_m_s", "m/s"),
    ("_nm", "N m"),
    ("_n", "N"),
    ("_m", "m"),
    ("_deg", "deg"),
    ("_celsius", "degC"),
    ("_hz", "Hz"),
    ("_us", "us"),
    ("_ns", "ns"),
    ("_v", "V"),
    ("_a", "A"),
)


def is_normalised(name: str) -> bool:
    """Return whether a component runs from -1 to 1 (or 0 to 1) and has no unit."""
    return bool(_NORMALISED.fullmatch(name))


def unit_of(name: str) -> str | None:
    """Return the unit that a component's name carries, "1" for a normalised one."""
    if is_normalised(name):
        return "1"
    for suffix, unit in _SUFFIXES:
        if name.endswith(suffix):
            return unit
    return None
