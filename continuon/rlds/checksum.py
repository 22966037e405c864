"""CRC-32 and CRC-32C of buffers in place, by the fastest engine that is installed."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from functools import cache

import google_crc32c
import numpy as np

from continuon.rlds.wire import Buffer

__all__ = ["crc32", "crc32c"]


def crc32(data: Buffer, value: int = 0) -> int:
    """Return zlib's CRC-32 of `data`, going on from `value`."""
    return _engine()(data, value)


@cache
def _engine() -> Callable[[Buffer, int], int]:
    """Return ISA-L's CRC where it is installed, four times as fast as zlib's."""
    try:
        engine: Callable[[Buffer, int], int] = importlib.import_module(
            "isal.isal_zlib"
        ).crc32
    except ImportError:
        return zlib.crc32
    return engine


def crc32c(data: Buffer, value: int = 0) -> int:
    """Return the CRC-32C (Castagnoli) of `data`, going on from `value`.

    The package takes bytes and arrays but no memoryview, so a view is shown to it as
    an array over the same memory.
    """
    if isinstance(data, memoryview):
        if not len(data):
            return value
        return int(google_crc32c.extend(value, np.frombuffer(data, np.uint8)))
    return int(google_crc32c.extend(value, data))
