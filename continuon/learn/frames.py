"""Where an episode's small pictures lie: in memory, or on the disk and mapped.

A mapped array is read like any other; what is not looked at costs no memory, so more
steps can be learnt from than memory holds.
"""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from continuon.errors import DataError

__all__ = ["room_for"]

_BLOCK = bytes(1 << 20)


def room_for(
    shape: tuple[int, ...], dtype: DTypeLike, folder: Path | None
) -> NDArray[Any]:
    """Return zeros of this shape that can be written to.

    Args:
        shape: of the array.
        dtype: of the array.
        folder: where a file of the array's size is made, which has no name and is gone
            with the array, also when the process is killed; None keeps it in memory.

    Raises:
        DataError: E-LEARN-ROOM-001, the disk has no room for it.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if folder is None or size == 0:
        return np.zeros(shape, dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            # written, not only made long: a hole that the disk cannot fill later would
            # kill the process at some store to memory instead of failing here
            for start in range(0, size, len(_BLOCK)):
                file.write(_BLOCK[: size - start])
            file.flush()
            mapped = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise DataError(
            "E-LEARN-ROOM-001",
            "the decoded pictures of an episode do not fit on the disk",
            where=folder,
            seen=f"{error.strerror or error}, {size:,} bytes wanted",
            allowed="a folder on a disk with room for them",
            hint="free some, or set TMPDIR to a folder on a larger disk",
        ) from error
    return np.frombuffer(mapped, dtype).reshape(shape)
