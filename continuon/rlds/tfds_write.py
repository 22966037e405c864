"""Repackage recordings as a TFDS directory: nothing re-encoded, no TensorFlow."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
import numpy as np

import continuon
from continuon.errors import DataError, UsageError
from continuon.rlds.example import encode_example
from continuon.rlds.file_sink import sha256_of, sync_directory, write_atomic
from continuon.rlds.steps import EpisodeSteps, recordings_in, steps_of
from continuon.rlds.tfds_features import (
    EpisodeShape,
    episode_features,
    features_json,
    shape_of,
)
from continuon.rlds.tfds_read import read_tfds_steps
from continuon.rlds.tfrecord import frame

__all__ = ["ConversionReport", "Skipped", "convert"]

MAX_SEGMENT_BYTES = 3 << 29
"""1.5 GiB. TensorFlow reads an Example above 2 GiB as an episode without steps."""
MAX_SHARD_BYTES = 512 << 20
_VERSION = "1.0.0"
_MANIFEST = "manifest.json"


@attrs.frozen
class Skipped:
    """An episode that is not in the result, and why."""

    source: str
    code: str
    text: str

    def as_dict(self) -> dict[str, str]:
        """Return plain values for JSON."""
        return {"source": self.source, "code": self.code, "text": self.text}


@attrs.frozen(kw_only=True)
class ConversionReport:
    """What was converted; `is_fresh` is False where all of it was there already."""

    episodes: int
    steps: int
    bytes: int
    directory: Path
    manifest_path: Path
    read_back_equal: bool
    skipped: tuple[Skipped, ...]
    origins: tuple[str, ...]
    is_fresh: bool = True

    @property
    def exit_code(self) -> int:
        """0 where every episode was converted, 3 where one was quarantined."""
        return 3 if self.skipped else 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "episodes": self.episodes,
            "steps": self.steps,
            "bytes": self.bytes,
            "directory": str(self.directory),
            "manifest_path": str(self.manifest_path),
            "read_back_equal": self.read_back_equal,
            "skipped": [skipped.as_dict() for skipped in self.skipped],
            "origins": list(self.origins),
            "is_fresh": self.is_fresh,
            "exit_code": self.exit_code,
        }


def convert(
    input_dir: Path,
    output_dir: Path,
    *,
    compress: bool = False,
    name: str = "continuon",
    max_segment_bytes: int = MAX_SEGMENT_BYTES,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> ConversionReport:
    """Convert every recording in `input_dir` to `output_dir/name/1.0.0`.

    The directory is built under another name, read back, compared step by step with
    its source, and only then renamed. Run again on the same input it does nothing. An
    episode that cannot be read, or whose streams differ from the first one's, is left
    out and named.

    With `compress` the shards are gzipped: smaller, read by this library and by any
    TFRecord reader that is told so, but not by stock `tensorflow-datasets`, which has
    no such option.

    Raises:
        DataError: no recording at all, none usable, or what was written reads back
            differently.
        UsageError: a name that TFDS does not take.
    """
    if not name.isidentifier() or name.lower() != name:
        raise UsageError(
            "E-RLDS-CONVERT-001",
            "not a data set name",
            seen=name,
            allowed="lower-case letters, digits and _",
        )
    files = recordings_in(Path(input_dir))
    final = Path(output_dir) / name / _VERSION
    sources = {file.name: sha256_of(file) for file in files}
    settings = {"compress": compress, "max_segment_bytes": max_segment_bytes}
    previous = _previous(final, sources, settings)
    if previous is not None:
        return previous
    work = final.with_name(f".{_VERSION}.part")
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    writer = _DatasetWriter(work, name, compress=compress, shard_bytes=max_shard_bytes)
    skipped = []
    written: list[Path] = []
    steps_count = 0
    origins: set[str] = set()
    for file in files:
        try:
            steps = steps_of(file)
            writer.add(steps, max_segment_bytes)
        except DataError as error:
            skipped.append(Skipped(file.name, error.code, str(error)))
            continue
        written.append(file)
        steps_count += len(steps)
        origins.add(steps.metadata.origin.value)
    if not written:
        shutil.rmtree(work)
        raise DataError(
            "E-RLDS-CONVERT-002",
            "not one episode could be converted",
            where=input_dir,
            seen="; ".join(item.text for item in skipped[:3]),
        )
    writer.finish()
    _compare(work, written)
    manifest = {
        "schema_version": 1,
        "software": f"continuon {continuon.__version__}",
        "origins": sorted(origins),
        "settings": settings,
        "sources": sources,
        "skipped": [item.as_dict() for item in skipped],
        "episodes": len(written),
        "steps": steps_count,
        "files": {
            file.name: {"sha256": sha256_of(file), "bytes": file.stat().st_size}
            for file in sorted(work.iterdir())
        },
    }
    encoded = msgspec.json.format(msgspec.json.encode(manifest, order="sorted"))
    write_atomic(work / _MANIFEST, encoded)
    _publish(work, final)
    return _report(final, manifest, is_fresh=True)


def _report(final: Path, manifest: Any, *, is_fresh: bool) -> ConversionReport:
    return ConversionReport(
        episodes=manifest["episodes"],
        steps=manifest["steps"],
        bytes=sum(file["bytes"] for file in manifest["files"].values()),
        directory=final,
        manifest_path=final / _MANIFEST,
        read_back_equal=True,
        skipped=tuple(Skipped(**item) for item in manifest["skipped"]),
        origins=tuple(manifest["origins"]),
        is_fresh=is_fresh,
    )


def _previous(final: Path, sources: Any, settings: Any) -> ConversionReport | None:
    """Return the report of an earlier run on this input, its files checked."""
    path = final / _MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError:
        return None
    same = manifest.get("sources") == sources and manifest.get("settings") == settings
    files = manifest.get("files", {}) if same else {}
    whole = same and all(
        (final / name).is_file() and sha256_of(final / name) == facts["sha256"]
        for name, facts in files.items()
    )
    return _report(final, manifest, is_fresh=False) if whole else None


def _publish(work: Path, final: Path) -> None:
    """Rename the finished directory into place; an older one is set aside first."""
    sync_directory(work)
    old = final.with_name(f".{_VERSION}.old")
    if old.exists():
        shutil.rmtree(old)
    if final.exists():
        final.rename(old)
    work.rename(final)
    sync_directory(final.parent)
    if old.exists():
        shutil.rmtree(old)


def _compare(work: Path, files: Sequence[Path]) -> None:
    """Read the directory back and compare every field of every step."""
    parts = read_tfds_steps(work)
    for file in files:
        steps = steps_of(file, verify=False)  # its CRCs were checked when it was read
        start = 0
        while start < len(steps):
            part = next(parts, None)
            if part is None or not _equal(steps, start, part):
                raise DataError(
                    "E-RLDS-CONVERT-003",
                    "what was written reads back differently",
                    where=work,
                    seen=f"{file.name} from step {start}",
                    hint="the disk or the memory is faulty; nothing was published",
                )
            start += len(part)
    if next(parts, None) is not None:
        raise DataError(
            "E-RLDS-CONVERT-003", "more reads back than was written", where=work
        )


def _equal(steps: EpisodeSteps, start: int, part: EpisodeSteps) -> bool:
    rows = slice(start, start + len(part))
    columns = ("stamp_ns", "state", "action", "valid", "is_terminal")
    same = all(
        np.array_equal(
            getattr(steps, name)[rows],
            getattr(part, name),
            equal_nan=name in {"state", "action"},
        )
        for name in columns
    )
    skews = part.skew_ns
    return (
        same
        and len(part) > 0
        and steps.metadata == part.metadata
        and set(steps.skew_ns) == set(skews)
        and all(np.array_equal(steps.skew_ns[n][rows], skews[n]) for n in skews)
        and all(steps.image[start + i] == part.image[i] for i in range(len(part)))
        and _same_depth(steps, start, part)
    )


def _same_depth(steps: EpisodeSteps, start: int, part: EpisodeSteps) -> bool:
    if steps.depth is None or part.depth is None:
        return steps.depth is part.depth
    depth, other = steps.depth, part.depth
    return all(depth[start + i] == other[i] for i in range(len(part)))


class _DatasetWriter:
    """Writes shards of whole episodes (or parts of long ones), then the tables."""

    def __init__(
        self, directory: Path, name: str, *, compress: bool, shard_bytes: int
    ) -> None:
        self._directory = directory
        self._name = name
        self._compress = compress
        self._shard_bytes = shard_bytes
        self._shape: EpisodeShape | None = None
        self._lengths: list[int] = []
        self._sizes: list[int] = []
        self._payload_bytes = 0

    def add(self, steps: EpisodeSteps, max_segment_bytes: int) -> None:
        """Write one episode.

        Raises:
            DataError: its streams are not those of the first episode.
        """
        shape = shape_of(steps)
        if self._shape is not None and shape != self._shape:
            differ = [key for key in shape if shape[key] != self._shape[key]]
            raise DataError(
                "E-RLDS-CONVERT-004",
                "this episode's streams differ from the first one's",
                where=steps.source_path,
                seen={key: shape[key] for key in differ},
                allowed={key: self._shape[key] for key in differ},
                hint="convert it into a data set of its own (--name)",
            )
        self._shape = shape
        for start, stop in _parts(steps, max_segment_bytes):
            example = encode_example(episode_features(steps, start=start, stop=stop))
            self._append(frame(example.parts, example.size), example.size)

    def finish(self) -> None:
        """Write the tables and give the shards their final names."""
        assert self._shape is not None
        total = len(self._lengths)
        for number in range(total):
            name = f"{self._name}-train.tfrecord-{number:05d}-of-{total:05d}"
            self._shard(number).rename(self._directory / name)
        split = {
            "name": "train",
            "shardLengths": [str(length) for length in self._lengths],
            "numBytes": str(self._payload_bytes),
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        }
        info = {
            "name": self._name,
            "version": _VERSION,
            "fileFormat": "tfrecord",
            "splits": [split],
        }
        for name, table in (
            ("dataset_info.json", info),
            ("features.json", features_json(self._shape)),
            ("continuon.json", self._shape),
        ):
            encoded = msgspec.json.format(msgspec.json.encode(table))
            write_atomic(self._directory / name, encoded)

    def _shard(self, number: int) -> Path:
        return self._directory / f".shard-{number:05d}"

    def _append(self, buffers: Sequence[Any], size: int) -> None:
        if not self._lengths or self._sizes[-1] + size > self._shard_bytes:
            self._lengths.append(0)
            self._sizes.append(0)
        path = self._shard(len(self._lengths) - 1)
        if self._compress:
            with (
                path.open("ab") as raw,
                gzip.GzipFile("", "wb", 6, raw, mtime=0) as file,
            ):
                file.writelines(buffers)
        else:
            with path.open("ab") as raw:
                raw.writelines(buffers)
                raw.flush()
                os.fdatasync(raw.fileno())
        self._lengths[-1] += 1
        self._sizes[-1] += size
        self._payload_bytes += size


def _parts(steps: EpisodeSteps, limit: int) -> Iterator[tuple[int, int]]:
    """Yield spans of steps whose blobs stay below `limit` bytes, at least one each."""
    start = size = 0
    for row in range(len(steps)):
        blobs = len(steps.image[row])
        if steps.depth is not None:
            blobs += len(steps.depth[row])
        step = blobs + 1024 + 8 * (steps.state.shape[1] + steps.action.shape[1])
        if row > start and size + step > limit:
            yield start, row
            start, size = row, 0
        size += step
    yield start, len(steps)
