"""Phase 3: record episodes from the rig, or import somebody's recording.

On a real robot a person records, with `continuon record` or the cockpit; this phase
then judges what they left.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from continuon.pipeline.context import Context
from continuon.pipeline.gates import ABSENT
from continuon.pipeline.origins import agreed_origin
from continuon.pipeline.phase import Outcome, Progress
from continuon.pipeline.recording import archive, record_episodes
from continuon.rlds.importers.dispatch import import_recording
from continuon.rlds.validate import validate_recording

__all__ = ["ROOMS", "inputs", "run"]

ROOMS = ("rlds", "robot", "rig", "sim")
Profile = Literal["strict", "lenient"]


def inputs(context: Context) -> dict[str, Path | str]:
    """Return the recording to import, what a person recorded, or the settings."""
    if context.episodes_from is not None:
        return {"recording": context.episodes_from}
    if context.rig == "pi":
        recorded = context.home.episodes
        return {"recorded": recorded if recorded.is_dir() else "nothing"}
    settings = f"{context.rig} {context.seed} {context.episodes} {context.episode_s}"
    return {"settings": settings}


def run(context: Context, progress: Progress) -> Outcome:
    """Fill the episodes folder, then judge what it holds."""
    notes: list[str] = []
    figures: dict[str, Any] = {}
    if context.episodes_from is not None:
        notes += _import(context, context.episodes_from, progress, figures)
    elif context.rig == "pi":
        notes.append("recorded by a person")
    else:
        notes += _capture(context, progress)
    paths = sorted(context.home.episodes.glob("*.mcap"))
    profile: Profile = "lenient" if context.imported else "strict"
    reports = [validate_recording(path, profile=profile) for path in paths]
    invalid = [report for report in reports if not report.ok]
    notes += [f"{r.episode_id}: {r.errors[0].code} {r.errors[0].text}" for r in invalid]
    figures |= {"episodes": len(reports), "invalid_episodes": len(invalid)}
    figures |= summarise([report.figures for report in reports])
    return Outcome(
        figures=figures,
        outputs=(context.home.episodes,) if reports else (),
        origin=agreed_origin([r.origin for r in reports], context),
        notes=tuple(notes),
    )


def summarise(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return each figure over all episodes, with its extremes, or the word absent.

    A single step has no rate: it says nothing against the median of the others, and
    leaves the extremes unknown.
    """
    out: dict[str, Any] = {
        "steps": sum(int(row["steps"]) for row in figures),
        "duration_s": float(sum(row["duration_s"] for row in figures)),
    }
    for name in ("rgb_rate_hz", "state_rate_hz", "action_rate_hz"):
        kind = name.removesuffix("_hz")
        rates = [row.get(name) for row in figures]
        longer = [row.get(name) for row in figures if row["steps"] > 1]
        out[name] = _of_all(longer or rates, lambda known: float(np.median(known)))
        out[f"{kind}_min_hz"] = _of_all(rates, min)
        out[f"{kind}_max_hz"] = _of_all(rates, max)
    for name in ("rgb_size", "depth_size"):
        sizes = [row.get(name) for row in figures]
        out[name] = _of_all(sizes, lambda known: _if_same(map(list, known)))
    skews = [row["skew_ms"].get("rgb-depth", {}).get("p99") for row in figures]
    out["skew_p99_ms"] = _of_all(skews, max)
    return out


def _of_all(values: Sequence[Any], take: Callable[[Sequence[Any]], Any]) -> Any:
    """Return what is taken of all values; absent where no episode has one.

    Where some have it and others not, it is unknown: the worst may be among the others.
    """
    known = [value for value in values if value is not None]
    if not known:
        return ABSENT
    return take(known) if len(known) == len(values) else None


def _if_same(values: Iterable[Any]) -> Any:
    first, *rest = values
    return first if all(value == first for value in rest) else None


def _import(
    context: Context, source: Path, progress: Progress, figures: dict[str, Any]
) -> list[str]:
    progress(0, 1, f"importing {source.name}")
    target = context.home.episodes
    fresh = target.with_name("episodes.part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    report = import_recording(source, fresh)
    archive(target)
    fresh.rename(target)
    figures["imported_losses"] = sum(loss.count for loss in report.losses)
    losses = [f"{loss.code} {loss.text} ({loss.count})" for loss in report.losses]
    return [f"imported from {source.name}", *report.notes, *losses]


def _capture(context: Context, progress: Progress) -> list[str]:
    report = record_episodes(
        context.home.episodes,
        rig=context.rig,
        seed=context.seed,
        count=context.episodes,
        duration_s=context.episode_s,
        workers=context.workers,
        alone=True,
        progress=progress,
    )
    notes = [f"ended early: {text}" for text in report.ended_early]
    if report.archived is not None:
        notes.append(f"recordings that could not stay are in {report.archived.name}")
    return notes
