"""Health looked at again and again: each level held by its hysteresis, and a while."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from continuon.clock import Clock
from continuon.health.hold import held
from continuon.health.levels import Level
from continuon.health.report import Check, HealthReport
from continuon.health.thresholds import hold_ns

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
    """Remembers what was seen, so that a figure at a limit does not flap.

    Attributes:
        look: takes the last report as it was measured (None at first) and returns the
            next one, as `check_health` does with its `before`.
        clock: by which levels are held; the rig's.
        last: the newest report as it is shown.
    """

    look: Callable[[HealthReport | None], HealthReport]
    clock: Clock
    last: HealthReport | None = None
    _measured: HealthReport | None = attrs.field(default=None, init=False)
    _seen: dict[str, dict[Level, int]] = attrs.field(factory=dict, init=False)

    def update(self) -> tuple[HealthReport, tuple[Change, ...]]:
        """Look once; return the report to show and what changed since the last one."""
        was = {} if self.last is None else {c.name: c.level for c in self.last.checks}
        self._measured = self.look(self._measured)
        now_ns = self.clock.monotonic_ns()
        checks = tuple(self._held(check, now_ns) for check in self._measured.checks)
        report = self.last = attrs.evolve(self._measured, checks=checks)
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

    def _held(self, check: Check, now_ns: int) -> Check:
        seen, level = held(
            self._seen.get(check.name, {}),
            check.level,
            now_ns=now_ns,
            hold_ns=hold_ns(check.name),
        )
        self._seen[check.name] = seen
        if level is check.level:
            return check
        ago_s = (now_ns - seen[level]) / 1e9
        text = f"{check.text} ({check.level} now, {level} {ago_s:.0f} s ago)"
        return attrs.evolve(check, level=level, text=text)
