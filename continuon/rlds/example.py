"""tf.train.Example by hand: named lists of bytes, floats or 64-bit integers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.rlds.wire import Buffer, Pieces, fields, pack_varints, unpack_varints

__all__ = ["Feature", "encode_example", "parse_example"]

Feature = Sequence[Buffer] | NDArray[np.float32] | NDArray[np.int64]
_BYTES, _FLOAT, _INT64 = 1, 2, 3


def encode_example(features: Mapping[str, Feature]) -> Pieces:
    """Return an Example, keys sorted, blobs shared and not copied.

    float32 arrays become float lists, integer and bool arrays int64 lists, both
    flattened; anything else is a list of bytes.
    """
    entries = Pieces()
    for key in sorted(features):
        entry = Pieces()
        entry.field(1, key.encode())
        entry.message(2, _feature(features[key]))
        entries.message(1, entry)
    example = Pieces()
    example.message(1, entries)
    return example


def _feature(value: Any) -> Pieces:
    content, kind = Pieces(), _BYTES
    if isinstance(value, np.ndarray):
        is_float = value.dtype.kind == "f"
        kind = _FLOAT if is_float else _INT64
        if value.size:
            packed = (
                np.ascontiguousarray(value, "<f4").tobytes()
                if is_float
                else pack_varints(value.astype(np.int64))
            )
            content.field(1, packed)
    else:
        content.repeated(1, value)
    feature = Pieces()
    feature.message(kind, content)
    return feature


def parse_example(data: memoryview) -> dict[str, Feature]:
    """Return the features of an Example; blobs are views into `data`.

    Packed and unpacked number lists are both understood. An absent list of unknown
    kind comes as an empty list of bytes.

    Raises:
        DataError: not an Example.
    """
    found: dict[str, Feature] = {}
    for message in _messages(data, 1):
        for entry in _messages(message, 1):
            key, value = "", memoryview(b"")
            for number, content, _ in fields(entry):
                if isinstance(content, int):
                    continue
                if number == 1:
                    key = _text(content)
                elif number == 2:
                    value = content
            found[key] = _parse_feature(value, key)
    return found


def _messages(data: memoryview, wanted: int) -> Iterable[memoryview]:
    for number, content, _ in fields(data):
        if number == wanted and not isinstance(content, int):
            yield content


def _text(data: memoryview) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError as error:
        raise DataError(
            "E-RLDS-EXAMPLE-001", f"a feature's name is no text: {error}"
        ) from error


def _parse_feature(data: memoryview, key: str) -> Feature:
    for kind, content, _ in fields(data):
        if isinstance(content, int):
            continue
        if kind == _BYTES:
            return list(_messages(content, 1))
        if kind in {_FLOAT, _INT64}:
            return _numbers(content, kind, key)
    return []


def _numbers(data: memoryview, kind: int, key: str) -> Feature:
    runs: list[NDArray[Any]] = []
    single: list[int] = []
    for number, content, _ in fields(data):
        if number != 1:
            continue
        if isinstance(content, int):
            single.append(content - (1 << 64) if content >> 63 else content)
        elif kind == _INT64:
            runs.append(unpack_varints(content))
        elif len(content) % 4:
            raise DataError("E-RLDS-EXAMPLE-002", "a float list is torn", where=key)
        else:
            runs.append(np.frombuffer(content, "<f4"))
    if single:
        runs.append(np.array(single, np.int64))
    if len(runs) == 1:
        return runs[0]
    empty: NDArray[Any] = np.empty(0, np.int64 if kind == _INT64 else np.float32)
    return np.concatenate((empty, *runs))
