"""Rings of fixed records and of pictures in shared memory: one writer, no locks.

A reader asks by number and gets what was written under it, or None once the writer has
come round. Records carry a checksum; a picture's slot names its number before and after
it is copied, so that a picture is never mixed from two.
"""

from __future__ import annotations

import mmap
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuon.robot.seqlock import Seqlock

__all__ = ["PictureRing", "RecordRing", "picture_ring_bytes", "record_ring_bytes"]

_COUNT = struct.Struct("<Q")
_HEAD = 64
_STAMPS = struct.Struct("<5q")
"""Number + 1 (0: being written), capture, device, depth capture (0: none), sequence."""


def record_ring_bytes(payload: struct.Struct, slots: int) -> int:
    """Return how much memory a ring of records takes."""
    return _HEAD + slots * _stride(payload)


def picture_ring_bytes(width: int, height: int, slots: int) -> int:
    """Return how much memory a ring of RGB-D pictures takes."""
    return _HEAD + slots * _picture_stride(width, height)


class RecordRing:
    """The newest `slots` records of one format at `offset` of a shared map."""

    def __init__(
        self, memory: mmap.mmap, offset: int, payload: struct.Struct, slots: int
    ) -> None:
        self._memory = memory
        self._offset = offset
        stride = _stride(payload)
        numbered = struct.Struct("<Q" + payload.format.removeprefix("<"))
        self._slots = [
            Seqlock(memory, offset + _HEAD + index * stride, numbered)
            for index in range(slots)
        ]

    @property
    def count(self) -> int:
        """Records written since the start."""
        return int(_COUNT.unpack_from(self._memory, self._offset)[0])

    @property
    def oldest(self) -> int:
        """Number of the oldest record that may still be there."""
        return max(0, self.count - len(self._slots))

    def append(self, *fields: Any) -> None:
        """Write the next record over the oldest."""
        number = self.count
        self._slots[number % len(self._slots)].write(number, *fields)
        _COUNT.pack_into(self._memory, self._offset, number + 1)

    def read(self, number: int) -> tuple[Any, ...] | None:
        """Return a record's fields; None if it is gone, torn or not yet written."""
        fields = self._slots[number % len(self._slots)].read()
        return fields[1:] if fields is not None and fields[0] == number else None


class PictureRing:
    """The newest `slots` RGB-D pictures of one size at `offset` of a shared map."""

    def __init__(
        self, memory: mmap.mmap, offset: int, size: tuple[int, int], slots: int
    ) -> None:
        self._memory = memory
        self._offset = offset
        self._width, self._height = size
        self._slots = slots
        self._stride = _picture_stride(*size)

    @property
    def count(self) -> int:
        """Pictures written since the start."""
        return int(_COUNT.unpack_from(self._memory, self._offset)[0])

    @property
    def oldest(self) -> int:
        """Number of the oldest picture that is surely not being replaced."""
        return max(0, self.count - self._slots + 1)

    def append(
        self,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.uint16] | None,
        stamps: tuple[int, int, int, int],
    ) -> None:
        """Write the next picture over the oldest.

        Args:
            rgb: uint8 [height, width, 3].
            depth: uint16 [height, width], or None.
            stamps: capture_ns, device_ns, depth_capture_ns (0: none), sequence.
        """
        number = self.count
        at = self._at(number)
        _COUNT.pack_into(self._memory, at, 0)
        to_rgb, to_depth = self._images(at)
        to_rgb[:] = rgb
        if depth is not None:
            to_depth[:] = depth
        _STAMPS.pack_into(self._memory, at, number + 1, *stamps)
        _COUNT.pack_into(self._memory, self._offset, number + 1)

    def read(
        self, number: int, *, with_depth: bool = True
    ) -> (
        tuple[tuple[int, int, int, int], NDArray[np.uint8], NDArray[np.uint16] | None]
        | None
    ):
        """Return stamps and copies of a picture; None if it is gone."""
        at = self._at(number)
        head = _STAMPS.unpack_from(self._memory, at)
        if head[0] != number + 1:
            return None
        from_rgb, from_depth = self._images(at)
        rgb = from_rgb.copy()
        depth = from_depth.copy() if with_depth and head[3] else None
        if _STAMPS.unpack_from(self._memory, at) != head:
            return None
        return (head[1], head[2], head[3], head[4]), rgb, depth

    def stamps(self, number: int) -> tuple[int, int, int, int] | None:
        """Return the stamps of a picture alone; None if it is gone."""
        head = _STAMPS.unpack_from(self._memory, self._at(number))
        return (head[1], head[2], head[3], head[4]) if head[0] == number + 1 else None

    def _at(self, number: int) -> int:
        return self._offset + _HEAD + (number % self._slots) * self._stride

    def _images(self, at: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        pixels = self._width * self._height
        start = at + _HEAD
        # Depth stands in front, where it is aligned.
        depth = np.frombuffer(self._memory, np.uint16, pixels, start)
        rgb = np.frombuffer(self._memory, np.uint8, 3 * pixels, start + 2 * pixels)
        shape = (self._height, self._width)
        return rgb.reshape(*shape, 3), depth.reshape(shape)


def _stride(payload: struct.Struct) -> int:
    return (16 + payload.size + 63) // 64 * 64


def _picture_stride(width: int, height: int) -> int:
    return (_HEAD + 5 * width * height + 63) // 64 * 64
