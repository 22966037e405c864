"""Judge a TFDS/RLDS data set, ours or another's; no picture is decoded.

Others' data sets seldom say where they come from, often carry no stamps, and some end
without `is_last`. Strict calls these errors, lenient warns; what makes an episode
unusable (damage, values that are not finite, fields of different length) is an error
in both. rlds: github.com/google-research/rlds, "Dataset format".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from continuon.errors import DataError, UsageError
from continuon.rlds.episode import Origin
from continuon.rlds.findings import EpisodeReport, Finding, Profile, Severity
from continuon.rlds.images import jpeg_size, png_size
from continuon.rlds.measure import duplicate_frames, rate_hz
from continuon.rlds.tfds_read import TfdsDirectory, find_tfds, open_tfds, read_columns

__all__ = ["DATASET_RULES", "DatasetReport", "validate_dataset"]

_E, _W = Severity.ERROR, Severity.WARNING
DATASET_RULES: Mapping[str, tuple[Severity, Severity, str]] = {
    "E-EPISODE-RLDS-001": (_E, _E, "the data set cannot be read further"),
    "E-EPISODE-RLDS-002": (_E, _W, "a shard that its tables name is missing"),
    "E-EPISODE-RLDS-003": (_E, _E, "there is no action, or there are no steps"),
    "E-EPISODE-RLDS-004": (_E, _E, "the step fields differ in length"),
    "E-EPISODE-RLDS-005": (_E, _W, "a flag of RLDS is absent"),
    "E-EPISODE-RLDS-006": (_E, _W, "is_first does not mark the first step alone"),
    "E-EPISODE-RLDS-007": (_E, _W, "is_last does not mark the last step alone"),
    "E-EPISODE-RLDS-008": (_E, _W, "is_terminal stands before the last step"),
    "E-EPISODE-RLDS-009": (_E, _E, "a number is not finite"),
    "E-EPISODE-RLDS-010": (_E, _E, "a picture is empty or no picture"),
    "E-EPISODE-RLDS-011": (_E, _W, "a picture has another size than declared"),
    "E-EPISODE-RLDS-012": (_W, _W, "more than 2 % of the frames repeat the one before"),
    "E-EPISODE-RLDS-013": (_E, _W, "the episode does not state a known origin"),
    "E-EPISODE-RLDS-014": (_E, _W, "no capture times: no rate and no skew is known"),
    "E-EPISODE-RLDS-015": (_E, _E, "time does not advance from step to step"),
}
"""Code -> severity in the strict profile, in the lenient one, and what it means."""

_FLAGS = ("is_first", "is_last", "is_terminal")
_STAMP = "steps/observation/stamp_ns"
_ONCE_A_STEP = frozenset({"tensor", "image", "text"})
"""Kinds of leaves with one value a step; a ragged sequence has as many as it likes."""
_JUDGED_APART = frozenset({_STAMP, *(f"steps/{flag}" for flag in _FLAGS)})


@attrs.frozen(kw_only=True)
class DatasetReport:
    """The verdict on a data set: on the whole, and on each episode."""

    path: str
    name: str
    profile: str
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    episodes: tuple[EpisodeReport, ...]

    @property
    def ok(self) -> bool:
        """True where neither the data set nor an episode has an error."""
        return not self.errors and all(episode.ok for episode in self.episodes)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "path": self.path,
            "name": self.name,
            "profile": self.profile,
            "ok": self.ok,
            "errors": [finding.as_dict() for finding in self.errors],
            "warnings": [finding.as_dict() for finding in self.warnings],
            "episodes": [episode.as_dict() for episode in self.episodes],
        }


def validate_dataset(path: Path, *, profile: Profile = "lenient") -> DatasetReport:
    """Return errors, warnings and figures of every episode of a data set.

    `path` is the directory of `features.json`, or up to two levels above it. Damage
    within a shard ends the reading there and is an error in the report.

    Raises:
        DataError: there is no data set, several, or its tables are damaged.
        UsageError: no such profile.
    """
    if profile not in {"strict", "lenient"}:
        raise UsageError(
            "E-EPISODE-PROFILE-001",
            "no such profile",
            seen=profile,
            allowed="strict, lenient",
        )
    found = find_tfds(Path(path))
    if found is None:
        raise DataError(
            "E-EPISODE-RLDS-016",
            "there is no TFDS directory here",
            where=path,
            allowed="a directory with features.json and dataset_info.json",
        )
    directory = open_tfds(found)
    findings = [_found("002", name, "absent") for name in directory.missing]
    episodes: list[EpisodeReport] = []
    try:
        for columns in read_columns(directory):
            episodes.append(_judge(columns, directory, len(episodes), profile))
    except DataError as error:
        findings.append(_found("001", f"after {len(episodes)} episodes", str(error)))
    errors, warnings = _sorted(findings, profile)
    return DatasetReport(
        path=str(found),
        name=directory.name,
        profile=profile,
        errors=errors,
        warnings=warnings,
        episodes=tuple(episodes),
    )


def _judge(
    columns: Mapping[str, Any], directory: TfdsDirectory, number: int, profile: Profile
) -> EpisodeReport:
    steps = {path: value for path, value in columns.items() if _in_steps(path)}
    count = max(map(len, steps.values()), default=0)
    images = {
        path: value
        for path, value in steps.items()
        if "image" in directory.kinds[path] and len(value)
    }
    said = columns.get("episode_metadata/origin")
    origin = _text(said, "unknown")
    figures: dict[str, Any] = {"steps": count, "fields": sorted(columns)}
    kinds = directory.kinds.items()
    once = frozenset(path for path, node in kinds if _ONCE_A_STEP & node.keys())
    findings = list(_structure(steps, count, once))
    if origin not in {member.value for member in Origin}:
        findings.append(_found("013", "episode_metadata", origin))
    for path, value in steps.items():
        is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
        if is_float and value.size:
            rows = np.flatnonzero(~np.isfinite(value.reshape(len(value), -1)).all(1))
            if rows.size:
                findings.append(_found("009", path, f"{rows.size} steps"))
    figures["duplicates"] = {}
    for path, blobs in images.items():
        findings += _pictures(path, blobs, directory.kinds[path]["image"])
        repeated = duplicate_frames(blobs)
        figures["duplicates"][path] = repeated
        if repeated > 0.02 * count:
            findings.append(_found("012", path, f"{repeated} of {count}"))
    stamp = steps.get(_STAMP)
    if stamp is None or not len(stamp):
        findings.append(_found("014", "steps", f"no {_STAMP}"))
    else:
        figures["rate_hz"] = rate_hz(stamp)
        if (np.diff(stamp) <= 0).any():
            findings.append(_found("015", _STAMP, "not increasing"))
    errors, warnings = _sorted(findings, profile)
    return EpisodeReport(
        path=str(directory.path),
        episode_id=_text(columns.get("episode_metadata/episode_id"), str(number)),
        origin=origin,
        profile=profile,
        errors=errors,
        warnings=warnings,
        figures=figures,
    )


def _structure(
    steps: Mapping[str, Any], count: int, once_a_step: frozenset[str]
) -> Iterator[Finding]:
    actions = [p for p in steps if p == "steps/action" or "/action/" in p]
    if not count or not any(len(steps[path]) for path in actions):
        yield _found("003", "steps", f"{count} steps, actions: {actions or 'none'}")
    short = {
        path: len(value)
        for path, value in steps.items()
        if len(value) != count and path in once_a_step and path not in _JUDGED_APART
    }
    if short:
        yield _found("004", "steps", f"{count}, but {short}")
    for name in _FLAGS:
        flag = steps.get(f"steps/{name}")
        if flag is None or not len(flag):
            yield _found("005", f"steps/{name}", "absent")
            continue
        rows = np.flatnonzero(flag).tolist()
        if name == "is_first" and rows != [0]:
            yield _found("006", name, f"true at {rows[:5]}")
        elif name == "is_last" and rows != [count - 1]:
            yield _found("007", name, f"true at {rows[:5]}")
        elif name == "is_terminal" and rows not in ([], [count - 1]):
            yield _found("008", name, f"true at {rows[:5]}")


def _pictures(path: str, blobs: Any, declared: Mapping[str, Any]) -> Iterator[Finding]:
    shape = declared.get("shape", {}).get("dimensions", ())
    wanted = tuple(int(size) for size in shape[:2])[::-1]
    for row, blob in enumerate(blobs):
        try:
            is_png = bytes(blob[:4]) == b"\x89PNG"
            size = png_size(bytes(blob[:64])) if is_png else jpeg_size(bytes(blob))
        except DataError as error:
            yield _found("010", f"{path}[{row}]", error.what)
            continue
        if len(wanted) == 2 and min(wanted) > 0 and size != wanted:
            yield _found("011", f"{path}[{row}]", f"{size} for {wanted}")


def _in_steps(path: str) -> bool:
    return path.startswith("steps/")


def _text(value: Any, otherwise: str) -> str:
    """Return a column's first value as text: bytes decoded, a number as it is."""
    if value is None or not len(value):
        return otherwise
    first = value[0]
    if isinstance(first, bytes | memoryview):
        return bytes(first).decode(errors="replace")
    return str(first)


def _found(number: str, where: str, seen: str) -> Finding:
    code = f"E-EPISODE-RLDS-{number}"
    return Finding(code, where, f"{DATASET_RULES[code][2]}: {seen}")


def _sorted(
    findings: list[Finding], profile: Profile
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Return (errors, warnings) in this profile."""
    column = 0 if profile == "strict" else 1
    errors = [f for f in findings if DATASET_RULES[f.code][column] is _E]
    warnings = [f for f in findings if DATASET_RULES[f.code][column] is _W]
    return tuple(errors), tuple(warnings)
