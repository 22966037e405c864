"""Read a TFDS directory without TensorFlow: ours as steps, others' as plain columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.rlds.array_records import read_array_records
from continuon.rlds.episode import (
    EndReason,
    metadata_from_json,
    streams_from_json,
)
from continuon.rlds.example import Feature, parse_example
from continuon.rlds.raw_depth import RawDepths, is_raw_depth
from continuon.rlds.steps import EpisodeSteps
from continuon.rlds.tfrecord import read_records

__all__ = [
    "ARRAY_RECORD",
    "TfdsDirectory",
    "check_complete",
    "check_count",
    "find_tfds",
    "open_tfds",
    "read_columns",
    "read_payloads",
    "read_tfds_steps",
]

_NAMES_FILE = "continuon.json"
_DEPTH = "steps/observation/depth"
ARRAY_RECORD = "array_record"
_CONTAINERS = ("tfrecord", ARRAY_RECORD)


@attrs.frozen(kw_only=True)
class TfdsDirectory:
    """A TFDS directory's tables.

    Attributes:
        container: the kind of its shards: `tfrecord` or `array_record`.
        kinds: by `/`-joined path: the leaf's JSON node.
        shards: files that are there, in order, with the records each should hold.
        missing: files that `dataset_info.json` names and that are absent.
    """

    path: Path
    name: str
    kinds: Mapping[str, Mapping[str, Any]]
    shards: tuple[tuple[Path, int], ...]
    missing: tuple[str, ...]
    shape: Mapping[str, Any] | None
    container: str = "tfrecord"


def find_tfds(path: Path) -> Path | None:
    """Return the TFDS directory at or up to two levels below `path`, None if none.

    Raises:
        DataError: there are several.
    """
    for pattern in ("features.json", "*/features.json", "*/*/features.json"):
        found = sorted(file.parent for file in path.glob(pattern))
        if len(found) > 1:
            raise DataError(
                "E-RLDS-TFDS-001",
                "there are several data sets here",
                where=path,
                seen=", ".join(str(f.relative_to(path)) for f in found[:5]),
                hint="name one of them",
            )
        if found:
            return found[0]
    return None


def open_tfds(path: Path) -> TfdsDirectory:
    """Read the tables of a TFDS directory.

    Raises:
        DataError: they are absent, damaged, or use what is not supported.
    """
    info = _load(path / "dataset_info.json")
    tree = _load(path / "features.json")
    kinds: dict[str, Mapping[str, Any]] = {}
    _collect(tree, "", kinds)
    name = str(info.get("name", path.parent.name))
    container = str(info.get("fileFormat", "tfrecord"))
    if container not in _CONTAINERS:
        raise DataError(
            "E-RLDS-TFDS-002",
            "this data set is in another container",
            where=path,
            seen=container,
            allowed=", ".join(_CONTAINERS),
        )
    shards: list[tuple[Path, int]] = []
    missing: list[str] = []
    for split in info.get("splits", []):
        lengths = [int(length) for length in split.get("shardLengths", [])]
        for number, length in enumerate(lengths):
            place = (number, len(lengths))
            file = path / _shard_name(split, name, container, place)
            if file.is_file():
                shards.append((file, length))
            else:
                missing.append(file.name)
    names = path / _NAMES_FILE
    shape = _load(names) if names.is_file() else None
    return TfdsDirectory(
        path=path,
        name=name,
        kinds=kinds,
        shards=tuple(shards),
        missing=tuple(missing),
        shape=shape,
        container=container,
    )


def read_payloads(
    directory: TfdsDirectory, file: Path, *, verify: bool = True
) -> Iterator[memoryview]:
    """Yield the records of one of a directory's shards, whatever contains them.

    Raises:
        DataError: it is torn or damaged.
        MissingPackageError: it needs array-record, which is not installed.
    """
    if directory.container == ARRAY_RECORD:
        return read_array_records(file)
    return read_records(file, verify=verify)


def read_columns(
    directory: TfdsDirectory, *, verify: bool = True
) -> Iterator[dict[str, Any]]:
    """Yield each record as columns by path: arrays shaped as declared, or blobs.

    A step field has the steps on its first axis. `verify` checks every CRC.

    Raises:
        DataError: a record is torn or does not fit `features.json`, or a shard holds
            another number of records than the tables say.
    """
    for file, length in directory.shards:
        count = 0
        for payload in read_payloads(directory, file, verify=verify):
            features = parse_example(payload)
            yield {
                path: _column(features.get(path, []), path, node, file)
                for path, node in directory.kinds.items()
            }
            count += 1
        check_count(file, count, length)


def check_count(file: Path, count: int, length: int) -> None:
    """Refuse a shard that holds another number of records than the tables say.

    Raises:
        DataError: it does.
    """
    if count != length:
        raise DataError(
            "E-RLDS-TFDS-003",
            "a shard holds another number of episodes than dataset_info.json says",
            where=file,
            seen=count,
            allowed=length,
        )


def check_complete(directory: TfdsDirectory) -> None:
    """Refuse a directory that lacks shards.

    Raises:
        DataError: names them.
    """
    if directory.missing:
        raise DataError(
            "E-RLDS-TFDS-005",
            "shards of this data set are missing",
            where=directory.path,
            seen=", ".join(directory.missing[:5]),
        )


def read_tfds_steps(path: Path, *, verify: bool = True) -> Iterator[EpisodeSteps]:
    """Yield the episodes of a directory that this library wrote, parts in order.

    Raises:
        DataError: another's data set, a missing shard, or damage.
    """
    directory = open_tfds(path)
    if directory.shape is None:
        raise DataError(
            "E-RLDS-TFDS-004",
            "this data set was not written by continuon: its columns have no names",
            where=path,
            allowed=f"a directory with {_NAMES_FILE}",
            hint="read it with continuon.rlds.tfds_read.read_columns",
        )
    check_complete(directory)
    for columns in read_columns(directory, verify=verify):
        yield _steps(columns, directory)


def _steps(columns: Mapping[str, Any], directory: TfdsDirectory) -> EpisodeSteps:
    shape = directory.shape
    assert shape is not None
    blob = bytes(columns["episode_metadata/metadata_json"][0])
    stamp = columns["steps/observation/stamp_ns"]
    no_state = np.zeros((len(stamp), 0), np.float32)
    skew = {
        path.rpartition("/")[2]: values
        for path, values in columns.items()
        if path.startswith("steps/skew_ns/")
    }
    reason = bytes(columns["episode_metadata/end_reason"][0]).decode()
    streams = bytes(columns.get("episode_metadata/streams_json", (b"[]",))[0])
    return EpisodeSteps(
        metadata=metadata_from_json(blob, where=directory.path),
        stamp_ns=stamp,
        image=_Blobs(columns["steps/observation/image"]),
        depth=_depths(columns.get(_DEPTH), directory.kinds.get(_DEPTH)),
        state=columns.get("steps/observation/state", no_state),
        action=columns["steps/action"],
        state_names=tuple(shape["state_names"]),
        action_names=tuple(shape["action_names"]),
        skew_ns=skew,
        valid=columns["steps/valid"],
        is_first=columns["steps/is_first"],
        is_last=columns["steps/is_last"],
        is_terminal=columns["steps/is_terminal"],
        source_path=directory.path,
        end_reason=EndReason(reason),
        streams=streams_from_json(streams, where=directory.path),
    )


def _depths(
    views: Sequence[memoryview] | None, node: Mapping[str, Any] | None
) -> Sequence[bytes] | None:
    if views is None or node is None:
        return None
    if is_raw_depth(node.get("tensor", {})):
        height, width, _ = map(int, node["tensor"]["shape"]["dimensions"])
        return RawDepths(views, (height, width))
    return _Blobs(views)


class _Blobs(Sequence[bytes]):
    """Views into a mapped shard, each copied out when asked for."""

    def __init__(self, views: Sequence[memoryview]) -> None:
        self._views = views

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Blobs(self._views[index])
        return bytes(self._views[index])

    def views(self) -> list[memoryview]:
        """Return all blobs in place."""
        return list(self._views)


def _load(path: Path) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError("E-RLDS-TFDS-006", "a table is absent", where=path) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "E-RLDS-TFDS-007", f"a table is no JSON: {error}", where=path
        ) from error


def _collect(node: Any, path: str, kinds: dict[str, Mapping[str, Any]]) -> None:
    """Flatten the feature tree into leaves, by `/`-joined path."""
    if "featuresDict" in node:
        for name, child in node["featuresDict"].get("features", {}).items():
            _collect(child, f"{path}/{name}" if path else name, kinds)
    elif "sequence" in node and "dataset_feature" in node.get("pythonClassName", ""):
        _collect(node["sequence"]["feature"], path, kinds)
    else:
        kinds[path] = node


def _shard_name(
    split: Mapping[str, Any], name: str, container: str, place: tuple[int, int]
) -> str:
    """Return the file name of shard `place`: its number, and of how many."""
    number, total = place
    template = split.get(
        "filepathTemplate", "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    )
    for key, text in {
        "DATASET": name,
        "SPLIT": str(split["name"]),
        "FILEFORMAT": container,
        "SHARD_INDEX": f"{number:05d}",
        "NUM_SHARDS": f"{total:05d}",
        "SHARD_X_OF_Y": f"{number:05d}-of-{total:05d}",
    }.items():
        template = template.replace("{" + key + "}", text)
    return Path(template).name


def _column(value: Feature, path: str, node: Mapping[str, Any], where: Path) -> Any:
    if "tensor" not in node or node["tensor"].get("encoding", "none") != "none":
        return value
    tensor = node["tensor"]
    dtype = np.dtype(tensor["dtype"]) if tensor["dtype"] != "string" else None
    if dtype is None:
        return value
    shape = tuple(int(size) for size in tensor["shape"].get("dimensions", ()))
    size = math.prod(shape)
    array: NDArray[Any] = np.asarray(value)
    if isinstance(value, list) and value:
        raise _misfit(path, where, "a list of bytes", tensor["dtype"])
    in_steps = path.startswith("steps/")
    if min(shape, default=1) < 1 or array.size % max(size, 1):
        raise _misfit(path, where, f"{array.size} numbers", f"a multiple of {size}")
    return array.astype(dtype).reshape(-1 if in_steps else array.size // size, *shape)


def _misfit(path: str, where: Path, seen: str, allowed: str) -> DataError:
    return DataError(
        "E-RLDS-TFDS-008",
        f"the field {path} does not fit features.json",
        where=where,
        seen=seen,
        allowed=allowed,
    )
