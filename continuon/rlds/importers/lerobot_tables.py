"""The tables of a LeRobot data set, v2 and v3: which rows and films are an episode.

v2: a Parquet file and a film per camera for each episode, `meta/*.jsonl`. v3: many
episodes a file, `meta/episodes/**.parquet` says which rows and which stretch of a film
(docs of LeRobotDataset v3.0). Nothing is decoded here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import attrs
import msgspec

from continuon.errors import DataError, MissingPackageError
from continuon.rlds.importers.unpack import is_path

__all__ = [
    "FilmRef",
    "LeRobotEpisode",
    "LeRobotInfo",
    "episodes_in",
    "parquet",
    "read_info",
    "task_texts",
]


@attrs.frozen(kw_only=True)
class LeRobotInfo:
    """What `meta/info.json` says."""

    version: str
    fps: float
    features: Mapping[str, Mapping[str, Any]]
    data_path: str
    video_path: str
    robot_type: str
    chunks_size: int
    total_episodes: int

    @property
    def is_v3(self) -> bool:
        """True where files hold many episodes."""
        return self.version.startswith("v3")

    def films(self) -> list[str]:
        """Return the features that are films."""
        return [k for k, f in self.features.items() if f.get("dtype") == "video"]


@attrs.frozen
class FilmRef:
    """A film, and the time in it at which the episode starts."""

    path: Path
    start_s: float


@attrs.frozen(kw_only=True)
class LeRobotEpisode:
    """Where an episode's rows and films lie; `length` as the tables promise it."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    films: Mapping[str, FilmRef]


def parquet() -> ModuleType:
    """Return `pyarrow.parquet`.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as found
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "pyarrow", "lerobot", purpose="reading Parquet"
        ) from error
    return found  # type: ignore[no-any-return]


def read_info(root: Path) -> LeRobotInfo:
    """Read `meta/info.json`.

    Raises:
        DataError: damaged, or of a version before 2.
    """
    path = root / "meta" / "info.json"
    facts = _json(path)
    version = str(facts.get("codebase_version", ""))
    if not version.startswith(("v2", "v3")):
        raise DataError(
            "E-RLDS-LEROBOT-002",
            "this version of LeRobot's format is not read",
            where=path,
            seen=version,
            allowed="v2.x, v3.x",
        )
    try:
        info = LeRobotInfo(
            version=version,
            fps=float(facts["fps"]),
            features={str(k): dict(f) for k, f in facts["features"].items()},
            data_path=str(facts["data_path"]),
            video_path=str(facts.get("video_path") or ""),
            robot_type=str(facts.get("robot_type") or "unknown"),
            chunks_size=int(facts.get("chunks_size") or 1000),
            total_episodes=int(facts.get("total_episodes") or 0),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _bad(path, f"{type(error).__name__} {error}") from error
    if not 0 < info.fps < 10_000:
        raise _bad(path, f"{info.fps} frames a second")
    return info


def episodes_in(root: Path, info: LeRobotInfo) -> Iterator[LeRobotEpisode]:
    """Yield the episodes that the tables name, whether their files are there or not.

    Raises:
        DataError: a table is absent or damaged, or a path leads out of the folder.
    """
    rows = _rows_v3(root) if info.is_v3 else _rows_v2(root, info)
    for row in rows:
        try:
            episode = _episode(root, info, row)
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, IndexError) as error:
            where = root / "meta"
            raise _bad(where, f"a row of the episodes: {error}") from error
        yield episode


def task_texts(root: Path, info: LeRobotInfo) -> dict[int, str]:
    """Return the text of each task by its number; {} where the table is absent.

    Raises:
        DataError: the table is damaged.
    """
    path = root / "meta" / ("tasks.parquet" if info.is_v3 else "tasks.jsonl")
    if not path.is_file():
        return {}
    rows = _table(path).to_pylist() if info.is_v3 else list(_lines(path))
    try:
        return {
            int(row["task_index"]): str(row.get("task", row.get("__index_level_0__")))
            for row in rows
        }
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(path, f"a row: {type(error).__name__} {error}") from error


def _episode(root: Path, info: LeRobotInfo, row: Mapping[str, Any]) -> LeRobotEpisode:
    index = int(row["episode_index"])
    where: dict[str, Any] = {
        "episode_index": index,
        "episode_chunk": index // info.chunks_size,
        "chunk_index": row.get("data/chunk_index"),
        "file_index": row.get("data/file_index"),
    }
    films = {}
    for key in info.films():
        at = where | {"video_key": key}
        start = 0.0
        if info.is_v3:
            at["chunk_index"] = row[f"videos/{key}/chunk_index"]
            at["file_index"] = row[f"videos/{key}/file_index"]
            start = float(row[f"videos/{key}/from_timestamp"])
        films[key] = FilmRef(_below(root, info.video_path.format(**at)), start)
    tasks = row.get("tasks") or ()
    return LeRobotEpisode(
        index=index,
        length=int(row["length"]),
        tasks=tuple(str(task) for task in tasks),
        data=_below(root, info.data_path.format(**where)),
        films=films,
    )


def _below(root: Path, path: str) -> Path:
    if not is_path(PurePosixPath(path)):
        raise _bad(root / "meta", f"a path that leads out of it: {path[:80]}")
    return root / path


def _rows_v2(root: Path, info: LeRobotInfo) -> Iterator[Mapping[str, Any]]:
    path = root / "meta" / "episodes.jsonl"
    seen = 0
    for row in _lines(path):
        seen += 1
        yield row
    if seen < info.total_episodes:
        raise _bad(path, f"{seen} episodes of {info.total_episodes}")


def _rows_v3(root: Path) -> Iterator[Mapping[str, Any]]:
    files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise _bad(root / "meta" / "episodes", "there is no table of episodes")
    for file in files:
        table = _table(file)
        kept = [c for c in table.column_names if not c.startswith("stats/")]
        yield from table.select(kept).to_pylist()


def _table(path: Path) -> Any:
    module = parquet()
    try:
        return module.read_table(path)
    except (OSError, ValueError) as error:
        raise _bad(path, str(error)) from error


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        rows = [
            msgspec.json.decode(line)
            for line in path.read_bytes().splitlines()
            if line.strip()
        ]
    except FileNotFoundError as error:
        raise _bad(path, "it is absent") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(path, str(error)) from error
    yield from _objects(rows, path)


def _objects(rows: Sequence[Any], path: Path) -> Iterator[Mapping[str, Any]]:
    for row in rows:
        if not isinstance(row, dict):
            raise _bad(path, "a line is no object")
        yield row


def _json(path: Path) -> dict[str, Any]:
    try:
        facts = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(path, str(error)) from error
    if not isinstance(facts, dict):
        raise _bad(path, "no object")
    return facts


def _bad(path: Path, why: str) -> DataError:
    return DataError(
        "E-RLDS-LEROBOT-001",
        f"a table of this LeRobot data set cannot be used: {why}",
        where=path,
    )
