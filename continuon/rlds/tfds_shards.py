"""Shards of Examples and the tables beside them: the files of a TFDS directory."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from continuon.durable import replace_file
from continuon.errors import DataError
from continuon.rlds.example import encode_example
from continuon.rlds.file_sink import FileSink, sha256_of
from continuon.rlds.steps import EpisodeSteps
from continuon.rlds.tfds_features import (
    EpisodeShape,
    episode_features,
    features_json,
    shape_of,
)
from continuon.rlds.tfrecord import frame
from continuon.rlds.wire import Buffer

__all__ = ["VERSION", "DatasetWriter"]

VERSION = "1.0.0"


class DatasetWriter:
    """Writes shards of whole episodes (or parts of long ones), then the tables."""

    def __init__(
        self,
        directory: Path,
        name: str,
        *,
        compress: bool,
        shard_bytes: int,
        depth_form: str = "png",
    ) -> None:
        self._directory = directory
        self._name = name
        self._compress = compress
        self._depth_form = depth_form
        self._shard_bytes = shard_bytes
        self._shape: EpisodeShape | None = None
        self._lengths: list[int] = []
        self._sizes: list[int] = []
        self._payload_bytes = 0
        self._sink: FileSink | None = None
        self._digests: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._sink is not None:
            self._sink.close()

    def add(self, steps: EpisodeSteps, max_segment_bytes: int) -> None:
        """Write one episode.

        Raises:
            DataError: its streams are not those of the first episode.
        """
        shape = shape_of(steps, depth_form=self._depth_form)
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
            features = episode_features(
                steps, start=start, stop=stop, depth_form=self._depth_form
            )
            example = encode_example(features)
            self._append(frame(example.parts, example.size), example.size)

    def finish(self) -> dict[str, str]:
        """Write the tables, name the shards; returns the SHA-256 of every file."""
        assert self._shape is not None
        self._close_shard()
        total = len(self._lengths)
        digests: dict[str, str] = {}
        for number, digest in enumerate(self._digests):
            name = f"{self._name}-train.tfrecord-{number:05d}-of-{total:05d}"
            self._shard(number).rename(self._directory / name)
            digests[name] = digest
        split = {
            "name": "train",
            "shardLengths": [str(length) for length in self._lengths],
            "numBytes": str(self._payload_bytes),
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        }
        info = {
            "name": self._name,
            "version": VERSION,
            "fileFormat": "tfrecord",
            "splits": [split],
        }
        for name, table in (
            ("dataset_info.json", info),
            ("features.json", features_json(self._shape)),
            ("continuon.json", self._shape),
        ):
            encoded = msgspec.json.format(msgspec.json.encode(table))
            replace_file(self._directory / name, encoded)
            digests[name] = sha256_of(self._directory / name)
        return digests

    def _shard(self, number: int) -> Path:
        return self._directory / f".shard-{number:05d}"

    def _append(self, buffers: Sequence[Buffer], size: int) -> None:
        if self._sink is None or self._sizes[-1] + size > self._shard_bytes:
            self._close_shard()
            self._sink = FileSink(self._shard(len(self._lengths)), hashes=True)
            self._lengths.append(0)
            self._sizes.append(0)
        self._sink.append([_gzipped(buffers)] if self._compress else buffers)
        self._lengths[-1] += 1
        self._sizes[-1] += size
        self._payload_bytes += size

    def _close_shard(self) -> None:
        """Bring the open shard to the disk; its digest was taken as it was written."""
        if self._sink is not None:
            self._sink.datasync()
            self._digests.append(self._sink.digest())
            self._sink.close()
            self._sink = None


def _gzipped(buffers: Sequence[Buffer]) -> bytes:
    """Return one gzip member; a shard is such members one after the other."""
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", 6, packed, mtime=0) as file:
        file.writelines(buffers)
    return packed.getvalue()


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
