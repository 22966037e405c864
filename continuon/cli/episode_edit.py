"""`continuon episodes split`, `merge`, `trim` and `delete`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from continuon.cli.episodes import recordings
from continuon.cli.progress import Counter
from continuon.cli.render import Result, say
from continuon.errors import UsageError

if TYPE_CHECKING:
    from continuon.rlds.recorder import RecordingSummary

__all__ = ["delete", "merge", "split", "trim"]

One = Annotated[Path, Parameter(help="One recording; it is not changed.")]
_LONGEST_S = 1e9


def split(
    path: One,
    *,
    output_dir: Path,
    every_s: float | None = None,
    at_s: Sequence[float] = (),
) -> Result:
    """Cut a recording into parts, as new episodes; no picture is encoded again.

    Parameters
    ----------
    output_dir
        Where the parts go, named after the recording and numbered.
    every_s
        Length of each part in seconds.
    at_s
        Times of the cuts, in seconds since the first frame.
    """
    from continuon.rlds.edit import cut_points, cut_recording
    from continuon.rlds.recording import open_recording

    recording = open_recording(path)
    spans = cut_points(recording, every_s=every_s, at_s=at_s)
    name, parts = recording.metadata.episode_id, []
    with Counter("cutting") as progress:
        for number, span in enumerate(spans):
            part_id = f"{name}-part{number:03d}"
            part = cut_recording(recording, span, output_dir, episode_id=part_id)
            parts.append(part)
            progress(number + 1, len(spans), part_id)
    return _written(parts)


def trim(
    path: One,
    *,
    output_dir: Path,
    start_s: float = 0.0,
    stop_s: float | None = None,
    episode_id: str | None = None,
) -> Result:
    """Keep one part of a recording, as a new episode; no picture is encoded again.

    Parameters
    ----------
    output_dir
        Where it goes.
    start_s
        Its start, in seconds since the first frame.
    stop_s
        Its end, in seconds since the first frame; default the whole rest.
    episode_id
        Its name; default the recording's with -trim.
    """
    from continuon.rlds.edit import Span, cut_recording, first_frame_ns
    from continuon.rlds.recording import open_recording

    recording = open_recording(path)
    first = first_frame_ns(recording)
    end_s = start_s + _LONGEST_S if stop_s is None else stop_s
    if not 0 <= start_s < end_s <= 2 * _LONGEST_S:  # neither NaN nor infinity
        raise UsageError(
            "E-RLDS-EDIT-010",
            "a part starts at or after 0 s and ends after its start",
            seen=f"{start_s} s to {stop_s} s",
        )
    stop = 1 << 62 if stop_s is None else first + round(stop_s * 1e9)
    span = Span(first + round(start_s * 1e9), stop)
    name = episode_id or f"{recording.metadata.episode_id}-trim"
    return _written([cut_recording(recording, span, output_dir, episode_id=name)])


def merge(paths: Sequence[Path], *, output_dir: Path, episode_id: str) -> Result:
    """Join recordings of one setup into a new episode; no picture is encoded again.

    Parameters
    ----------
    paths
        The recordings, in the order in which they were recorded.
    output_dir
        Where it goes.
    episode_id
        Its name.
    """
    from continuon.rlds.join import join_recordings
    from continuon.rlds.recording import open_recording

    opened = [open_recording(path) for path in paths]
    return _written([join_recordings(opened, output_dir, episode_id=episode_id)])


def delete(paths: Sequence[Path], *, yes: bool = False) -> Result:
    """Delete recordings for good, after asking.

    Parameters
    ----------
    paths
        The recordings; folders are refused.
    yes
        Do not ask.
    """
    from continuon.durable import sync_directory

    paths = list(dict.fromkeys(paths))
    for path in paths:
        if path.is_dir():
            raise UsageError(
                "E-RLDS-EPISODES-003",
                "a folder is not deleted; name the recordings in it",
                where=path,
            )
        recordings(path)
        if not path.name.endswith((".mcap", ".mcap.part", ".mcap.torn")):
            raise UsageError(
                "E-RLDS-EPISODES-004",
                "this is no recording, and nothing else is deleted",
                where=path,
                allowed="*.mcap, *.mcap.part, *.mcap.torn",
            )
    if not yes and not _agreed(paths):
        return Result(
            data={"deleted": [], "kept": [str(p) for p in paths]}, exit_code=4
        )
    for path in paths:
        path.unlink()
        sync_directory(path.parent)
    return Result(data={"deleted": [str(path) for path in paths], "kept": []})


def _agreed(paths: Sequence[Path]) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(
            "E-RLDS-EPISODES-005",
            "deleting asks first, and nobody is there to answer",
            seen=f"{len(paths)} recordings",
            hint="say --yes",
        )
    say("\n".join(str(path) for path in paths))
    say(f"Delete {len(paths)} recordings for good? [y/N]")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _written(parts: Sequence[RecordingSummary]) -> Result:
    lines = [
        f"{part.path}  {part.counts.get('rgb', 0)} frames, ended {part.end_reason}"
        for part in parts
    ]
    return Result(data=[part.as_dict() for part in parts], text="\n".join(lines))
