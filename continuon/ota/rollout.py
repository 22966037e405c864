"""A bundle for some robots first: which ones, and when to stop."""

from __future__ import annotations

import hashlib

import attrs

__all__ = ["Rollout", "in_rollout", "should_halt"]


@attrs.frozen(kw_only=True)
class Rollout:
    """How a phased rollout stands.

    Attributes:
        channel: the channel that it is part of.
        percent: share of the robots that may have it, 0 to 100.
        min_reports: no verdict before so many robots have reported.
        max_failure_fraction: a larger share of failures halts it.
        halted: no further robot gets it; only a person starts it again.
        reports: robots that reported.
        failures: those of them that rolled back.
    """

    channel: str = "stable"
    percent: float = 10.0
    min_reports: int = 5
    max_failure_fraction: float = 0.1
    halted: bool = False
    reports: int = 0
    failures: int = 0


def in_rollout(robot_id: str, bundle: str, percent: float) -> bool:
    """Return whether a robot is among the first `percent`.

    Hashed with the bundle, so that it is not always the same robots that go first. A
    robot that is in stays in as the share grows.
    """
    digest = hashlib.sha256(f"{bundle}\0{robot_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < percent / 100 * 2**64


def should_halt(rollout: Rollout) -> bool:
    """Return whether the failures have passed the bound."""
    if rollout.reports < rollout.min_reports:
        return False
    return rollout.failures > rollout.max_failure_fraction * rollout.reports
