"""The verdict on an episode in the plan's terms: same report, same two profiles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from continuon.errors import DataError
from continuon.rlds.episode import HOST_CLOCKS, Origin
from continuon.rlds.findings import (
    EpisodeReport,
    Finding,
    Profile,
    found,
    severity_of,
    unreadable,
    weigh,
)
from continuon.rlds.measure import percentiles_ms, rate_hz
from continuon.rlds.metadata_rules import looks_personal, metadata_findings
from continuon.rlds.plan_columns import StepColumns, step_columns
from continuon.rlds.plan_dir import read_plan
from continuon.rlds.plan_episode import PlanEpisode, blob_sizes
from continuon.rlds.plan_rules import plan_findings

__all__ = ["judge_plan", "validate_plan"]


def validate_plan(path: Path, *, profile: Profile = "strict") -> EpisodeReport:
    """Return errors, warnings and figures of a plan directory.

    What cannot be read is reported, not raised: it is one error.

    Raises:
        UsageError: no such profile.
    """
    severity_of("E-EPISODE-OPEN-001", profile)
    try:
        episode = read_plan(path)
    except DataError as error:
        return unreadable(path, error, profile)
    return judge_plan(episode, profile=profile, path=path)


def judge_plan(
    episode: PlanEpisode, *, profile: Profile = "strict", path: Path | None = None
) -> EpisodeReport:
    """Return the verdict on an episode that was read or made."""
    columns = step_columns(episode.steps)
    findings = list(metadata_findings(episode.metadata))
    findings += plan_findings(episode, columns)
    findings += _streams(episode)
    if episode.metadata.share.public:
        findings += _public(episode)
    errors, warnings = weigh(findings, profile)
    return EpisodeReport(
        path="" if path is None else str(path),
        episode_id=episode.metadata.episode_id,
        origin=episode.metadata.origin.value,
        profile=profile,
        errors=errors,
        warnings=warnings,
        figures=_figures(episode, columns),
    )


def _streams(episode: PlanEpisode) -> Iterator[Finding]:
    for spec in episode.streams:
        unknown = spec.component_units().count(None)
        if unknown:
            yield found("UNIT-003", spec.name, f"{unknown} of {len(spec.names)}")
        if spec.origin not in {None, episode.metadata.origin} and (
            episode.metadata.origin is Origin.REAL
        ):
            yield found("ORIGIN-001", spec.name, f"{spec.origin}")
        drops = episode.drops.get(spec.name, 0)
        if drops:
            total = drops + len(episode.steps)
            yield found("DROP-001", spec.name, f"{drops} of {total}")
            if drops > 0.05 * total:
                yield found("DROP-002", spec.name, f"{drops} of {total}")


def _public(episode: PlanEpisode) -> Iterator[Finding]:
    """Yield what quotes, records or names people in steps that are to be public."""
    texts: list[str] = []
    turns = sounds = 0
    for step in episode.steps:
        seen, done = step.observation, step.action
        turns += len(seen.dialog) + len(done.dialog)
        sounds += seen.audio is not None
        texts += [step.language_instruction or "", *step.step_metadata.values()]
        if seen.ui_context is not None:
            texts += [*seen.ui_context.layout.values()]
            texts += [*seen.ui_context.focus_context.values()]
        if done.annotation is not None:
            texts += done.annotation.fields.values()
        if done.ui_action is not None:
            texts += done.ui_action.context.values()
        for call in done.tool_calls:
            texts += [call.args_json, call.result_json or ""]
    redacted = episode.metadata.share.pii_redacted
    for name, count in (("dialog", turns), ("audio", sounds)):
        if count and not redacted:
            yield found("SHARE-002", name, f"{count} steps, and not redacted")
    personal = len(list(looks_personal(texts)))
    if personal:
        yield found("SHARE-002", "steps", f"{personal} texts")


def _figures(episode: PlanEpisode, columns: StepColumns) -> dict[str, Any]:
    stamps, count = columns.stamp_ns, len(columns)
    span_ns = int(stamps[-1] - stamps[0]) if count else 0
    sizes = blob_sizes(episode.blobs)
    return {
        "steps": count,
        "valid_steps": sum(step.valid for step in episode.steps),
        "duration_s": span_ns / 1e9,
        "rate_hz": rate_hz(stamps),
        "step_dt_ms": percentiles_ms(np.diff(stamps)),
        "skew_ms": {
            f"video-{name}": percentiles_ms(column.skew_ns)
            for name, column in columns.times.items()
            if column.comparable and name not in {"video", "action"}
        },
        "coverage": {
            name: len(column.rows) / count for name, column in columns.times.items()
        },
        "glove_coverage": (
            float(columns.glove_valid.sum()) / count
            if columns.glove_valid.size
            else None
        ),
        "clocks": sorted({step.clock for step in episode.steps} - HOST_CLOCKS),
        "blobs": len(sizes),
        "blob_bytes": sum(sizes.values()),
        "drops": dict(episode.drops),
    }
