"""What came out of a foreign recording, what did not, and what a validator says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from continuon.rlds.findings import EpisodeReport, Severity, severity_of
from continuon.rlds.validate import validate_recording

__all__ = ["ImportReport", "Loss", "Verdict", "judge_import"]


@attrs.frozen
class Loss:
    """Something of the source that is not in the result."""

    code: str
    text: str
    count: int

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class Verdict:
    """The validator's word on all episodes of an import.

    Attributes:
        strict_ok: how many episodes the profile for our own recordings accepts.
        lenient_ok: how many the profile for others' recordings accepts.
        strict_errors, lenient_errors: number of findings by code.
    """

    episodes: int
    strict_ok: int
    lenient_ok: int
    strict_errors: Mapping[str, int]
    lenient_errors: Mapping[str, int]

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class ImportReport:
    """What came out of a source, and what did not."""

    source: Path
    format: str
    episodes: tuple[Path, ...]
    steps: int
    losses: tuple[Loss, ...]
    notes: tuple[str, ...]
    verdict: Verdict

    @property
    def exit_code(self) -> int:
        """0 where all was imported, 3 where something was lost or is no episode."""
        whole = self.verdict.lenient_ok == self.verdict.episodes
        return 0 if whole and not self.losses else 3

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "source": str(self.source),
            "format": self.format,
            "episodes": [str(path) for path in self.episodes],
            "steps": self.steps,
            "losses": [loss.as_dict() for loss in self.losses],
            "notes": list(self.notes),
            "verdict": self.verdict.as_dict(),
            "exit_code": self.exit_code,
        }


def judge_import(paths: Iterable[Path]) -> Verdict:
    """Return what both profiles of the validator say of these episodes."""
    strict: Counter[str] = Counter()
    lenient: Counter[str] = Counter()
    count = strict_ok = lenient_ok = 0
    for path in paths:
        report = validate_recording(path, profile="strict")
        again = _lenient_errors(report)
        strict.update(finding.code for finding in report.errors)
        lenient.update(again)
        strict_ok += report.ok
        lenient_ok += not again
        count += 1
    return Verdict(
        episodes=count,
        strict_ok=strict_ok,
        lenient_ok=lenient_ok,
        strict_errors=dict(sorted(strict.items())),
        lenient_errors=dict(sorted(lenient.items())),
    )


def _lenient_errors(report: EpisodeReport) -> list[str]:
    """Return the codes that are errors in lenient too; a report holds all findings."""
    return [
        finding.code
        for finding in (*report.errors, *report.warnings)
        if severity_of(finding.code, "lenient") is Severity.ERROR
    ]
