"""`continuon episodes show`, `stats` and `view`: look at recordings."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
from cyclopts import Parameter

from continuon.cli.episodes import recordings
from continuon.cli.progress import Counter
from continuon.cli.render import Result
from continuon.errors import MissingPackageError, UsageError
from continuon.home import Home

if TYPE_CHECKING:
    from continuon.rlds.recording import Recording
    from continuon.rlds.statistics import ColumnStatistics

__all__ = ["show", "stats", "view"]

One = Annotated[Path, Parameter(help="One recording.")]
_VIEWERS = {"rerun": ("rerun",), "foxglove": ("foxglove-studio", "foxglove")}
_MAX_COLUMNS, _MIN_COLUMNS = 120, 40


def show(path: One, *, picture: Path | None = None) -> Result:
    """Say and draw what one recording holds: metadata, figures, pictures, curves.

    Parameters
    ----------
    picture
        Write a PNG page with a contact sheet, the actions, the state and the timing.
    """
    from continuon.rlds.recording import open_recording
    from continuon.rlds.validate import validate_recording

    _check_one(path)
    recording = open_recording(path)
    meta = recording.metadata
    data: dict[str, Any] = {
        "metadata": meta,
        "end": str(recording.end_reason),
        "streams": {
            name: {"samples": len(stream), "spec": stream.spec}
            for name, stream in recording.streams.items()
        },
        "drops": dict(recording.drops),
    }
    report = validate_recording(path, profile="lenient")
    data |= {"figures": report.figures, "warnings": report.warnings}
    roles = f"{meta.xr_mode}/{meta.control_role}/{meta.action_source}"
    robot = f"robot {meta.robot_model} {meta.robot_id}  in {meta.environment_id}"
    lines = [
        f"{meta.episode_id}  {meta.origin}  {roles}  ended {recording.end_reason}",
        f"{robot}  task {meta.task!r}",
    ]
    for name, stream in recording.streams.items():
        rate = report.figures.get(f"{name}_rate_hz")
        measured = f"{rate:.1f} Hz" if rate else ""
        drops = recording.drops.get(name, 0)
        lines.append(
            f"  {name:<8} {len(stream):>6} {stream.spec.codec:<8} {measured:<9} "
            f"clock {stream.spec.clock}" + (f"  {drops} dropped" if drops else "")
        )
    surprise = _surprise(recording)
    if surprise is not None:
        data["surprise"] = surprise
        lines.append(
            f"  surprise mean {surprise['mean']:.4g}, at most {surprise['most']:.4g} "
            f"after {surprise['most_after_s']:.1f} s, at {surprise['target']}"
        )
    lines += [f"  warning {f.code} {f.text} ({f.where})" for f in report.warnings]
    plan = _plan_facts(recording)
    if plan is not None:
        data["plan"] = plan
        lines.append(
            f"  plan     {plan['steps']:>6} steps   {', '.join(plan['blocks'])}"
        )
    lines += _drawn(recording, picture)
    if picture is not None:
        data["picture"] = str(picture)
    return Result(data=data, text="\n".join(lines))


def _drawn(recording: Recording, picture: Path | None) -> list[str]:
    """Return the curves for a terminal; writes the page where one was asked for."""
    from continuon.rlds.overview import overview_picture, overview_text
    from continuon.rlds.overview_streams import stream_picture, stream_text
    from continuon.rlds.steps import align

    name = f"{recording.metadata.episode_id}  {recording.metadata.origin}"
    how = f"ended {recording.end_reason}"
    frames = recording.streams.get("rgb")
    if frames is not None and len(frames):
        steps = align(recording)
        lines = [overview_text(steps, width=_columns())]
        title = f"{name}  {len(steps)} steps  {how}"
    else:
        steps = None
        lines = [stream_text(recording, width=_columns())]
        title = f"{name}  no colour frames  {how}"
    if picture is not None:
        from continuon.durable import replace_file
        from continuon.rlds.images import encode_colour_png

        page = (
            stream_picture(recording, title)
            if steps is None
            else overview_picture(steps, title)
        )
        replace_file(picture, encode_colour_png(page))
        lines.append(f"drawn: {picture}")
    return lines


def _surprise(recording: Recording) -> dict[str, Any] | None:
    """Return how surprised the policy was, and when most; None where none was."""
    stream = recording.streams.get("surprise")
    if stream is None or not len(stream):
        return None
    values = stream.vectors[:, 0]
    most = int(values.argmax())
    return {
        "samples": len(stream),
        "mean": float(values.mean()),
        "most": float(values[most]),
        "most_after_s": float(stream.capture_ns[most] - stream.capture_ns[0]) / 1e9,
        "target": recording.metadata.provenance.get("surprise_target", "unknown"),
    }


def _plan_facts(recording: Recording) -> dict[str, Any] | None:
    """Return what the plan's steps in a recording hold; None where it has none."""
    from continuon.rlds.plan_record import holds_plan, plan_in

    if not holds_plan(recording):
        return None
    episode = plan_in(recording)
    held = {
        field.name
        for step in episode.steps
        for part in (step.observation, step.action)
        for field in attrs.fields(type(part))
        if getattr(part, field.name)
    }
    return {
        "steps": len(episode.steps),
        "masked": sum(not step.valid for step in episode.steps),
        "blocks": sorted(held),
        "blobs": len(episode.blobs),
    }


def stats(path: Path | None = None) -> Result:
    """Measure the numbers of recordings together: no picture is read.

    Parameters
    ----------
    path
        A recording, a folder of them, or a TFDS directory; default rlds/episodes below
        the home.
    """
    from continuon.rlds.statistics import episode_statistics, merge
    from continuon.rlds.steps import read_steps

    parts: dict[tuple[str, tuple[str, ...]], list[ColumnStatistics]] = {}
    episodes = steps_count = valid = 0
    with Counter("measuring") as progress:
        source = path or Home.from_environment().episodes
        for steps in read_steps(source, verify=False):
            episodes, steps_count = episodes + 1, steps_count + len(steps)
            valid += int(steps.valid.sum())
            for name, column in episode_statistics(steps).items():
                if column.names:
                    parts.setdefault((name, column.names), []).append(column)
            progress(episodes, 0, steps.metadata.episode_id)
    columns = [(name, merge(some)) for (name, _), some in parts.items()]
    data = {
        "episodes": episodes,
        "steps": steps_count,
        "valid_steps": valid,
        "columns": [{"stream": name, **column.as_dict()} for name, column in columns],
    }
    lines = [f"{episodes} episodes, {steps_count} steps, {valid} valid"]
    for name, column in columns:
        lines.append(f"{name}: {column.count} steps")
        rows = zip(
            column.names, column.mean, column.std, column.low, column.high, strict=True
        )
        lines += [
            f"  {part:<20} mean {mean:9.4g}  std {std:9.4g}  {low:9.4g} .. {high:.4g}"
            for part, mean, std, low, high in rows
        ]
    return Result(data=data, text="\n".join(lines))


def view(path: One, *, using: Literal["any", "rerun", "foxglove"] = "any") -> Result:
    """Open a recording in Rerun or Foxglove, whichever is installed.

    Parameters
    ----------
    using
        Which of the two; `any` takes Rerun first.
    """
    _check_one(path)
    recordings(path)
    names = _VIEWERS if using == "any" else {using: _VIEWERS[using]}
    for viewer, programs in names.items():
        for program in programs:
            found = shutil.which(program)
            if found is not None:
                subprocess.run([found, str(path)], check=False)
                return Result(data={"viewer": viewer, "path": str(path)})
    if using == "foxglove":
        raise UsageError(
            "E-RLDS-EPISODES-006",
            "Foxglove is not installed here",
            seen="neither foxglove-studio nor foxglove on the path",
            hint=f"open {path} in Foxglove elsewhere, or say --using rerun",
        )
    raise MissingPackageError.for_extra(
        "rerun-sdk", "viz", purpose="viewing a recording"
    )


def _check_one(path: Path) -> None:
    if path.is_dir():
        raise UsageError(
            "E-RLDS-EPISODES-002",
            "this is a folder, and one recording is shown at a time",
            where=path,
            hint=f"`continuon episodes list {path}` names what is in it",
        )


def _columns() -> int:
    wide = shutil.get_terminal_size((80, 24)).columns
    return max(_MIN_COLUMNS, min(wide - 2, _MAX_COLUMNS))
