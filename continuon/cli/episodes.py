"""`continuon record`, `import`, `convert` and most of `episodes`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
from cyclopts import Parameter

from continuon.cli.progress import Counter
from continuon.cli.render import Result
from continuon.errors import DataError, UsageError
from continuon.home import Home

if TYPE_CHECKING:
    from continuon.rlds.exporters.report import FormatReport
    from continuon.rlds.findings import EpisodeReport
    from continuon.rlds.recording import Recording

__all__ = [
    "convert",
    "import_",
    "list_",
    "recordings",
    "recover",
    "validate",
]

Source = Annotated[
    Path | None,
    Parameter(
        help="A recording or a folder of them; default rlds/episodes below the home."
    ),
]


def import_(
    source: Path,
    *,
    output_dir: Path,
    episode_steps: int = 50,
    rate_hz: float = 10.0,
    camera: str | None = None,
    action: str | None = None,
    state: str | None = None,
    jpeg_quality: int | None = None,
    depth_unit_m: float | None = None,
) -> Result:
    """Turn somebody's recording into episodes; every loss is named.

    Parameters
    ----------
    source
        A Donkeycar tub, a LeRobot, TFDS/RLDS or TUM RGB-D folder, a ROS bag or MCAP
        file, or the plan's JSON episodes; told by content. Or its .tar.gz or .zip.
    output_dir
        Where the episodes go.
    episode_steps
        Steps of an episode of a tub; a longer drive is cut.
    rate_hz
        Nominal rate of steps that carry no time at all.
    camera
        The picture field or topic that becomes the main camera; default the first.
    action
        The topic of a bag that holds the commands; default the one of a usual type.
    state
        The topic of a bag that holds the state; default the one of a usual type.
    jpeg_quality
        Store films and raw pictures as JPEG of this quality, not as lossless PNG.
    depth_unit_m
        Metres of one count of depth, where the source does not say.
    """
    from continuon.rlds.importers.dispatch import import_recording
    from continuon.rlds.importers.harvest import ImportOptions

    options = ImportOptions(
        episode_steps=episode_steps,
        rate_hz=rate_hz,
        camera=camera,
        action=action,
        state=state,
        jpeg_quality=jpeg_quality,
        depth_unit_m=depth_unit_m,
    )
    report = import_recording(source, output_dir, options=options)
    verdict = report.verdict
    accepted = f"strict accepts {verdict.strict_ok}, lenient {verdict.lenient_ok}"
    lines = [
        f"{len(report.episodes)} episodes, {report.steps} steps: {output_dir}",
        f"{report.format}: {accepted}",
    ]
    lines += [f"not strict: {n} x {code}" for code, n in verdict.strict_errors.items()]
    lines += [f"no episode: {n} x {code}" for code, n in verdict.lenient_errors.items()]
    lines += [
        f"lost: {loss.count} x {loss.text} ({loss.code})" for loss in report.losses
    ]
    lines += [f"note: {note}" for note in report.notes]
    return Result(data=report, text="\n".join(lines), exit_code=report.exit_code)


def list_(folder: Path | None = None) -> Result:
    """List recordings, oldest first.

    Parameters
    ----------
    folder
        Folder of recordings; default rlds/episodes below the home.
    """
    from continuon.rlds.recording import open_recording

    rows: list[dict[str, Any]] = []
    unread: list[DataError] = []
    for path in recordings(folder or Home.from_environment().episodes):
        try:
            recording = open_recording(path)
        except DataError as error:
            unread.append(error)
            rows.append({"path": str(path), "error": error.as_dict()})
            continue
        with recording:
            meta = recording.metadata
            rows.append(
                {
                    "episode_id": meta.episode_id,
                    "origin": str(meta.origin),
                    "task": meta.task,
                    "end": str(recording.end_reason),
                    "duration_s": _duration_s(recording),
                    "samples": {k: len(v) for k, v in recording.streams.items()},
                    "drops": dict(recording.drops),
                    "bytes": path.stat().st_size,
                    "path": str(path),
                }
            )
    if len(unread) == len(rows):
        raise unread[0]
    text = "\n".join(_line(row) for row in rows)
    return Result(data=rows, text=text, exit_code=3 if unread else 0)


def validate(
    path: Source = None, *, profile: Literal["strict", "lenient"] = "strict"
) -> Result:
    """Judge recordings by the contract; exit status 3 if any breaks it.

    Parameters
    ----------
    path
        Recordings: one, a folder of them, a directory of the plan, or a TFDS directory;
        default rlds/episodes below the home.
    profile
        `strict` for our own recordings, `lenient` for what others wrote.
    """
    from continuon.rlds.plan_dir import plan_dirs
    from continuon.rlds.plan_validate import validate_plan
    from continuon.rlds.validate import validate_recording

    path = path or Home.from_environment().episodes
    if path.is_dir() and not any(path.glob("*.mcap")):
        from continuon.rlds.tfds_read import find_tfds

        if find_tfds(path) is not None:
            return _validate_dataset(path, profile)
        plans = plan_dirs(path)
        if plans:
            return _judged([validate_plan(item, profile=profile) for item in plans], [])
    files, reports = recordings(path), []
    with Counter("validating") as progress:
        for item in files:
            reports.append(validate_recording(item, profile=profile))
            progress(len(reports), len(files), item.stem)
    return _judged(reports, [])


def _validate_dataset(path: Path, profile: Literal["strict", "lenient"]) -> Result:
    from continuon.rlds.validate_tfds import validate_dataset

    report = validate_dataset(path, profile=profile)
    lines = [f"error {f.code} {f.text} ({f.where})" for f in report.errors]
    lines += [f"warning {f.code} {f.text} ({f.where})" for f in report.warnings]
    judged = _judged(report.episodes, lines)
    return attrs.evolve(judged, data=report.as_dict(), exit_code=0 if report.ok else 3)


def _judged(reports: Sequence[EpisodeReport], lines: list[str]) -> Result:
    for report in reports:
        lines.append(f"{'ok ' if report.ok else 'BAD'} {report.episode_id}")
        lines += [f"    {f.code} {f.text} ({f.where})" for f in report.errors]
        lines += [f"    warning {f.code} {f.text} ({f.where})" for f in report.warnings]
    bad = sum(not report.ok for report in reports)
    lines.append(f"{len(reports) - bad} of {len(reports)} episodes keep the contract")
    return Result(data=reports, text="\n".join(lines), exit_code=3 if bad else 0)


def recover(path: Source = None) -> Result:
    """Save what torn recordings hold and say what was lost; exit status 3 on a loss."""
    from continuon.rlds.recovery import recover_recordings

    report = recover_recordings(path or Home.from_environment().episodes)
    lines = [
        f"{found.outcome.value:<14} {found.source}  {found.text}"
        for found in report.episodes
    ]
    text = "\n".join(lines) or "every recording is whole; nothing to do"
    return Result(data=report, text=text, exit_code=report.exit_code)


def convert(
    *,
    input_dir: Path | None = None,
    output_dir: Path | None = None,
    to: Literal["tfds", "arrayrecord", "lerobot", "rerun"] = "tfds",
    compress: bool = False,
    depth: Literal["png", "raw"] = "png",
) -> Result:
    """Write episodes as TFDS files (TFRecord), read them back and compare.

    Recordings are MCAP files with Foxglove schemas as they are and need no export to be
    opened in Foxglove.

    Parameters
    ----------
    input_dir
        Folder of recordings; default rlds/episodes below the home.
    output_dir
        Where the result goes; default rlds/tfrecord below the home, or a folder beside
        it with the name of the format.
    to
        TFDS/RLDS in TFRecord or ArrayRecord files, a LeRobot v3 data set, or Rerun.
    compress
        Compress the shards of `tfds` with GZIP.
    depth
        Depth in `tfds`: 16-bit PNG as recorded, or bare counts, three times the bytes
        and read in a tenth of the time; stock tensorflow-datasets reads both.
    """
    home = Home.from_environment()
    source = input_dir or home.episodes
    if to != "tfds":
        if compress or depth != "png":
            raise UsageError(
                "E-CLI-CONVERT-001",
                "only TFDS shards are compressed, or hold depth in another form",
                seen=f"--to {to}",
                allowed="--to tfds",
            )
        return _write_as(to, source, output_dir or home.tfrecord.with_name(to))
    from continuon.rlds.tfds_write import convert as convert_episodes

    target = output_dir or home.tfrecord
    with Counter("converting") as progress:
        report = convert_episodes(
            source, target, compress=compress, depth=depth, progress=progress
        )
    whole = report.read_back_equal and not report.skipped
    return Result(data=report, exit_code=0 if whole else 3)


def _write_as(to: str, source: Path, target: Path) -> Result:
    """Write episodes in another format; exit status 3 where something stays behind."""
    report: FormatReport
    if to == "lerobot":
        from continuon.rlds.exporters.lerobot import write_lerobot

        report = write_lerobot(source, target)
    elif to == "rerun":
        from continuon.rlds.exporters.rerun import write_rerun

        report = write_rerun(source, target)
    else:
        from continuon.rlds.exporters.array_record import write_array_record

        report = write_array_record(source, target)
    return Result(data=report, exit_code=report.exit_code)


def _duration_s(recording: Recording) -> float:
    """Return seconds from the first sample to the last; 0 where there is none."""
    times = [s.capture_ns for s in recording.streams.values() if len(s)]
    if not times:
        return 0.0
    return float(max(t.max() for t in times) - min(t.min() for t in times)) / 1e9


def _line(row: dict[str, Any]) -> str:
    if "error" in row:
        error = row["error"]
        return f"{Path(row['path']).stem:<28} {error['code']} {error['what']}"
    frames = row["samples"].get("rgb", row["samples"].get("steps", 0))
    dropped = sum(row["drops"].values())
    return (
        f"{row['episode_id']:<28} {row['origin']:<10} {row['duration_s']:7.1f} s "
        f"{frames:>6} frames {row['bytes'] / 2**20:8.1f} MiB  {row['end']}"
        + (f"  {dropped} dropped" if dropped else "")
        + (f"  {row['task']}" if row["task"] else "")
    )


def recordings(path: Path) -> list[Path]:
    """Return a recording, or those in a folder.

    Raises:
        DataError: there is none.
    """
    if path.is_file():
        return [path]
    found = sorted(path.glob("*.mcap"))
    unfinished = len(list(path.glob("*.mcap.part")))
    if not found:
        raise DataError(
            "E-RLDS-EPISODES-001",
            "there are no recordings here",
            where=path,
            seen=f"{unfinished} unfinished recordings" if unfinished else None,
            allowed="a folder with .mcap files, or one of them",
            hint=f"`continuon episodes recover {path}`"
            if unfinished
            else "record with `continuon record`, or `continuon import`",
        )
    return found
