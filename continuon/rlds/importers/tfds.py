"""Import a TFDS/RLDS data set (Bridge, Open X-Embodiment): steps as their builder put.

The layout is RLDS's (github.com/google-research/rlds, "Dataset format"): an episode
with nested `steps`, each with `observation`, `action`, `reward`, `discount` and flags;
everything else is free. Pictures are copied as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import msgspec
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
from continuon.rlds.importers.harvest import Harvest, ImportOptions, Located
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
from continuon.rlds.importers.write import ImportedEpisode
from continuon.rlds.png_file import is_png
from continuon.rlds.tfds_read import TfdsDirectory, open_tfds, read_columns

__all__ = ["import_tfds"]

_STEPS = "steps/"
_FLAGS = ("is_first", "is_last", "is_terminal")
_STATES = ("observation/state", "observation/proprio", "observation/robot_state")
_INSTRUCTIONS = ("language_instruction", "natural_language_instruction", "instruction")
_STAMP = "observation/stamp_ns"
_MAX_TEXT_BYTES = 1 << 16

Columns = Mapping[str, Any]


def import_tfds(
    found: Located, harvest: Harvest, options: ImportOptions
) -> Iterator[ImportedEpisode]:
    """Yield the episodes of all shards that are there.

    Raises:
        DataError: its tables are damaged, or this library wrote it.
    """
    directory = open_tfds(found.root)
    if directory.shape is not None:
        raise DataError(
            "E-RLDS-IMPORT-010",
            "this data set was written by continuon and needs no import",
            where=found.where,
            hint="every command that takes episodes reads it as it is",
        )
    for name in directory.missing:
        harvest.lose("E-RLDS-LOSS-002", name)
    tables = [found.root / "features.json", found.root / "dataset_info.json"]
    shards = [file for file, _ in directory.shards]
    digest = digest_of_files([*tables, *shards], found.root)
    reader = _Reader(found, directory, digest, harvest, options)
    for ordinal, columns in enumerate(_columns(directory, harvest)):
        table = reader.table(columns, ordinal)
        if table is not None:
            yield from episodes_of(table, harvest)


def _columns(directory: TfdsDirectory, harvest: Harvest) -> Iterator[Columns]:
    """Yield the records of each shard up to its damage."""
    for shard in directory.shards:
        try:
            yield from read_columns(attrs.evolve(directory, shards=(shard,)))
        except DataError as error:
            harvest.lose("E-RLDS-LOSS-003", f"{shard[0].name} ({error.what})")


@attrs.frozen
class _Reader:
    """Turns one record's columns into a table of steps."""

    found: Located
    directory: TfdsDirectory
    digest: str
    harvest: Harvest
    options: ImportOptions

    def table(self, columns: Columns, ordinal: int) -> StepTable | None:
        """Return the record's table, None where it is no episode."""
        steps = {
            path.removeprefix(_STEPS): value
            for path, value in columns.items()
            if path.startswith(_STEPS) and len(value)
        }
        fields = {path: value for path, value in steps.items() if self._is_plain(path)}
        for path in sorted(set(steps) - set(fields)):
            self.harvest.lose("E-RLDS-LOSS-008", path)
        count = max(map(len, fields.values()), default=0)
        uneven = sorted(path for path, value in fields.items() if len(value) != count)
        actions = {p: v for p, v in fields.items() if p.split("/")[0] == ACTION}
        if not count or not actions or set(uneven) & set(actions):
            what = f"episode {ordinal}: {count} steps, actions {sorted(actions)}"
            self.harvest.lose("E-RLDS-LOSS-004", what)
            return None
        for path in uneven:
            self.harvest.lose("E-RLDS-LOSS-008", f"{path} of another length")
            del fields[path]
        return self._table(columns, fields, count, ordinal)

    def _is_plain(self, path: str) -> bool:
        """Return whether a field has one value a step, of a kind that we hold."""
        node = self.directory.kinds[_STEPS + path]
        if "tensor" in node:
            return bool(node["tensor"].get("encoding", "none") == "none")
        return "image" in node or "text" in node

    def _table(
        self, columns: Columns, fields: dict[str, Any], count: int, ordinal: int
    ) -> StepTable:
        texts = {p: v for p, v in fields.items() if isinstance(v, list)}
        pictures = {p: v for p, v in texts.items() if self._is_picture(p)}
        numbers = {p: v for p, v in fields.items() if p not in texts}
        words = {p: _texts(v) for p, v in texts.items() if p not in pictures}
        task, facts = self._words(words)
        facts |= self._episode_facts(columns)
        stamps, source = self._stamps(numbers, count)
        vectors, names = self._vectors(numbers, facts)
        by_stream = self._pictures(pictures, facts)
        return StepTable(
            metadata=imported_metadata(
                Format.TFDS,
                self.directory.name,
                self.digest,
                ordinal,
                stamp_source=source,
                task=task,
                facts=facts,
            ),
            stamp_ns=stamps,
            vectors=vectors,
            names=names,
            pictures=by_stream,
            clock=NOMINAL_CLOCK if source == "nominal" else "host",
            end_reason=self._end(numbers),
        )

    def _is_picture(self, path: str) -> bool:
        return "image" in self.directory.kinds[_STEPS + path]

    def _words(self, words: Mapping[str, Sequence[str]]) -> tuple[str, dict[str, str]]:
        """Return (the task, all texts that change or are not the task)."""
        facts: dict[str, str] = {}
        task = ""
        for path, texts in sorted(words.items()):
            is_task = path.rpartition("/")[2] in _INSTRUCTIONS
            if is_task and not task:
                task = next((text for text in texts if text), "")
            if is_task and set(texts) == {task}:
                continue
            spans = text_spans(texts)
            if len(spans) > _MAX_TEXT_BYTES:
                self.harvest.lose("E-RLDS-LOSS-008", path)
                continue
            facts[f"text:{path}"] = spans
        return task, facts

    def _episode_facts(self, columns: Columns) -> dict[str, str]:
        """Return what stands beside the steps, as text."""
        facts = {}
        for path, value in columns.items():
            if path.startswith(_STEPS) or not len(value):
                continue
            values = _texts(value) if isinstance(value, list) else value.tolist()
            text = msgspec.json.encode(values[0] if len(values) == 1 else values)
            if len(text) > _MAX_TEXT_BYTES:
                self.harvest.lose("E-RLDS-LOSS-008", path)
            else:
                facts[path] = text.decode()
        return facts

    def _stamps(
        self, numbers: dict[str, NDArray[Any]], count: int
    ) -> tuple[NDArray[np.int64], str]:
        stamp = numbers.get(_STAMP)
        if stamp is not None and stamp.ndim == 1 and (np.diff(stamp) > 0).all():
            del numbers[_STAMP]
            return stamp.astype(np.int64), "capture"
        self.harvest.note(
            f"the source has no times: steps are stamped at a nominal "
            f"{self.options.rate_hz:g} Hz, from which no rate or speed follows"
        )
        return nominal_stamps(count, self.options.rate_hz), "nominal"

    def _vectors(
        self, numbers: Mapping[str, NDArray[Any]], facts: dict[str, str]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[str, ...]]]:
        """Return numbers by stream, and the names of their components."""
        flat = {path: v.reshape(len(v), -1) for path, v in numbers.items()}
        groups: dict[str, list[str]] = {}
        state = next((path for path in _STATES if path in flat), None)
        for path in sorted(flat):
            if path.split("/")[0] == ACTION:
                groups.setdefault(ACTION, []).append(path)
            elif path == state:
                groups.setdefault(STATE, []).append(path)
            elif path in _FLAGS:
                groups.setdefault("rlds_flags", []).append(path)
            else:
                groups.setdefault(usable_name(path, tuple(groups)), []).append(path)
        vectors, names = {}, {}
        for stream, paths in groups.items():
            vectors[stream] = np.concatenate([flat[path] for path in paths], axis=1)
            parts = [component_names(path, flat[path].shape[1]) for path in paths]
            joined = tuple(name for part in parts for name in part)
            names[stream] = (
                joined
                if len(set(joined)) == len(joined)
                else component_names(stream, len(joined))
            )
            facts[f"stream:{stream}"] = ", ".join(paths)
        return vectors, names

    def _pictures(
        self, fields: Mapping[str, Any], facts: dict[str, str]
    ) -> dict[str, Pictures]:
        """Return pictures by stream; the first colour camera is `rgb`."""
        pictures: dict[str, Pictures] = {}
        self.options.check_named("camera", fields)
        wanted = self.options.camera
        order = sorted(fields, key=lambda path: (path != wanted, path))
        for path in order:
            image = self.directory.kinds[_STEPS + path]["image"]
            frames = [bytes(blob) or None for blob in fields[path]]
            is_deep = image.get("dtype") == "uint16"
            first = next((frame for frame in frames if frame), b"")
            codec = Codec.PNG if is_png(first) else Codec.JPEG
            codec = Codec.PNG16 if is_deep else codec
            main = DEPTH if is_deep else RGB
            name = main if main not in pictures else usable_name(path, tuple(pictures))
            unit = self.options.depth_unit_m or 0.001
            if is_deep and self.options.depth_unit_m is None:
                self.harvest.note("depth does not state its unit: taken as 1 mm")
            pictures[name] = Pictures(codec=codec, frames=frames, depth_unit_m=unit)
            facts[f"stream:{name}"] = path
        return pictures

    def _end(self, numbers: Mapping[str, NDArray[Any]]) -> EndReason:
        """Return how the episode ended, by its last flags."""
        last = {
            name: bool(numbers[name].reshape(len(numbers[name]), -1)[-1, 0])
            for name in _FLAGS
            if name in numbers
        }
        if last.get("is_terminal"):
            return EndReason.COMPLETE
        if last.get("is_last"):
            return EndReason.TIME_LIMIT
        self.harvest.note("some episodes end without is_last: they are slices")
        return EndReason.SLICE


def _texts(blobs: Sequence[Any]) -> list[str]:
    return [bytes(blob).decode(errors="replace") for blob in blobs]
