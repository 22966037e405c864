"""Open a finished recording: streams as columns, images as views into the file."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, overload, runtime_checkable

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import ClockOffset
from continuon.errors import DataError
from continuon.rlds import foxglove
from continuon.rlds.episode import Codec, EndReason, EpisodeMetadata, StreamSpec
from continuon.rlds.layout import (
    PART_SUFFIX,
    Opening,
    clock_channel,
    read_closing,
    read_opening,
)
from continuon.rlds.mcap_read import McapContents, MessageAt, scan_mcap
from continuon.rlds.wire import Buffer

__all__ = [
    "BlobSequence",
    "InPlace",
    "Recording",
    "Stream",
    "buffers",
    "map_file",
    "open_recording",
    "opening_of",
    "read_metadata",
]


@runtime_checkable
class InPlace(Protocol):
    """Blobs that lie in a mapped file."""

    def views(self) -> list[memoryview]:
        """Return all blobs in place."""
        ...


class BlobSequence(Sequence[bytes]):
    """Byte ranges of a mapped file, each copied out when asked for."""

    __slots__ = ("_data", "ranges")

    def __init__(self, data: memoryview, ranges: NDArray[np.int64]) -> None:
        self._data = data
        self.ranges = ranges

    def __len__(self) -> int:
        return len(self.ranges)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> BlobSequence: ...
    def __getitem__(self, index: int | slice) -> bytes | BlobSequence:
        """Return one blob, or a sequence over a slice of them, nothing read."""
        if isinstance(index, slice):
            return BlobSequence(self._data, self.ranges[index])
        return bytes(self.view(index))

    def __iter__(self) -> Iterator[bytes]:
        return (self[i] for i in range(len(self)))

    def take(self, rows: NDArray[np.int64]) -> BlobSequence:
        """Return the blobs of these rows, nothing read."""
        return BlobSequence(self._data, self.ranges[rows])

    def views(self) -> list[memoryview]:
        """Return all blobs in place."""
        return [self._data[start:end] for start, end in self.ranges.tolist()]

    def sizes(self) -> NDArray[np.int64]:
        """Return int64 [n], the blobs' lengths in bytes."""
        return self.ranges[:, 1] - self.ranges[:, 0]

    def view(self, index: int) -> memoryview:
        """Return one blob in place."""
        start, end = self.ranges[index]
        return self._data[start:end]


@attrs.frozen(eq=False, kw_only=True)
class Stream:
    """One stream, in the order in which it was recorded.

    Attributes:
        capture_ns: int64 [n], host timebase.
        device_ns: int64 [n], the device's own clock; the capture time if it has none.
        sequence: int64 [n], counts samples handed over: a gap is a drop.
        vectors: float32 [n, components]; [n, 0] for others. NaN where no reading.
        blobs: the encoded images, documents or blobs; empty for vectors.
    """

    spec: StreamSpec
    capture_ns: NDArray[np.int64]
    device_ns: NDArray[np.int64]
    sequence: NDArray[np.int64]
    vectors: NDArray[np.float32]
    blobs: BlobSequence

    def __len__(self) -> int:
        return len(self.capture_ns)

    def blob(self, index: int) -> bytes:
        """Return one encoded image."""
        return self.blobs[index]


@attrs.frozen(eq=False, kw_only=True)
class Recording:
    """A finished recording. Blobs stay readable after it is closed."""

    path: Path
    metadata: EpisodeMetadata
    streams: Mapping[str, Stream]
    end_reason: EndReason
    drops: Mapping[str, int]
    cut_bytes: int
    clock_offsets: tuple[ClockOffset, ...]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to do: the mapping goes with the last blob that refers to it."""


def open_recording(path: Path, *, verify: bool = True) -> Recording:
    """Open a finished recording; `verify` checks the CRC of every chunk.

    Raises:
        DataError: absent, torn, damaged, still being written, or no episode.
    """
    path = Path(path)
    if path.name.endswith(PART_SUFFIX):
        raise DataError(
            "E-RLDS-RECORDING-004",
            "this recording was never finished",
            where=path,
            hint="continuon episodes recover saves what is whole in it",
        )
    data = map_file(path)
    contents = scan_mcap(data, verify=verify, where=path)
    if not contents.is_finished:
        raise DataError(
            "E-RLDS-RECORDING-005",
            f"this recording is torn: {contents.damage}",
            where=path,
            hint="continuon episodes recover saves what is whole in it",
        )
    opening = read_opening(contents, where=path)
    closing = read_closing(contents, where=path)
    if contents.statistics_count not in {None, len(contents.messages)}:
        raise DataError(
            "E-RLDS-RECORDING-006",
            "the file's statistics contradict its messages",
            where=path,
            seen=len(contents.messages),
            allowed=contents.statistics_count,
        )
    by_channel = _by_channel(contents)
    offsets = by_channel.get(clock_channel(opening.streams), [])
    streams = {
        spec.name: _stream(spec, data, by_channel.get(number, []))
        for number, spec in enumerate(opening.streams, start=1)
    }
    return Recording(
        path=path,
        metadata=opening.metadata,
        streams=streams,
        end_reason=closing.end_reason,
        drops=closing.drops,
        cut_bytes=closing.cut_bytes,
        clock_offsets=tuple(
            foxglove.parse_clock_offset(data[at.start : at.end]) for at in offsets
        ),
    )


def opening_of(path: Path) -> Opening:
    """Return what a recording, whole or not, says at its start; no sample is read.

    Raises:
        DataError: absent, no MCAP file, or damaged before its first sample.
    """
    contents = scan_mcap(map_file(path), verify=False, until_chunk=True, where=path)
    return read_opening(contents, where=path)


def read_metadata(path: Path) -> EpisodeMetadata:
    """Return the metadata of `opening_of`."""
    return opening_of(path).metadata


def map_file(path: Path) -> memoryview:
    """Map a file into memory, read-only.

    Raises:
        DataError: absent, a directory, or empty.
    """
    try:
        with path.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except IsADirectoryError as error:
        raise DataError(
            "E-RLDS-FILE-005",
            "this is a folder, and one recording was to be read",
            where=path,
            hint=f"`continuon episodes list {path}` names what is in it",
        ) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            "E-RLDS-FILE-003", "there is no such file", where=path
        ) from error
    except ValueError as error:
        raise DataError("E-RLDS-FILE-004", "the file is empty", where=path) from error
    return memoryview(mapping)


def buffers(blobs: Sequence[bytes]) -> Sequence[Buffer]:
    """Return blobs in place where they lie in a mapped file, so none is copied."""
    return blobs.views() if isinstance(blobs, InPlace) else blobs


def _by_channel(contents: McapContents) -> dict[int, list[MessageAt]]:
    groups: dict[int, list[MessageAt]] = {}
    for message in contents.messages:
        groups.setdefault(message.channel, []).append(message)
    return groups


def _stream(spec: StreamSpec, data: memoryview, messages: list[MessageAt]) -> Stream:
    count = len(messages)
    columns = np.array(messages, np.int64).reshape(count, len(MessageAt._fields))
    _, sequence, capture_ns, _, start, end = columns.T.copy()
    ranges = np.empty((0 if spec.is_vector else count, 2), np.int64)
    vectors = np.empty((count, len(spec.names)), np.float32)
    spans = zip(start.tolist(), end.tolist(), strict=True)
    bodies = [data[first:last] for first, last in spans]
    stamps: list[int | None]
    if spec.codec is Codec.DOCUMENT:
        ranges[:, 0], ranges[:, 1] = start, end
        stamps = [None] * count
    elif not spec.is_vector:
        found = [foxglove.image_range(body) for body in bodies]
        ranges[:, 0] = start + np.array([first for first, _, _ in found], np.int64)
        ranges[:, 1] = start + np.array([last for _, last, _ in found], np.int64)
        stamps = [stamp for _, _, stamp in found]
    else:
        vectors, stamps = foxglove.decode_vectors(bodies, spec.names)
    own = zip(capture_ns.tolist(), stamps, strict=True)
    return Stream(
        spec=spec,
        capture_ns=capture_ns,
        device_ns=np.array([at if ns is None else ns for at, ns in own], np.int64),
        sequence=sequence,
        vectors=vectors,
        blobs=BlobSequence(data, ranges),
    )
