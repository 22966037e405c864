"""Write episodes as a LeRobot data set v3: rows in Parquet, pictures as they are.

Pictures are `image` features, the JPEG or PNG bytes embedded, so that nothing is
encoded again; a film would be smaller and lossy. LeRobot's `timestamp` is the row's
number over the frame rate whatever happened, so the true capture time of each step
stands beside it in nanoseconds, and `valid` says which steps can be trusted. The
episode's metadata is in `meta/continuon.json`, which LeRobot does not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import msgspec
import numpy as np

import continuon
from continuon.errors import DataError
from continuon.rlds.depth_codecs import depth_size
from continuon.rlds.episode import metadata_to_json
from continuon.rlds.exporters.lerobot_rows import (
    FEATURES_OF_ROWS,
    episode_stats,
    merged_stats,
    row_table,
    tasks_table,
)
from continuon.rlds.exporters.report import FormatReport, Omission, build_beside
from continuon.rlds.images import colour_size
from continuon.rlds.importers.lerobot_own import OWN_FILE
from continuon.rlds.importers.lerobot_tables import parquet
from continuon.rlds.measure import median_step_ns
from continuon.rlds.recording import open_recording
from continuon.rlds.steps import EpisodeSteps, align, recordings_in

__all__ = ["write_lerobot"]

_MAIN, _DEPTH = "observation.images.main", "observation.images.depth"
_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_CHUNK_FILES = 1000
_FILE_BYTES = 100 << 20
"""LeRobot's own defaults, written into `info.json`."""
_STEP_STREAMS = frozenset({"rgb", "depth", "state", "action"})


@attrs.define
class _Progress:
    """What has been written so far."""

    rows: int = 0
    episodes: list[dict[str, Any]] = attrs.field(factory=list)
    metadata: list[Any] = attrs.field(factory=list)
    tasks: dict[str, int] = attrs.field(factory=dict)
    stats: list[dict[str, dict[str, Any]]] = attrs.field(factory=list)
    omitted: Counter[str] = attrs.field(factory=Counter)
    skipped: list[str] = attrs.field(factory=list)
    masked: int = 0
    features: dict[str, Any] = attrs.field(factory=dict)
    fps: int = 0
    file_index: int = -1
    file_bytes: int = 0
    writer: Any = None


def write_lerobot(
    input_dir: Path,
    output_dir: Path,
    *,
    file_bytes: int = _FILE_BYTES,
    progress: Callable[[int, str], None] | None = None,
) -> FormatReport:
    """Write every recording in `input_dir` as one data set at `output_dir`.

    The frame rate is the median one of the first episode, rounded, for LeRobot knows
    whole frames a second only. Episodes whose streams differ from the first one's are
    skipped and named. Streams beyond colour, depth, state and action, and samples
    between two frames, have no place in a table of steps and are listed.

    Raises:
        DataError: no recording, none that fits, or the output is not empty.
        MissingPackageError: pyarrow is not installed.
        OSError: the disk refused; nothing is at `output_dir` then.
    """
    files = recordings_in(Path(input_dir))
    parquet()
    done = _Progress()

    def build(work: Path) -> None:
        try:
            for number, file in enumerate(files):
                _add(file, work, done, file_bytes)
                if progress is not None:
                    progress(number + 1, file.name)
        finally:
            if done.writer is not None:
                done.writer.close()
        if not done.episodes:
            raise DataError(
                "E-RLDS-FORMAT-002",
                "not one episode fits this format",
                where=input_dir,
                seen="; ".join(done.skipped[:3]),
            )
        _write_tables(work, done)

    count, size = build_beside(Path(output_dir), build)
    notes = [f"timestamps are nominal at {done.fps} Hz; true ones in capture_ns"]
    if done.masked:
        notes.append(f"{done.masked} steps are masked: their `valid` is false")
    return FormatReport(
        format="lerobot-v3",
        directory=Path(output_dir),
        episodes=len(done.episodes),
        steps=done.rows,
        files=count,
        bytes=size,
        skipped=tuple(done.skipped),
        omitted=tuple(Omission(k, n) for k, n in sorted(done.omitted.items())),
        notes=tuple(notes),
    )


def _add(file: Path, work: Path, done: _Progress, file_bytes: int) -> None:
    try:
        with open_recording(file) as recording:
            steps = align(recording)
            depth = recording.streams.get("depth")
            unit_m = depth.spec.depth_unit_m if depth is not None and depth else None
            features = _features(steps)
            if done.features and features != done.features:
                keys = {*features, *done.features}
                same = {k for k in keys if features.get(k) == done.features.get(k)}
                differ = sorted(keys - same)
                done.skipped.append(f"{file.name}: other streams ({', '.join(differ)})")
                return
            for name, stream in recording.streams.items():
                kept = len(steps) if name in _STEP_STREAMS else 0
                if len(stream) > kept:
                    done.omitted[f"samples of {name}"] += len(stream) - kept
    except DataError as error:
        done.skipped.append(f"{file.name}: {error.code} {error.what}")
        return
    if not done.features:
        done.features = features
        done.fps = max(1, round(1e9 / (median_step_ns(steps.stamp_ns) or 1e8)))
    _write_rows(steps, work, done, file_bytes)
    done.metadata.append(
        {
            "metadata": msgspec.Raw(metadata_to_json(steps.metadata)),
            "end_reason": steps.end_reason.value,
            "depth_unit_m": unit_m,
        }
    )


def _features(steps: EpisodeSteps) -> dict[str, Any]:
    width, height = colour_size(steps.image[0])
    axes = ["height", "width", "channels"]
    features: dict[str, Any] = {
        _MAIN: {"dtype": "image", "shape": [height, width, 3], "names": axes}
    }
    if steps.depth is not None:
        width, height = depth_size(steps.depth[0])
        shape = [height, width, 1]
        features[_DEPTH] = {"dtype": "image", "shape": shape, "names": axes}
    for key, names in (
        ("observation.state", steps.state_names),
        ("action", steps.action_names),
    ):
        if names:
            features[key] = {
                "dtype": "float32",
                "shape": [len(names)],
                "names": list(names),
            }
    for name in sorted(steps.skew_ns):
        features[f"skew_ns.{name}"] = {"dtype": "int64", "shape": [1], "names": None}
    return features | dict(FEATURES_OF_ROWS)


def _write_rows(
    steps: EpisodeSteps, work: Path, done: _Progress, file_bytes: int
) -> None:
    index = len(done.episodes)
    task = done.tasks.setdefault(steps.metadata.task, len(done.tasks))
    table = row_table(
        steps,
        fps=done.fps,
        episode_index=index,
        first_index=done.rows,
        task_index=task,
        pictures=(_MAIN, _DEPTH),
    )
    if done.writer is None or done.file_bytes + table.nbytes > file_bytes:
        if done.writer is not None:
            done.writer.close()
        done.file_index += 1
        done.file_bytes = 0
        path = work / _path(done.file_index)
        path.parent.mkdir(parents=True, exist_ok=True)
        done.writer = parquet().ParquetWriter(path, table.schema)
    done.writer.write_table(table, row_group_size=512)
    done.file_bytes += table.nbytes
    stats = episode_stats(table, done.features, steps)
    done.stats.append(stats)
    done.episodes.append(
        {
            "episode_index": index,
            "tasks": [steps.metadata.task],
            "length": len(steps),
            "data/chunk_index": done.file_index // _CHUNK_FILES,
            "data/file_index": done.file_index % _CHUNK_FILES,
            "dataset_from_index": done.rows,
            "dataset_to_index": done.rows + len(steps),
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            **{
                f"stats/{key}/{name}": value
                for key, table_of in stats.items()
                for name, value in table_of.items()
            },
        }
    )
    done.rows += len(steps)
    done.masked += int(np.count_nonzero(~steps.valid))


def _path(file_index: int) -> str:
    chunk, number = divmod(file_index, _CHUNK_FILES)
    return _DATA.format(chunk_index=chunk, file_index=number)


def _write_tables(work: Path, done: _Progress) -> None:
    import pyarrow as pa

    tables = work / "meta" / "episodes" / "chunk-000"
    tables.mkdir(parents=True)
    episodes = pa.Table.from_pylist(done.episodes)
    parquet().write_table(episodes, tables / "file-000.parquet")
    parquet().write_table(tasks_table(done.tasks), work / "meta" / "tasks.parquet")
    info = {
        "codebase_version": "v3.0",
        "robot_type": _robot(done),
        "total_episodes": len(done.episodes),
        "total_frames": done.rows,
        "total_tasks": len(done.tasks),
        "chunks_size": _CHUNK_FILES,
        "data_files_size_in_mb": _FILE_BYTES >> 20,
        "video_files_size_in_mb": 200,
        "fps": done.fps,
        "splits": {"train": f"0:{len(done.episodes)}"},
        "data_path": _DATA,
        "video_path": None,
        "features": done.features,
    }
    ours = {"software": f"continuon {continuon.__version__}", "episodes": done.metadata}
    for name, table in (
        ("info.json", info),
        ("stats.json", merged_stats(done.stats)),
        (OWN_FILE.name, ours),
    ):
        _write_json(work / "meta" / name, table)


def _robot(done: _Progress) -> str:
    first = msgspec.json.decode(bytes(done.metadata[0]["metadata"]))
    return str(first["robot_model"])


def _write_json(path: Path, table: Mapping[str, Any]) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(table)))
