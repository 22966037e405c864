"""Random access to steps: a few columns of a few steps, from shards or recordings."""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError, UsageError
from continuon.rlds.picture_columns import decode_colours, decode_depths, raw_depths
from continuon.rlds.raw_depth import is_raw_depth
from continuon.rlds.recording import buffers
from continuon.rlds.steps import EpisodeSteps, recordings_in, steps_of
from continuon.rlds.tfds_index import TfdsIndex, index_of
from continuon.rlds.tfds_read import find_tfds
from continuon.rlds.wire import unpack_varints

__all__ = [
    "Columns",
    "LogStore",
    "StepStore",
    "TfdsStore",
    "check_columns",
    "open_store",
]

Columns = dict[str, Any]
"""By name: an array with the steps on its first axis, or a list of bytes."""

_KEPT_EPISODES = 64


class StepStore(Protocol):
    """Episodes whose steps can be read in any order, from several threads."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of all columns."""
        ...

    @property
    def steps(self) -> NDArray[np.int64]:
        """Return int64 [episodes], how long each is."""
        ...

    def read(
        self,
        episode: int,
        start: int,
        stop: int,
        columns: Sequence[str],
        *,
        into: Mapping[str, NDArray[Any]] | None = None,
    ) -> Columns:
        """Return steps start to stop of an episode, pictures decoded.

        Columns that `into` names are written there, steps on the first axis.

        Raises:
            DataError: a picture or a list is damaged.
            UsageError: no such column.
        """
        ...


def open_store(path: Path, *, picture_size: tuple[int, int] | None = None) -> StepStore:
    """Return a store of a TFDS directory (or the root above it) or of recordings.

    With `picture_size` (height, width) every picture comes as small as that: see
    `decode_colours` and `decode_depths`.

    Raises:
        DataError: neither is there, or one is damaged.
        UsageError: no such size.
    """
    if picture_size is not None and min(picture_size) < 1:
        raise UsageError(
            "E-RLDS-STORE-004",
            "a picture has a height and a width of at least one pixel",
            seen=picture_size,
        )
    path = Path(path)
    dataset = find_tfds(path) if path.is_dir() else None
    if dataset is not None and not any(path.glob("*.mcap")):
        return TfdsStore(index_of(dataset), picture_size=picture_size)
    return LogStore.open(recordings_in(path), picture_size=picture_size)


class TfdsStore:
    """The episodes of a TFDS directory, read in place.

    A column's name is its path below `steps/`. Numbers of 32 bits are views of the
    mapped file; packed 64-bit ones are unpacked once an episode and kept.
    """

    def __init__(
        self, index: TfdsIndex, *, picture_size: tuple[int, int] | None = None
    ) -> None:
        self._index = index
        self._size = picture_size
        self._first = index.first_steps()
        self._readers: dict[str, Callable[[int, int, int, Any], Any]] = {}
        self._unpacked = _Kept(self._unpack)
        for path, node in index.directory.kinds.items():
            reader = self._reader(path, node)
            if reader is not None:
                self._readers[path.removeprefix("steps/")] = reader

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of all columns."""
        return tuple(sorted(self._readers))

    @property
    def steps(self) -> NDArray[np.int64]:
        """Return int64 [episodes], how long each is."""
        return self._index.steps

    def read(
        self,
        episode: int,
        start: int,
        stop: int,
        columns: Sequence[str],
        *,
        into: Mapping[str, NDArray[Any]] | None = None,
    ) -> Columns:
        """Return steps start to stop of an episode; see `StepStore`."""
        check_columns(columns, self._readers)
        out = into or {}
        return {
            name: self._readers[name](episode, start, stop, out.get(name))
            for name in columns
        }

    def _reader(
        self, path: str, node: Mapping[str, Any]
    ) -> Callable[[int, int, int, Any], Any] | None:
        if path in self._index.lists and "tensor" in node:
            return lambda e, a, b, out: _put(
                self._numbers(path, node["tensor"], e, a, b), out
            )
        if path not in self._index.blobs:
            return None
        if "image" in node:
            decode = decode_depths if _is_depth(node["image"]) else decode_colours
            return lambda e, a, b, out: decode(
                self._blobs(path, e, a, b), out, size=self._size
            )
        if is_raw_depth(node.get("tensor", {})):
            height, width, _ = _shape(node["tensor"])
            shape = (height, width)
            return lambda e, a, b, out: raw_depths(
                self._blobs(path, e, a, b), out, shape=shape, size=self._size
            )
        if "tensor" in node and node["tensor"]["dtype"] != "string":
            return lambda e, a, b, out: _put(
                _tensors(self._blobs(path, e, a, b), node["tensor"]), out
            )
        return lambda e, a, b, _: [bytes(blob) for blob in self._blobs(path, e, a, b)]

    def _blobs(
        self, path: str, episode: int, start: int, stop: int
    ) -> list[memoryview]:
        at = int(self._first[episode])
        spans = self._index.blobs[path][at + start : at + stop].tolist()
        data = self._index.shards[int(self._index.shard[episode])]
        return [data[first:last] for first, last in spans]

    def _numbers(
        self, path: str, tensor: Mapping[str, Any], episode: int, start: int, stop: int
    ) -> NDArray[Any]:
        dtype = np.dtype(tensor["dtype"])
        shape = _shape(tensor)
        size = math.prod(shape)
        if dtype.kind == "f":
            first, last = self._index.lists[path][episode].tolist()
            data = self._index.shards[int(self._index.shard[episode])]
            values = np.frombuffer(data[first:last], "<f4")
        else:
            values = self._unpacked(path, episode)
        if len(values) != size * int(self._index.steps[episode]):
            raise DataError(
                "E-RLDS-STORE-001",
                "a column holds another count of numbers than its steps want",
                where=path,
                seen=len(values),
                allowed=size * int(self._index.steps[episode]),
            )
        rows = values.reshape(-1, *shape)[start:stop]
        return rows if rows.dtype == dtype else rows.astype(dtype)

    def _unpack(self, path: str, episode: int) -> NDArray[np.int64]:
        first, last = self._index.lists[path][episode].tolist()
        data = self._index.shards[int(self._index.shard[episode])]
        return unpack_varints(data[first:last])


class LogStore:
    """Recordings, aligned when one is first read and then kept for a while."""

    def __init__(
        self,
        paths: Sequence[Path],
        steps: NDArray[np.int64],
        columns: tuple[str, ...],
        *,
        picture_size: tuple[int, int] | None = None,
    ) -> None:
        self._paths = tuple(paths)
        self._size = picture_size
        self._aligned = _Kept(self._open)
        self._steps = steps
        self._columns = columns

    @classmethod
    def open(
        cls, paths: Sequence[Path], *, picture_size: tuple[int, int] | None = None
    ) -> LogStore:
        """Return a store of these recordings, each aligned once to learn its length.

        Raises:
            DataError: one is torn, damaged or has no frames.
        """
        lengths, shared = [], None
        for path in paths:
            steps = steps_of(path, verify=False)
            lengths.append(len(steps))
            names = set(_columns_of(steps, None))
            shared = names if shared is None else shared & names
        counts, columns = np.array(lengths, np.int64), tuple(sorted(shared or ()))
        return cls(paths, counts, columns, picture_size=picture_size)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns that every recording has."""
        return self._columns

    @property
    def steps(self) -> NDArray[np.int64]:
        """Return int64 [episodes], how long each is."""
        return self._steps

    def read(
        self,
        episode: int,
        start: int,
        stop: int,
        columns: Sequence[str],
        *,
        into: Mapping[str, NDArray[Any]] | None = None,
    ) -> Columns:
        """Return steps start to stop of an episode; see `StepStore`."""
        check_columns(columns, self._columns)
        readers = _columns_of(self._aligned(episode), self._size)
        out = into or {}
        return {name: readers[name](start, stop, out.get(name)) for name in columns}

    def _open(self, episode: int) -> EpisodeSteps:
        return steps_of(self._paths[episode], verify=False)


def _columns_of(
    steps: EpisodeSteps, size: tuple[int, int] | None
) -> dict[str, Callable[[int, int, Any], Any]]:
    """Return a reader by column, named as in a TFDS directory."""
    arrays: dict[str, NDArray[Any]] = {
        "observation/stamp_ns": steps.stamp_ns,
        "action": steps.action,
        "valid": steps.valid,
        "is_first": steps.is_first,
        "is_last": steps.is_last,
        "is_terminal": steps.is_terminal,
        **{f"skew_ns/{name}": skew for name, skew in steps.skew_ns.items()},
    }
    if steps.state_names:
        arrays["observation/state"] = steps.state
    task = steps.metadata.task.encode()
    readers: dict[str, Callable[[int, int, Any], Any]] = {
        "observation/image": lambda a, b, out: decode_colours(
            buffers(steps.image[a:b]), out, size=size
        ),
        "language_instruction": lambda a, b, _: [task] * (b - a),
        **{name: _rows(array) for name, array in arrays.items()},
    }
    depth = steps.depth
    if depth is not None:
        readers["observation/depth"] = lambda a, b, out: decode_depths(
            buffers(depth[a:b]), out, size=size
        )
    return readers


def _rows(array: NDArray[Any]) -> Callable[[int, int, Any], NDArray[Any]]:
    return lambda start, stop, out: _put(array[start:stop], out)


def _put(values: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    if out is None:
        return values
    out[:] = values
    return out


def _tensors(blobs: Sequence[memoryview], tensor: Mapping[str, Any]) -> NDArray[Any]:
    """Return tensors that were stored as bytes, zlib or none, one a step."""
    dtype = np.dtype(tensor["dtype"]).newbyteorder("<")
    packed = tensor.get("encoding") == "zlib"
    raw = [zlib.decompress(blob) if packed else bytes(blob) for blob in blobs]
    rows = [np.frombuffer(data, dtype).reshape(_shape(tensor)) for data in raw]
    return np.stack(rows) if rows else np.empty((0, *_shape(tensor)), dtype)


def _shape(tensor: Mapping[str, Any]) -> tuple[int, ...]:
    dimensions = tensor.get("shape", {}).get("dimensions", ())
    return tuple(int(size) for size in dimensions)


def _is_depth(image: Mapping[str, Any]) -> bool:
    return bool(image.get("dtype") == "uint16")


def check_columns(asked: Sequence[str], known: Collection[str]) -> None:
    """Refuse columns that are not there.

    Raises:
        UsageError: names them and those that are.
    """
    foreign = sorted(set(asked) - set(known))
    if foreign:
        raise UsageError(
            "E-RLDS-STORE-003",
            "there is no such column",
            seen=", ".join(foreign),
            allowed=", ".join(sorted(known)),
        )


class _Kept:
    """The last results of a function, by its arguments; safe between threads."""

    def __init__(self, make: Callable[..., Any], limit: int = _KEPT_EPISODES) -> None:
        self._make = make
        self._limit = limit
        self._lock = Lock()
        self._made: OrderedDict[Any, Any] = OrderedDict()

    def __call__(self, *key: Any) -> Any:
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = self._make(*key)
        with self._lock:
            self._made[key] = made
            while len(self._made) > self._limit:
                self._made.popitem(last=False)
        return made
