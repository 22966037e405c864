"""Import a LeRobot data set, v2 or v3: Parquet rows, and a film or pictures a camera.

Its `timestamp` is the row's number over the frame rate, made when the row was written,
not when anything was measured; the steps are stamped so and said to be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.rlds.episode import (
    ACTION,
    DEPTH,
    NOMINAL_CLOCK,
    RGB,
    STATE,
    Codec,
    EndReason,
)
from continuon.rlds.importers.facts import digest_of_files, imported_metadata
from continuon.rlds.importers.film import Film
from continuon.rlds.importers.harvest import Harvest, ImportOptions, Located
from continuon.rlds.importers.lerobot_own import OwnWords, own_words
from continuon.rlds.importers.lerobot_tables import (
    LeRobotEpisode,
    LeRobotInfo,
    episodes_in,
    parquet,
    read_info,
    task_texts,
)
from continuon.rlds.importers.locate import Format
from continuon.rlds.importers.table import (
    Pictures,
    StepTable,
    component_names,
    episodes_of,
    nominal_stamps,
    text_spans,
    usable_name,
)
from continuon.rlds.importers.unpack import is_file_name
from continuon.rlds.importers.write import ImportedEpisode
from continuon.rlds.png16 import DEPTH_KINDS
from continuon.rlds.png_file import is_png, png_header

__all__ = ["import_lerobot"]

_TRUE_STAMPS, _VALID = "capture_ns", "valid"
"""A column of our own exports: when each step was captured."""
_OWN = {
    "timestamp",
    "frame_index",
    "episode_index",
    "index",
    "task_index",
    _TRUE_STAMPS,
}
_MAX_STAMP_ERROR_S = 1e-3
_NAMES = {"observation.state": STATE, "action": ACTION}


def import_lerobot(
    found: Located, harvest: Harvest, options: ImportOptions
) -> Iterator[ImportedEpisode]:
    """Yield the episodes whose rows are there; absent and damaged files are named.

    Raises:
        DataError: its tables are absent or damaged.
        MissingPackageError: pyarrow or av is not installed.
    """
    root = found.root
    tables = parquet()
    info = read_info(root)
    episodes = list(episodes_in(root, info))
    files = sorted(
        path
        for folder in ("meta", "data", "videos", "images")
        for path in (root / folder).rglob("*")
        if path.is_file()
    )
    reader = _Reader(
        found=found,
        info=info,
        tasks=task_texts(root, info),
        digest=digest_of_files(files, root),
        harvest=harvest,
        options=options,
        own=own_words(root, harvest),
    )
    wanted = {episode.data for episode in episodes}
    wanted |= {film.path for episode in episodes for film in episode.films.values()}
    for path in sorted(wanted):
        if not path.is_file():
            harvest.lose("E-RLDS-LOSS-002", str(path.relative_to(root)))
    cached: tuple[Path, Any] | None = None
    for episode in episodes:
        if not episode.data.is_file():
            continue
        if cached is None or cached[0] != episode.data:
            try:
                cached = (episode.data, tables.read_table(episode.data))
            except (OSError, ValueError) as error:
                what = f"{episode.data.relative_to(root)} ({str(error)[:80]})"
                harvest.lose("E-RLDS-LOSS-003", what)
                cached = (episode.data, None)
        if cached[1] is not None:
            table = reader.table(episode, cached[1])
            if table is not None:
                yield from episodes_of(table, harvest)


@attrs.frozen(kw_only=True)
class _Reader:
    """Turns an episode's rows and films into a table of steps."""

    found: Located
    info: LeRobotInfo
    tasks: Mapping[int, str]
    digest: str
    harvest: Harvest
    options: ImportOptions
    own: Mapping[int, OwnWords]

    def table(self, episode: LeRobotEpisode, rows: Any) -> StepTable | None:
        """Return the table, None where rows and tables contradict each other."""
        if "episode_index" in rows.column_names:
            mine = np.asarray(rows.column("episode_index")) == episode.index
            rows = rows.filter(mine)
        count = rows.num_rows
        if not count or count != episode.length:
            what = f"episode {episode.index}: {count} rows of {episode.length}"
            self.harvest.lose("E-RLDS-LOSS-004", what)
            return None
        facts = {
            "episode_index": str(episode.index),
            "codebase_version": self.info.version,
            "nominal_rate_hz": f"{self.info.fps:g}",
        }
        vectors, names = self._vectors(rows, facts)
        pictures = self._pictures(episode, rows, facts)
        stamps = self._true_stamps(rows)
        done = vectors.get("next.done")
        is_done = done is not None and bool(done.reshape(count, -1)[-1, 0])
        fps = self.info.fps
        metadata = imported_metadata(
            Format.LEROBOT,
            self.found.name,
            self.digest,
            episode.index,
            stamp_source="nominal" if stamps is None else "capture",
            task=self._task(episode, rows, facts),
            robot_model=self.info.robot_type,
            control_rate_hz=fps,
            camera_rate_hz=fps if pictures else None,
            facts=facts,
        )
        end = EndReason.COMPLETE if is_done else EndReason.STOPPED
        own, masked = self.own.get(episode.index), None
        if own is not None:
            metadata, end = own.taken_into(metadata), own.end_reason
            masked = _masked(vectors.get(_VALID))
        return StepTable(
            metadata=metadata,
            stamp_ns=nominal_stamps(count, fps) if stamps is None else stamps,
            vectors=vectors,
            names=names,
            pictures=pictures,
            clock=NOMINAL_CLOCK if stamps is None else "host",
            end_reason=end,
            rate_hz=fps,
            jpeg_quality=self.options.jpeg_quality or 95,
            masked=masked,
        )

    def _true_stamps(self, rows: Any) -> NDArray[np.int64] | None:
        """Return measured capture times where the data set has them, else None."""
        if _TRUE_STAMPS in rows.column_names:
            column = rows.column(_TRUE_STAMPS)
            stamps = np.asarray(column)
            if stamps.dtype == np.int64 and not column.null_count:
                return stamps
        self.harvest.note(
            f"stamps are nominal, row number over {self.info.fps:g} Hz: "
            "nobody measured them"
        )
        return None

    def _task(self, episode: LeRobotEpisode, rows: Any, facts: dict[str, str]) -> str:
        texts = list(episode.tasks)
        if "task_index" in rows.column_names:
            numbers = np.asarray(rows.column("task_index")).tolist()
            texts = [self.tasks.get(number, "") for number in numbers]
        task = next((text for text in texts if text), "")
        if len(set(texts)) > 1 and len(texts) == rows.num_rows:
            facts["text:task"] = text_spans(texts)
        if not task and episode.tasks:
            task = episode.tasks[0]
        return task

    def _vectors(
        self, rows: Any, facts: dict[str, str]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[str, ...]]]:
        vectors: dict[str, NDArray[Any]] = {}
        names: dict[str, tuple[str, ...]] = {}
        for field in rows.column_names:
            node = self.info.features.get(field, {})
            if field in _OWN or node.get("dtype") == "image":
                continue
            values = _numbers(rows.column(field))
            if values is None:
                self._words(field, rows.column(field), facts)
                continue
            stream = _NAMES.get(field) or usable_name(field, tuple(vectors))
            vectors[stream] = values
            names[stream] = component_names(field, values.shape[1], node.get("names"))
            facts[f"stream:{stream}"] = field
        self._check_stamps(rows)
        return vectors, names

    def _check_stamps(self, rows: Any) -> None:
        """Say so where the source's stamps are not the nominal ones it gets here."""
        if "timestamp" not in rows.column_names:
            return
        said = np.asarray(rows.column("timestamp")).astype(np.float64).reshape(-1)
        off = np.abs(said - said[0] - np.arange(len(said)) / self.info.fps)
        if off.max() > _MAX_STAMP_ERROR_S:
            self.harvest.lose(
                "E-RLDS-LOSS-014", f"timestamps off the grid by {off.max():.3f} s"
            )

    def _words(self, field: str, column: Any, facts: dict[str, str]) -> None:
        texts = column.to_pylist()
        if all(isinstance(text, str) for text in texts):
            facts[f"text:{field}"] = text_spans(texts)
        else:
            self.harvest.lose("E-RLDS-LOSS-008", field)

    def _pictures(
        self, episode: LeRobotEpisode, rows: Any, facts: dict[str, str]
    ) -> dict[str, Pictures]:
        """Return pictures by stream; the first camera that is there is `rgb`."""
        cameras = [
            key
            for key, node in self.info.features.items()
            if node.get("dtype") in {"video", "image"}
        ]
        self.options.check_named("camera", cameras)
        wanted = self.options.camera
        pictures: dict[str, Pictures] = {}
        for key in sorted(cameras, key=lambda key: (key != wanted, key)):
            node = self.info.features[key]
            found = (
                self._film(episode, key, rows, node)
                if node["dtype"] == "video"
                else self._images(episode, key, rows)
            )
            if found is None:
                continue
            main = DEPTH if found.codec is Codec.PNG16 else RGB
            name = usable_name(key, tuple(pictures)) if main in pictures else main
            pictures[name] = found
            facts[f"stream:{name}"] = key
        return pictures

    def _film(
        self, episode: LeRobotEpisode, key: str, rows: Any, node: Mapping[str, Any]
    ) -> Pictures | None:
        film = episode.films[key]
        if not film.path.is_file():
            return None
        facts = {**node.get("info", {}), **node.get("video_info", {})}
        if facts.get("video.is_depth_map"):
            self.harvest.lose("E-RLDS-LOSS-008", f"{key}, a film of depth")
            return None
        times = film.start_s + np.arange(rows.num_rows) / self.info.fps
        try:
            frames = Film(film.path, times, tolerance_s=0.4 / self.info.fps)
        except DataError as error:
            name = film.path.relative_to(self.found.root)
            self.harvest.lose("E-RLDS-LOSS-003", f"{name} ({error.what})")
            return None
        known = frames.known()
        self.harvest.lose("E-RLDS-LOSS-015", key, known.count(False))
        codec = Codec.PNG
        if self.options.jpeg_quality is not None:
            codec = Codec.JPEG
            self.harvest.lose("E-RLDS-LOSS-010", key, known.count(True))
        return Pictures(codec=codec, frames=frames)

    def _images(self, episode: LeRobotEpisode, key: str, rows: Any) -> Pictures | None:
        if key not in rows.column_names:
            return None
        frames = [self._blob(value) for value in rows.column(key).to_pylist()]
        first = next((frame for frame in frames if frame), b"")
        codec = Codec.JPEG
        if is_png(first):
            is_deep = png_header(first).pixel in DEPTH_KINDS
            codec = Codec.PNG16 if is_deep else Codec.PNG
        own = self.own.get(episode.index)
        unit_m = self.options.depth_unit_m or (own and own.depth_unit_m)
        if codec is Codec.PNG16 and unit_m is None:
            self.harvest.note("depth does not state its unit: taken as 1 mm")
        return Pictures(codec=codec, frames=frames, depth_unit_m=unit_m or 0.001)

    def _blob(self, value: Any) -> bytes | None:
        if not isinstance(value, dict):
            return None
        if value.get("bytes"):
            return bytes(value["bytes"])
        parts = str(value.get("path") or "").split("/")
        path = self.found.root.joinpath(*parts)
        harmless = all(map(is_file_name, parts))
        return path.read_bytes() if harmless and path.is_file() else None


def _masked(valid: NDArray[Any] | None) -> NDArray[np.bool_] | None:
    """Return bool [T], the steps that our own `valid` column says are not."""
    return None if valid is None else np.equal(valid.reshape(len(valid), -1)[:, 0], 0)


def _numbers(column: Any) -> NDArray[Any] | None:
    """Return a column as numbers [rows, n], None where it holds something else."""
    count = len(column)
    flat = column.combine_chunks()
    while hasattr(flat.type, "value_type"):
        if flat.null_count or len(set(map(len, flat.to_pylist()))) != 1:
            return None
        flat = flat.flatten()
    known = ("float", "double", "halffloat", "int", "uint", "bool")
    if not str(flat.type).startswith(known) or flat.null_count:
        return None
    values: NDArray[Any] = flat.to_numpy(zero_copy_only=False)
    return values.reshape(count, -1)
