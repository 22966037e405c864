"""The plan's episode directory: `metadata.json`, `steps/*.jsonl` and `blobs/`.

Written beside its place, synced and renamed, so it is there whole or not at all; read
with every damage named by file and line.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import msgspec

from continuon.durable import replace_file, sync_directory
from continuon.errors import DataError
from continuon.rlds.episode import (
    EndReason,
    EpisodeMetadata,
    StreamSpec,
    metadata_from_json,
    metadata_to_json,
)
from continuon.rlds.plan_episode import PlanEpisode, is_inside
from continuon.rlds.step import Step, step_from_json, step_to_json

__all__ = [
    "METADATA_FILE",
    "DirectoryBlobs",
    "is_plan_dir",
    "plan_dirs",
    "read_plan",
    "write_plan",
]

METADATA_FILE = "metadata.json"
_STEPS, _BLOBS = "steps", "blobs"
_STEPS_A_FILE = 1000


@attrs.frozen(kw_only=True)
class _Closing:
    """What `metadata.json` says beside the metadata; see `PlanEpisode`."""

    total_steps: int | None = None
    streams: tuple[StreamSpec, ...] = ()
    end_reason: EndReason = EndReason.COMPLETE
    drops: Mapping[str, int] = attrs.field(factory=dict)
    start_time_unix_ms: int | None = None
    duration_ms: int | None = None


class DirectoryBlobs(Mapping[str, bytes]):
    """The blobs of a directory by uri, each read when it is asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        root = directory / _BLOBS
        files = sorted(root.rglob("*")) if root.is_dir() else []
        self._paths = {
            file.relative_to(directory).as_posix(): file
            for file in files
            if file.is_file() and not file.is_symlink()
        }

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __getitem__(self, uri: str) -> bytes:
        return self._paths[uri].read_bytes()

    def __contains__(self, uri: object) -> bool:
        return uri in self._paths

    def sizes(self) -> dict[str, int]:
        """Return the size of each blob in bytes; none is read."""
        return {uri: path.stat().st_size for uri, path in self._paths.items()}


def is_plan_dir(path: Path) -> bool:
    """Return whether a directory has the plan's shape."""
    return (path / METADATA_FILE).is_file() and (path / _STEPS).is_dir()


def plan_dirs(path: Path) -> list[Path]:
    """Return the directory itself or those of the plan's shape in it, by name."""
    if is_plan_dir(path):
        return [path]
    return [entry for entry in sorted(path.iterdir()) if is_plan_dir(entry)]


def write_plan(episode: PlanEpisode, directory: Path) -> Path:
    """Write an episode as `directory`, which must not exist; returns it.

    Blobs lie where their uris say, which must be below `blobs/`.

    Raises:
        DataError: there is such a directory, or a blob's uri leads out of `blobs/`.
        OSError: the disk refused; nothing is at `directory` then.
    """
    directory = Path(directory)
    if directory.exists():
        raise DataError(
            "E-RLDS-PLAN-001",
            "there is such an episode already, and nothing closed is replaced",
            where=directory,
        )
    astray = [u for u in episode.blobs if not (is_inside(u) and u.startswith("blobs/"))]
    if astray:
        raise DataError(
            "E-RLDS-PLAN-002",
            "a blob's name leads out of the episode's blobs",
            where=directory,
            seen=", ".join(astray[:3]),
            allowed="blobs/ and a relative path without ..",
        )
    work = directory.with_name(f".{directory.name}.part")
    if work.exists():
        shutil.rmtree(work)
    (work / _STEPS).mkdir(parents=True)
    for start in range(0, len(episode.steps), _STEPS_A_FILE):
        lines = map(step_to_json, episode.steps[start : start + _STEPS_A_FILE])
        name = f"{start // _STEPS_A_FILE:06d}.jsonl"
        replace_file(work / _STEPS / name, b"".join(line + b"\n" for line in lines))
    folders = {work / _STEPS, work / _BLOBS}
    for uri, blob in episode.blobs.items():
        path = work / uri
        path.parent.mkdir(parents=True, exist_ok=True)
        folders.add(path.parent)
        path.write_bytes(blob)
    for folder in sorted(folders):
        if folder.is_dir():
            sync_directory(folder)
    replace_file(work / METADATA_FILE, _metadata(episode))
    work.rename(directory)
    sync_directory(directory.parent)
    return directory


def _metadata(episode: PlanEpisode) -> bytes:
    metadata = episode.metadata
    closing = _Closing(
        total_steps=len(episode.steps),
        streams=episode.streams,
        end_reason=episode.end_reason,
        drops=episode.drops,
        start_time_unix_ms=metadata.start_wall_ns // 1_000_000 or None,
        duration_ms=(metadata.duration_ns or 0) // 1_000_000 or None,
    )
    facts: dict[str, Any] = msgspec.json.decode(metadata_to_json(metadata))
    facts |= msgspec.to_builtins(closing)
    return msgspec.json.format(msgspec.json.encode(facts, order="sorted")) + b"\n"


def read_plan(directory: Path) -> PlanEpisode:
    """Read an episode directory; blobs stay on the disk until they are asked for.

    Raises:
        DataError: no such directory, or its metadata or a line of its steps is damaged
            or absent; the file and line are named.
    """
    directory = Path(directory)
    path = directory / METADATA_FILE
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            "E-RLDS-PLAN-003",
            "this is no episode directory",
            where=directory,
            allowed=f"{METADATA_FILE}, {_STEPS}/*.jsonl and {_BLOBS}/",
        ) from error
    metadata = metadata_from_json(data, where=path)
    try:
        closing = msgspec.json.decode(data, type=_Closing)
    except msgspec.DecodeError as error:
        raise DataError(
            "E-RLDS-PLAN-004", f"the metadata does not parse: {error}", where=path
        ) from error
    steps = tuple(_steps(directory))
    if closing.total_steps not in {None, len(steps)}:
        raise DataError(
            "E-RLDS-PLAN-005",
            "steps are missing, or there are more than the metadata says",
            where=directory,
            seen=len(steps),
            allowed=closing.total_steps,
        )
    return PlanEpisode(
        metadata=_with_times(metadata, closing, path),
        streams=closing.streams,
        steps=steps,
        blobs=DirectoryBlobs(directory),
        end_reason=closing.end_reason,
        drops=closing.drops,
    )


def _with_times(
    metadata: EpisodeMetadata, closing: _Closing, where: Path
) -> EpisodeMetadata:
    """Take the plan's milliseconds where there are no nanoseconds; both must agree."""
    start_ms, duration_ms = closing.start_time_unix_ms, closing.duration_ms
    start_ns, duration_ns = metadata.start_wall_ns, metadata.duration_ns
    disagree = (start_ns and start_ms not in {None, start_ns // 1_000_000}) or (
        duration_ns and duration_ms not in {None, duration_ns // 1_000_000}
    )
    if disagree:
        raise DataError(
            "E-RLDS-PLAN-006",
            "the metadata's times in ns and in ms contradict each other",
            where=where,
        )
    return attrs.evolve(
        metadata,
        start_wall_ns=start_ns or (start_ms or 0) * 1_000_000,
        duration_ns=duration_ns
        or (None if duration_ms is None else duration_ms * 1_000_000),
    )


def _steps(directory: Path) -> Iterator[Step]:
    for file in sorted((directory / _STEPS).glob("*.jsonl")):
        data = file.read_bytes()
        if data and not data.endswith(b"\n"):
            raise DataError(
                "E-RLDS-PLAN-007", "the file of steps ends inside a line", where=file
            )
        for number, line in enumerate(data.splitlines(), start=1):
            if line.strip():
                yield step_from_json(line, where=f"{file}:{number}")
