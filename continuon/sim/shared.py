"""What the live world and its users share: one file mapped into memory.

Layout: a page with the configuration as JSON, a page of small records, the servo
board's registers, a ring of state readings, a ring of frames. Each record has one
writer and a sequence number that is odd while it is being written.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.sim.chips import PCA9685_BYTES

__all__ = ["Control", "Record", "SharedWorld", "Truth"]

MAGIC = b"continuon-live-1"
PAGE = 4096
FRAME_SLOTS, STATE_SLOTS = 4, 256
_TRUTH_AT, _CONTROL_AT, _CAMERA_AT, _STATE_AT = 0, 512, 1024, 1536
_CHIP_AT = 2 * PAGE
_RING_AT = 3 * PAGE
_STATE_STRIDE = 64
_FRAMES_AT = _RING_AT + ((STATE_SLOTS * _STATE_STRIDE + PAGE - 1) // PAGE) * PAGE
_FRAME_HEAD = 64


@attrs.frozen(kw_only=True)
class Truth:
    """Ground truth at one instant (see `World`), as floats; `time_ns` is host time."""

    time_ns: float
    x_m: float
    y_m: float
    heading_rad: float
    speed_mps: float
    steering_position: float
    motor: float
    yaw_rate_rad_s: float
    s_m: float
    lateral_error_m: float
    track_heading_rad: float
    curvature_per_m: float
    progress_m: float
    distance_m: float


@attrs.frozen
class Control:
    """What users ask of the live world; `bus_fault` is 0 none, 1 NACK, 2 stall.

    `celsius` and `battery_v` are the model's own where they are NaN.
    """

    disturbance: float = 0.0
    celsius: float = float("nan")
    unplugged: int = 0
    camera_hangs: int = 0
    world_hangs: int = 0
    bus_fault: int = 0
    stop: int = 0
    resets: int = 0
    reset_s_m: float = 0.0
    reset_lateral_m: float = 0.0
    battery_v: float = float("nan")


class Record:
    """A fixed record with one writer and any number of readers."""

    def __init__(self, memory: mmap.mmap, offset: int, layout: str) -> None:
        self._memory = memory
        self._offset = offset
        self._struct = struct.Struct("<" + layout)
        self._whole: tuple[Any, ...] | None = None

    def write(self, *fields: Any) -> None:
        """Replace the record."""
        (count,) = struct.unpack_from("<Q", self._memory, self._offset)
        begun = count | 1
        struct.pack_into("<Q", self._memory, self._offset, begun)
        self._struct.pack_into(self._memory, self._offset + 8, *fields)
        struct.pack_into("<Q", self._memory, self._offset, begun + 1)

    def read(self) -> tuple[Any, ...] | None:
        """Return the newest fields that this reader saw whole; None before the first.

        Where the writer is held in the middle, that is what was there before.
        """
        for _ in range(16):
            (before,) = struct.unpack_from("<Q", self._memory, self._offset)
            fields = self._struct.unpack_from(self._memory, self._offset + 8)
            (after,) = struct.unpack_from("<Q", self._memory, self._offset)
            if before and before == after and not before & 1:
                self._whole = fields
                break
        return self._whole


class SharedWorld:
    """The mapped file. Create it once; every process opens it by its path."""

    def __init__(self, memory: mmap.mmap, config: dict[str, Any], path: str) -> None:
        self.path = path
        self.config = config
        self.memory = memory
        self.width, self.height = int(config["width"]), int(config["height"])
        self._view = memoryview(memory)
        self.chip = self._view[_CHIP_AT : _CHIP_AT + PCA9685_BYTES]
        count = len(attrs.fields(Truth))
        self._truth = Record(memory, PAGE + _TRUTH_AT, f"{count}d")
        # disturbance, thermal celsius (NaN: the model's), unplugged, camera hangs,
        # world hangs, bus fault, stop, resets asked for, reset's place and offset,
        # battery volts (NaN: the model's)
        self._control = Record(memory, PAGE + _CONTROL_AT, "ddBBBBBQddd")
        self._camera = Record(memory, PAGE + _CAMERA_AT, "qqqq")
        self._state = Record(memory, PAGE + _STATE_AT, "qqqq")
        pixels = self.width * self.height
        self._stride = (_FRAME_HEAD + 5 * pixels + 63) // 64 * 64

    @staticmethod
    def size_bytes(width: int, height: int) -> int:
        """Return how large the file must be."""
        return _FRAMES_AT + FRAME_SLOTS * (_FRAME_HEAD + 5 * width * height + 127)

    @classmethod
    def create(cls, path: Path, config: dict[str, Any]) -> SharedWorld:
        """Make the file, private to this user, and map it."""
        text = json.dumps(config).encode()
        size = cls.size_bytes(config["width"], config["height"])
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(descriptor, size)
            memory = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        struct.pack_into("<Q", memory, 16, len(text))
        memory[24 : 24 + len(text)] = text
        memory[0:16] = MAGIC
        return cls(memory, config, str(path))

    @classmethod
    def open(cls, path: str) -> SharedWorld:
        """Map an existing file.

        Raises:
            DataError: there is no live world behind this path.
        """
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError as error:
            raise DataError(
                "E-SIM-LIVE-001",
                "there is no live world here",
                where=path,
                hint="start one with start_live_rig and keep its handle",
            ) from error
        try:
            memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        if memory[0:16] != MAGIC:
            memory.close()
            raise DataError(
                "E-SIM-LIVE-002", "this file is not a live world", where=path
            )
        (length,) = struct.unpack_from("<Q", memory, 16)
        return cls(memory, json.loads(memory[24 : 24 + length]), path)

    def close(self) -> None:
        """Unmap; may be called twice. The file stays until the handle is closed."""
        self.chip.release()
        self._view.release()
        self.memory.close()

    def write_truth(self, truth: Truth) -> None:
        """Publish the ground truth."""
        self._truth.write(*attrs.astuple(truth))

    def read_truth(self) -> Truth | None:
        """Return the newest ground truth, or None before the first one."""
        fields = self._truth.read()
        if fields is None:
            return None
        names = (field.name for field in attrs.fields(Truth))
        return Truth(**dict(zip(names, fields, strict=True)))

    def write_control(self, control: Control) -> None:
        """Publish what the world shall do."""
        self._control.write(*attrs.astuple(control))

    def read_control(self) -> Control:
        """Return what the world shall do."""
        fields = self._control.read()
        return Control() if fields is None else Control(*fields)

    def write_clock(
        self, which: Literal["camera", "state"], fields: tuple[int, int, int, int]
    ) -> None:
        """Publish how many samples there are and the clock's measured offset.

        Fields: count, offset_ns, uncertainty_ns, measured_at_ns.
        """
        (self._camera if which == "camera" else self._state).write(*fields)

    def read_clock(
        self, which: Literal["camera", "state"]
    ) -> tuple[int, int, int, int] | None:
        """Return what `write_clock` wrote, or None before the first time."""
        fields = (self._camera if which == "camera" else self._state).read()
        return None if fields is None else (fields[0], fields[1], fields[2], fields[3])

    def write_state(self, index: int, fields: tuple[float, ...]) -> None:
        """Put a reading in the ring: capture_ns, device_ns, sequence, three values."""
        self._state_record(index).write(*fields)

    def read_state(self, index: int) -> tuple[Any, ...] | None:
        """Return a reading of the ring, or None when it is being replaced."""
        return self._state_record(index).read()

    def _state_record(self, index: int) -> Record:
        offset = _RING_AT + (index % STATE_SLOTS) * _STATE_STRIDE
        return Record(self.memory, offset, "qqqfff")

    def write_frame(
        self,
        index: int,
        stamps: tuple[int, int, int, int],
        images: tuple[NDArray[np.uint8], NDArray[np.uint16] | None],
    ) -> None:
        """Put a frame in the ring.

        Args:
            index: counts published frames.
            stamps: capture_ns, device_ns, depth_capture_ns (0: none), sequence.
            images: rgb and depth.
        """
        at = _FRAMES_AT + (index % FRAME_SLOTS) * self._stride
        struct.pack_into("<q", self.memory, at, 0)
        rgb, depth = self._images(at)
        rgb[:] = images[0]
        if images[1] is not None:
            depth[:] = images[1]
        struct.pack_into("<qqqq", self.memory, at + 8, *stamps)
        struct.pack_into("<q", self.memory, at, index + 1)

    def read_frame(
        self, index: int
    ) -> tuple[tuple[int, int, int, int], NDArray[np.uint8], NDArray[np.uint16]] | None:
        """Return a frame's stamps and copied images, or None when it was replaced."""
        at = _FRAMES_AT + (index % FRAME_SLOTS) * self._stride
        if struct.unpack_from("<q", self.memory, at)[0] != index + 1:
            return None
        images = self._images(at)
        rgb, depth = images[0].copy(), images[1].copy()
        stamps = struct.unpack_from("<qqqq", self.memory, at + 8)
        if struct.unpack_from("<q", self.memory, at)[0] != index + 1:
            return None
        return (stamps[0], stamps[1], stamps[2], stamps[3]), rgb, depth

    def _images(self, at: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        pixels = self.width * self.height
        start = at + _FRAME_HEAD
        # Depth stands in front, where it is aligned.
        depth = np.frombuffer(self.memory, np.uint16, pixels, start)
        rgb = np.frombuffer(self.memory, np.uint8, 3 * pixels, start + 2 * pixels)
        return rgb.reshape(self.height, self.width, 3), depth.reshape(
            self.height, self.width
        )
