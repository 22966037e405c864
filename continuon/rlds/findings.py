"""What a validator may find, written once: code, severity by profile, meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import ArrayLike

from continuon.errors import UsageError

__all__ = [
    "RULES",
    "EpisodeReport",
    "Finding",
    "Profile",
    "Severity",
    "found",
    "rows_text",
    "severity_of",
    "unreadable",
    "weigh",
]

Profile = Literal["strict", "lenient"]


class Severity(StrEnum):
    """What a finding means for the episode."""

    ERROR = "error"
    WARNING = "warning"


_E, _W = Severity.ERROR, Severity.WARNING
RULES: Mapping[str, tuple[Severity, Severity, str]] = {
    "E-EPISODE-OPEN-001": (_E, _E, "the file is no whole recording"),
    "E-EPISODE-ROLE-001": (_E, _W, "mode, role and source contradict each other"),
    "E-EPISODE-META-001": (_E, _W, "a required fact is empty"),
    "E-EPISODE-META-003": (_E, _W, "a content rating has a word of its own"),
    "E-EPISODE-SOURCE-001": (_E, _W, "a step's action source is not in the contract"),
    "E-EPISODE-SOURCE-002": (_E, _W, "a step's source contradicts mode and role"),
    "E-EPISODE-MODE-001": (_E, _W, "workstation mode, but no step has a ui_action"),
    "E-EPISODE-MODE-002": (_E, _W, "observer mode, but no step has an annotation"),
    "E-EPISODE-ENUM-001": (_E, _W, "a word that is not in the contract"),
    "E-EPISODE-VERSION-001": (_E, _W, "fields that its schema version does not have"),
    "E-EPISODE-EMPTY-001": (_E, _E, "the episode has no steps"),
    "E-EPISODE-INDEX-001": (_E, _W, "step numbers do not follow one another"),
    "E-EPISODE-FLAG-001": (_E, _W, "is_first, is_last or is_terminal are misplaced"),
    "E-EPISODE-BLOCK-001": (_E, _W, "a required part of the observation is absent"),
    "E-EPISODE-BLOCK-002": (_E, _W, "the action holds no command"),
    "E-EPISODE-BLOCK-003": (_E, _E, "commands of different lengths"),
    "E-EPISODE-FRAME-001": (_E, _W, "frame ids of one step differ"),
    "E-EPISODE-FRAME-002": (_E, _W, "a frame id names two steps"),
    "E-EPISODE-RANGE-001": (_E, _W, "a share or a confidence leaves 0..1"),
    "E-EPISODE-FINITE-001": (_E, _E, "a number is not finite"),
    "E-EPISODE-UNIT-001": (_E, _W, "a gaze direction is not of length 1"),
    "E-EPISODE-UNIT-002": (_E, _W, "an orientation is not of length 1"),
    "E-EPISODE-UNIT-003": (_W, _W, "a component says no unit"),
    "E-EPISODE-GLOVE-001": (_E, _W, "the glove is valid in less than 95 % of steps"),
    "E-EPISODE-AUDIO-001": (_E, _W, "sound with impossible parameters"),
    "E-EPISODE-AUDIO-002": (_E, _W, "sound changes its parameters within the episode"),
    "E-EPISODE-AUDIO-003": (_E, _W, "a sound's distance to its frame is misstated"),
    "E-EPISODE-WORLD-001": (_W, _W, "latent tokens without the name of their codebook"),
    "E-EPISODE-TOOL-001": (_E, _W, "a tool call's arguments are no JSON"),
    "E-EPISODE-BLOB-002": (_E, _E, "a blob that a step names is absent"),
    "E-EPISODE-BLOB-003": (_E, _E, "a blob's name leads out of the episode"),
    "E-EPISODE-ORIGIN-001": (_E, _W, "a stream of a real episode is not real"),
    "E-EPISODE-META-002": (_W, _W, "the episode does not say when it started"),
    "E-EPISODE-SHARE-001": (_E, _E, "public, but not cleared of personal data"),
    "E-EPISODE-SHARE-002": (_E, _E, "public, but it names or quotes people"),
    "E-EPISODE-SHARE-003": (_E, _E, "public, but what it holds was never rated"),
    "E-EPISODE-STREAM-001": (_E, _E, "a required stream is absent or empty"),
    "E-EPISODE-STREAM-002": (_E, _E, "a stream has another codec than its name wants"),
    "E-EPISODE-STREAM-003": (
        _E,
        _W,
        "no action: an episode to keep, not to learn from",
    ),
    "E-EPISODE-TIME-001": (_E, _E, "time goes backwards in a stream"),
    "E-EPISODE-TIME-002": (_W, _W, "two samples of a stream carry the same time"),
    "E-EPISODE-TIME-003": (
        _E,
        _W,
        "the stamps are times of conversion, not of capture",
    ),
    "E-EPISODE-TIME-004": (_W, _W, "the stream stalls for more than a second"),
    "E-EPISODE-TIME-005": (_E, _W, "the stamps are nominal: nobody measured them"),
    "E-EPISODE-RATE-001": (_W, _W, "the measured rate is not the nominal one"),
    "E-EPISODE-CLOCK-001": (_W, _W, "a device clock was never compared with the host"),
    "E-EPISODE-CLOCK-002": (_E, _W, "stamps contradict the measured clock offset"),
    "E-EPISODE-CLOCK-003": (_E, _W, "two clocks that nobody compared"),
    "E-EPISODE-SKEW-003": (_E, _W, "a sample is more than 5 ms from its frame at p99"),
    "E-EPISODE-SKEW-004": (_W, _W, "a few samples are more than 5 ms from their frame"),
    "E-EPISODE-SKEW-001": (_E, _W, "rgb and depth are more than 5 ms apart at p99"),
    "E-EPISODE-SKEW-002": (_E, _W, "state is known to no better than 5 ms at p99"),
    "E-EPISODE-ACTION-001": (_E, _E, "an action is not finite"),
    "E-EPISODE-ACTION-002": (_E, _W, "a normalised command leaves -1..1"),
    "E-EPISODE-STATE-001": (_W, _W, "a state reading is not finite"),
    "E-EPISODE-IMAGE-001": (_E, _E, "a picture is empty"),
    "E-EPISODE-IMAGE-002": (_E, _E, "a picture is torn or of another kind"),
    "E-EPISODE-IMAGE-003": (_E, _E, "a picture has another size than its stream"),
    "E-EPISODE-STEP-001": (_E, _E, "the steps that it holds cannot be read"),
    "E-EPISODE-BLOB-001": (_E, _E, "a blob is empty"),
    "E-EPISODE-SOUND-001": (_E, _E, "a block of sound ends within a sample"),
    "E-EPISODE-SOUND-002": (_W, _W, "more than 5 % of the sound is missing"),
    "E-EPISODE-DROP-001": (_W, _W, "samples were dropped"),
    "E-EPISODE-DROP-002": (_E, _W, "more than 5 % of a stream was dropped"),
    "E-EPISODE-DUP-001": (_W, _W, "more than 2 % of the frames repeat the one before"),
    "E-EPISODE-VALID-001": (_W, _W, "some steps are masked"),
    "E-EPISODE-VALID-002": (_E, _W, "more than 10 % of the steps are masked"),
    "E-EPISODE-END-001": (_W, _W, "the episode ended by a failure"),
    "E-EPISODE-SHORT-001": (_W, _W, "fewer than two steps: no rate can be measured"),
}
"""Code -> severity in the strict profile, in the lenient one, and what it means."""


@attrs.frozen
class Finding:
    """One thing that is wrong or odd."""

    code: str
    where: str
    text: str

    def as_dict(self) -> dict[str, str]:
        """Return plain values for JSON."""
        return {"code": self.code, "where": self.where, "text": self.text}


@attrs.frozen(kw_only=True)
class EpisodeReport:
    """The verdict on one episode, and what was measured."""

    path: str
    episode_id: str | None
    origin: str
    profile: str
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    figures: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """True where the profile finds no error."""
        return not self.errors

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "path": self.path,
            "episode_id": self.episode_id,
            "origin": self.origin,
            "profile": self.profile,
            "ok": self.ok,
            "errors": [finding.as_dict() for finding in self.errors],
            "warnings": [finding.as_dict() for finding in self.warnings],
            "figures": dict(self.figures),
        }


def found(code: str, where: str, seen: str) -> Finding:
    """Return a finding by its code without `E-EPISODE-`, with what was seen."""
    code = f"E-EPISODE-{code}"
    return Finding(code, where, f"{RULES[code][2]}: {seen}")


def rows_text(bad: ArrayLike) -> str:
    """Return how many rows are bad and the first of them."""
    rows = np.flatnonzero(bad)
    shown = ", ".join(map(str, rows[:5]))
    return f"{rows.size} rows ({shown}{', ...' if rows.size > 5 else ''})"


def unreadable(path: Path, error: Exception, profile: Profile) -> EpisodeReport:
    """Return the report on what could not be opened: one error, nothing measured."""
    return EpisodeReport(
        path=str(path),
        episode_id=None,
        origin="unknown",
        profile=profile,
        errors=(Finding("E-EPISODE-OPEN-001", Path(path).name, str(error)),),
        warnings=(),
        figures={},
    )


def weigh(
    findings: Iterable[Finding], profile: Profile
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Return (errors, warnings) as a profile sees them."""
    errors: list[Finding] = []
    warnings: list[Finding] = []
    for finding in findings:
        is_error = severity_of(finding.code, profile) is Severity.ERROR
        (errors if is_error else warnings).append(finding)
    return tuple(errors), tuple(warnings)


def severity_of(code: str, profile: Profile) -> Severity:
    """Return how much a finding weighs in a profile.

    Raises:
        UsageError: no such profile.
    """
    if profile not in {"strict", "lenient"}:
        raise UsageError(
            "E-EPISODE-PROFILE-001",
            "no such profile",
            seen=profile,
            allowed="strict, lenient",
        )
    strict, lenient, _ = RULES[code]
    return strict if profile == "strict" else lenient
