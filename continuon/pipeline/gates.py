"""Gates: thresholds as data, verdicts that fail closed."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from importlib.resources import files
from typing import Any

import attrs

from continuon.errors import ContractError

__all__ = ["ABSENT", "GateCheck", "GateLine", "PhaseGate", "Verdict", "load_gates"]

ABSENT = "absent"
_OPS = ("==", "!=", "<", "<=", ">", ">=", "between")


class Verdict(StrEnum):
    """What a gate says. Only `PASSED` lets the next phase start."""

    PASSED = "passed"
    MISSED = "missed"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    ABSENT = "absent"
    SKIPPED = "not-applicable"


@attrs.frozen(kw_only=True)
class GateLine:
    """One figure, its comparison and its threshold, as written in gates.toml."""

    figure: str
    op: str = attrs.field(validator=attrs.validators.in_(_OPS))
    threshold: Any
    hint: str
    not_for: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    absent_ok: tuple[str, ...] = attrs.field(default=(), converter=tuple)

    def check(self, figures: Mapping[str, Any], *, origin: str) -> GateCheck:
        """Compare a measured figure with the threshold.

        Missing, None and NaN are `unknown`; the word "absent" passes only where this
        line allows it for data of that origin. Data of an origin in `not_for` is not
        judged; of one that nobody thought of it is.
        """
        if origin in self.not_for:
            return self._result(figures.get(self.figure), Verdict.SKIPPED)
        measured = figures.get(self.figure)
        if isinstance(measured, str) and measured == ABSENT:
            allowed = origin in self.absent_ok
            return self._result(measured, Verdict.ABSENT if allowed else Verdict.MISSED)
        if measured is None or _not_a_number(measured):
            return self._result(measured, Verdict.UNKNOWN)
        try:
            holds = _compare(self.op, measured, self.threshold)
        except TypeError:
            return self._result(measured, Verdict.UNKNOWN)
        return self._result(measured, Verdict.PASSED if holds else Verdict.MISSED)

    def _result(self, measured: Any, verdict: Verdict) -> GateCheck:
        return GateCheck(
            figure=self.figure,
            op=self.op,
            threshold=self.threshold,
            measured=measured,
            verdict=verdict,
            hint=self.hint,
        )


@attrs.frozen(kw_only=True)
class GateCheck:
    """The outcome of one line: what was measured against what is asked."""

    figure: str
    op: str
    threshold: Any
    measured: Any
    verdict: Verdict
    hint: str

    @property
    def ok(self) -> bool:
        """Whether this line lets the phase pass."""
        return self.verdict in (Verdict.PASSED, Verdict.ABSENT, Verdict.SKIPPED)

    def sentence(self) -> str:
        """Return which figure, by how much, and what to do."""
        return (
            f"{self.figure} is {_show(self.measured)}, asked {self.op} "
            f"{_show(self.threshold)}{_margin(self.measured, self.threshold)}; "
            f"next: {self.hint}"
        )


@attrs.frozen(kw_only=True)
class PhaseGate:
    """All lines of one phase."""

    number: int
    name: str
    title: str
    lines: tuple[GateLine, ...]

    def check(
        self, figures: Mapping[str, Any], *, origin: str
    ) -> tuple[Verdict, tuple[GateCheck, ...]]:
        """Judge measured figures; the worst line is the verdict."""
        checks = tuple(line.check(figures, origin=origin) for line in self.lines)
        verdicts = {check.verdict for check in checks if not check.ok}
        if not verdicts:
            return Verdict.PASSED, checks
        worst = Verdict.MISSED if Verdict.MISSED in verdicts else Verdict.UNKNOWN
        return worst, checks


def load_gates(text: str | None = None) -> tuple[PhaseGate, ...]:
    """Read the gate table, the packaged one unless `text` is given.

    Raises:
        ContractError: the table has another version or an unknown operator.
    """
    if text is None:
        text = (files("continuon") / "_specs" / "gates.toml").read_text("utf-8")
    table = tomllib.loads(text)
    if table.get("version") != 1:
        raise ContractError(
            "E-GATE-VERSION-001",
            "the gate table has a version this library does not know",
            seen=table.get("version"),
            allowed=1,
            hint="upgrade continuon or restore specs/gates.toml",
        )
    try:
        return tuple(
            PhaseGate(
                number=phase["number"],
                name=phase["name"],
                title=phase["title"],
                lines=tuple(GateLine(**line) for line in phase["gates"]),
            )
            for phase in table["phase"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ContractError(
            "E-GATE-TABLE-002",
            "the gate table is malformed",
            seen=error,
            hint="compare it with specs/pipeline/README.md",
        ) from error


def _not_a_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, list | tuple):
        return any(_not_a_number(item) for item in value)
    return False


def _compare(op: str, measured: Any, threshold: Any) -> bool:
    if op in ("==", "!="):
        same = _plain(measured) == _plain(threshold) and isinstance(
            measured, bool
        ) == isinstance(threshold, bool)
        return same if op == "==" else not same
    if isinstance(measured, bool | str):
        msg = "no order on this type"
        raise TypeError(msg)
    if op == "between":
        low, high = threshold
        return bool(low <= measured <= high)
    return bool(
        {
            "<": measured < threshold,
            "<=": measured <= threshold,
            ">": measured > threshold,
            ">=": measured >= threshold,
        }[op]
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _margin(measured: Any, threshold: Any) -> str:
    numbers = (int, float)
    if isinstance(measured, bool) or not isinstance(measured, numbers):
        return ""
    if isinstance(threshold, bool) or not isinstance(threshold, numbers):
        return ""
    return f" (off by {abs(measured - threshold):.4g})"
