"""Whether the robot can do its work, with the figures behind the answer."""

from __future__ import annotations

import attrs

__all__ = ["Gate", "Readiness", "age_gate", "latch_gate", "runs_gate"]


@attrs.frozen(kw_only=True)
class Gate:
    """One thing that was looked at, with what was seen and what is allowed."""

    gate: str
    ok: bool
    seen: str
    allowed: str


@attrs.frozen(kw_only=True)
class Readiness:
    """Whether the robot can do its work, by part; a part that is not known is False.

    Attributes:
        parts: what readiness rests on.
        gates: the figures behind the parts, and behind what a person should know.
    """

    parts: dict[str, bool]
    gates: tuple[Gate, ...] = ()

    @property
    def safe(self) -> bool:
        """Whether every part that motion rests on is well; a recorder is not one."""
        return all(well for part, well in self.parts.items() if part != "recorder")

    @property
    def ready(self) -> bool:
        """Whether every part is well."""
        return all(self.parts.values())


def runs_gate(name: str, alive: bool) -> Gate:  # noqa: FBT001
    """Return the gate of a process."""
    seen = "runs" if alive else "is gone"
    return Gate(gate=name, ok=alive, seen=seen, allowed="runs")


def latch_gate(*, latched: bool) -> Gate:
    """Return the gate of the emergency stop."""
    seen = "latched" if latched else "clear"
    return Gate(gate="emergency stop", ok=not latched, seen=seen, allowed="clear")


def age_gate(name: str, age_ns: int | None, limit_ns: int) -> Gate:
    """Return the gate of something that must not be older than a limit."""
    return Gate(
        gate=name,
        ok=age_ns is not None and age_ns < limit_ns,
        seen="nothing yet" if age_ns is None else f"{age_ns / 1e6:.0f} ms old",
        allowed=f"at most {limit_ns / 1e6:g} ms old",
    )
