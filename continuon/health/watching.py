"""Health looked at again and again, each level held by its hysteresis."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from continuon.health.levels import Level
from continuon.health.report import HealthReport

__all__ = ["Change", "HealthWatch"]


@attrs.frozen(kw_only=True)
class Change:
    """A signal whose level changed.

    Attributes:
        name: of the signal.
        before: None at the first look.
        after: the level now.
        text: what was measured.
    """

    name: str
    before: Level | None
    after: Level
    text: str


@attrs.define
class HealthWatch:
    """Remembers the last report, so that a figure at a limit does not flap.

    Attributes:
        look: takes the last report (None at first) and returns the next one, as
            `check_health` does with its `before`.
        last: the newest report.
    """

    look: Callable[[HealthReport | None], HealthReport]
    last: HealthReport | None = None

    def update(self) -> tuple[HealthReport, tuple[Change, ...]]:
        """Look once; return the report and what changed since the last one."""
        was = {} if self.last is None else {c.name: c.level for c in self.last.checks}
        report = self.last = self.look(self.last)
        return report, tuple(
            Change(
                name=check.name,
                before=was.get(check.name),
                after=check.level,
                text=check.text,
            )
            for check in report.checks
            if was.get(check.name) is not check.level
        )
