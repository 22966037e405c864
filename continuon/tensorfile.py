"""Named tensors and one JSON document in a single checked file, without pickle.

The file is a valid safetensors file (huggingface/safetensors, format description in
its README): little-endian u64 header length, JSON header, raw little-endian tensors.
The header's `__metadata__` holds three strings: `format`, `document` (JSON) and
`sha256`, the digest of the whole file taken with that field set to 64 zeros. Any
altered, missing or added byte is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from continuon.durable import replace_file
from continuon.errors import ContractError, DataError

__all__ = [
    "FORMAT",
    "TensorFile",
    "read_kind",
    "read_tensors",
    "write_tensors",
]

FORMAT = "continuon-tensors/1"
_BLANK = "0" * 64
_MAX_HEADER_BYTES = 16 * 2**20
_DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "I32": "<i4",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


@attrs.frozen
class TensorFile:
    """What a file held: its document, its tensors by name, and its SHA-256 (hex)."""

    document: dict[str, Any]
    tensors: dict[str, np.ndarray[Any, Any]]
    sha256: str


def write_tensors(
    path: Path,
    tensors: Mapping[str, np.ndarray[Any, Any]],
    document: Mapping[str, Any],
) -> str:
    """Write atomically (temporary file, fsync, rename, fsync of the directory).

    Returns:
        The SHA-256 of the finished file, hex.

    Raises:
        ContractError: a tensor's dtype has no name in the format.
    """
    header: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "document": json.dumps(document, sort_keys=True),
            "sha256": _BLANK,
        }
    }
    blobs = []
    offset = 0
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        little = array.dtype.newbyteorder("<")
        if little not in _NAMES:
            raise ContractError(
                "E-TENSOR-DTYPE-001",
                "this dtype cannot be stored",
                where=name,
                seen=array.dtype,
                allowed=", ".join(sorted(_DTYPES)),
            )
        blob = np.ascontiguousarray(array, dtype=little).tobytes()
        header[name] = {
            "dtype": _NAMES[little],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256(struct.pack("<Q", len(text)) + text)
    for blob in blobs:
        digest.update(blob)
    text = text.replace(_BLANK.encode(), digest.hexdigest().encode(), 1)
    parts = (struct.pack("<Q", len(text)), text, *blobs)
    replace_file(path, *parts)
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()


def read_kind(
    path: Path, kind: str, version: int, *, code: str, what: str
) -> TensorFile:
    """Read a file whose document says that it is of this kind and version.

    Raises:
        DataError: as `read_tensors`; `code`, it is another kind of file than `what`.
    """
    file = read_tensors(path)
    seen = (file.document.get("kind"), file.document.get("version"))
    if seen != (kind, version):
        raise DataError(
            code,
            f"this tensor file is no {what} of a known version",
            where=path,
            seen=seen,
            allowed=(kind, version),
        )
    return file


def read_tensors(path: Path) -> TensorFile:
    """Read and check a file; the tensors are views into one buffer, read-only.

    Raises:
        DataError: the file is absent, torn, altered, or no such file at all.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            "E-TENSOR-FILE-001",
            "there is no such tensor file",
            where=path,
            hint="check the name; `continuon train` writes a policy's",
        ) from error
    header, body = _header(path, data)
    metadata = header.pop("__metadata__")
    claimed = str(metadata["sha256"])
    start = len(data) - len(body)
    blanked = data[:start].replace(claimed.encode(), _BLANK.encode(), 1)
    digest = hashlib.sha256(blanked)
    digest.update(body)
    if digest.hexdigest() != claimed:
        raise DataError(
            "E-TENSOR-SUM-004",
            "the file was altered or torn: its checksum differs",
            where=path,
            seen=digest.hexdigest(),
            allowed=claimed,
            hint="copy it again from where it was made",
        )
    tensors = {name: _tensor(path, name, entry, body) for name, entry in header.items()}
    document = json.loads(metadata["document"])
    return TensorFile(document, tensors, hashlib.sha256(data).hexdigest())


def _header(path: Path, data: bytes) -> tuple[dict[str, Any], memoryview]:
    size = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if not 2 <= size <= min(_MAX_HEADER_BYTES, len(data) - 8):
        raise DataError(
            "E-TENSOR-HEAD-002",
            "this is no tensor file, or it is cut short",
            where=path,
            seen=f"{len(data)} bytes, header of {size}",
        )
    try:
        header = json.loads(data[8 : 8 + size])
        known = header["__metadata__"]["format"] == FORMAT
        known = known and {"document", "sha256"} <= set(header["__metadata__"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            "E-TENSOR-HEAD-002", "the header is unreadable", where=path
        ) from error
    if not known:
        raise DataError(
            "E-TENSOR-FORMAT-003",
            "the header names another format",
            where=path,
            seen=header["__metadata__"]["format"],
            allowed=FORMAT,
        )
    return header, memoryview(data)[8 + size :]


def _tensor(
    path: Path, name: str, entry: dict[str, Any], body: memoryview
) -> np.ndarray[Any, Any]:
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    start, stop = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if stop - start != dtype.itemsize * math.prod(shape) or stop > len(body):
        raise DataError(
            "E-TENSOR-SHAPE-005",
            "a tensor's bytes do not fit its shape",
            where=f"{path}: {name}",
            seen=f"{stop - start} bytes",
            allowed=f"{dtype.itemsize * math.prod(shape)} bytes",
        )
    return np.frombuffer(body[start:stop], dtype=dtype).reshape(shape)
