"""Checks and reports as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from continuon.health.levels import EXIT_CODES, Level, worst

__all__ = ["Check", "HealthReport"]


@attrs.frozen(kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of the signal.
        level: how well it is.
        text: one sentence for a person.
        figures: what was measured; an absent figure is left out.
        origin: of the device: "real", "simulated" or "replayed", or "host" for what was
            measured on the machine itself.
        required: whether it can make the verdict worse than WARN.
        hint: what to do, where there is something.
    """

    name: str
    level: Level
    text: str
    figures: Mapping[str, Any] = attrs.field(factory=dict)
    origin: str
    required: bool = True
    hint: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for machines."""
        facts = attrs.asdict(self)
        return {key: value for key, value in facts.items() if value is not None}


@attrs.frozen(kw_only=True)
class HealthReport:
    """All checks of one rig.

    Attributes:
        rig: its name.
        origin: its label; a simulated rig's report never reads as a robot's.
        checks: in a fixed order.
        measured_wall_ns: Unix time of the rig's clock.
    """

    rig: str
    origin: str
    checks: tuple[Check, ...]
    measured_wall_ns: int

    @property
    def verdict(self) -> Level:
        """The worst required level; others count as WARN at most."""
        return worst(
            check.level if check.required or check.level is Level.OK else Level.WARN
            for check in self.checks
        )

    @property
    def exit_code(self) -> int:
        """The process exit status that carries the verdict."""
        return EXIT_CODES[self.verdict]

    @property
    def figures(self) -> dict[str, Any]:
        """Every figure and each signal's level, by flat names."""
        flat: dict[str, Any] = {}
        for check in self.checks:
            flat[f"{check.name}_level"] = str(check.level)
            flat.update(check.figures)
        return flat

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person must read: the label of the rig, and all that is not OK."""
        label = (
            ()
            if self.origin == "real"
            else (f"the rig is {self.origin}: this says nothing about hardware",)
        )
        return label + tuple(
            f"{check.name} {check.level}: {check.text}"
            + (f" ({check.hint})" if check.hint else "")
            for check in self.checks
            if check.level is not Level.OK
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "schema": "continuon.health/1",
            "rig": self.rig,
            "origin": self.origin,
            "verdict": str(self.verdict),
            "exit_code": self.exit_code,
            "measured_wall_ns": self.measured_wall_ns,
            "checks": [check.as_dict() for check in self.checks],
        }
