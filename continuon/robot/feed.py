"""What the loop senses and sends, in shared memory: for the recorder and for eyes.

The loop alone writes, and never waits; whoever reads too slowly loses samples and can
count them. Frames are copied once here (about 0.3 ms for 640x480 RGB-D); encoding is
the readers' work.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import ClockOffset
from continuon.errors import DataError
from continuon.rig.protocols import Frame, VectorSample
from continuon.rlds.episode import ActionSource
from continuon.robot.feed_facts import FeedFacts
from continuon.robot.kernel import Verdict
from continuon.robot.ring import (
    PictureRing,
    RecordRing,
    picture_ring_bytes,
    record_ring_bytes,
)
from continuon.robot.seqlock import Seqlock
from continuon.robot.ticklog import VERDICTS

__all__ = ["CommandRow", "Feed", "LoopPulse"]

_MAGIC = b"continuon-feed-1"
_PAGE = 4096
_MAX_COMPONENTS = 16
_SOURCES = tuple(ActionSource)
_NO_SOURCE = 255
_PULSE_AT, _CAMERA_AT, _STATE_AT = _PAGE, _PAGE + 256, _PAGE + 512
_RINGS_AT = 2 * _PAGE
_PULSE = struct.Struct("<qQ?")
_OFFSET = struct.Struct("<qqq")
_STATE = struct.Struct(f"<qqq{_MAX_COMPONENTS}f")
_COMMAND = struct.Struct(f"<qBB??{2 * _MAX_COMPONENTS}f")
_RECORD_SLOTS = 512


@attrs.frozen(kw_only=True)
class LoopPulse:
    """The loop's sign of life.

    Attributes:
        now_ns: start of its newest tick, host monotonic.
        camera_failures: polls of the camera that failed so far.
        executing: whether commands go out.
    """

    now_ns: int
    camera_failures: int
    executing: bool


@attrs.frozen(eq=False, kw_only=True)
class CommandRow:
    """One judged command.

    Attributes:
        now_ns: start of its tick.
        source: who wanted it; None where nobody said anything.
        verdict: the kernel's.
        executing: False on the row of a stop, after which nothing goes out.
        is_blind: the kernel stopped because the camera shows nothing new.
        intended: float32 [channels], NaN where nothing was wanted.
        applied: float32 [channels], what went out.
    """

    now_ns: int
    source: ActionSource | None
    verdict: Verdict
    executing: bool
    is_blind: bool
    intended: NDArray[np.float32]
    applied: NDArray[np.float32]


class Feed:
    """The mapped file. The control process makes it, every other one opens it."""

    def __init__(
        self, path: Path, memory: mmap.mmap, facts: FeedFacts, frame_slots: int
    ) -> None:
        self.path = path
        self.facts = facts
        self._memory = memory
        self._pulse = Seqlock(memory, _PULSE_AT, _PULSE)
        self._offsets = {
            "camera": Seqlock(memory, _CAMERA_AT, _OFFSET),
            "state": Seqlock(memory, _STATE_AT, _OFFSET),
        }
        at = _RINGS_AT
        self._states = RecordRing(memory, at, _STATE, _RECORD_SLOTS)
        at += record_ring_bytes(_STATE, _RECORD_SLOTS)
        self._commands = RecordRing(memory, at, _COMMAND, _RECORD_SLOTS)
        at += record_ring_bytes(_COMMAND, _RECORD_SLOTS)
        self._frames = PictureRing(memory, at, (facts.width, facts.height), frame_slots)

    @classmethod
    def create(cls, path: Path, facts: FeedFacts, *, frame_slots: int = 16) -> Feed:
        """Make the file, readable by this user alone; it must not exist.

        The memory of 16 frames of 640x480 RGB-D is 25 MB.
        """
        text = facts.to_json()
        size = (
            _RINGS_AT
            + record_ring_bytes(_STATE, _RECORD_SLOTS)
            + record_ring_bytes(_COMMAND, _RECORD_SLOTS)
            + picture_ring_bytes(facts.width, facts.height, frame_slots)
        )
        part = path.with_suffix(".part")
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(handle, 0, size)
            memory = mmap.mmap(handle, size)
        finally:
            os.close(handle)
        struct.pack_into("<II", memory, 16, len(text), frame_slots)
        memory[24 : 24 + len(text)] = text
        memory[: len(_MAGIC)] = _MAGIC
        part.rename(path)
        return cls(path, memory, facts, frame_slots)

    @classmethod
    def open(cls, path: Path) -> Feed:
        """Map what the control process made.

        Raises:
            DataError: E-ROBOT-FEED-001, it is not there, or no feed.
        """
        try:
            handle = os.open(path, os.O_RDWR)
        except FileNotFoundError as error:
            raise _no_feed(path) from error
        try:
            memory = mmap.mmap(handle, 0)
        finally:
            os.close(handle)
        if memory[: len(_MAGIC)] != _MAGIC:
            memory.close()
            raise _no_feed(path)
        length, frame_slots = struct.unpack_from("<II", memory, 16)
        facts = FeedFacts.from_json(memory[24 : 24 + length])
        return cls(path, memory, facts, frame_slots)

    @property
    def frame_count(self) -> int:
        """Frames written so far."""
        return self._frames.count

    @property
    def state_count(self) -> int:
        """State readings written so far."""
        return self._states.count

    @property
    def command_count(self) -> int:
        """Commands written so far."""
        return self._commands.count

    def write_pulse(self, pulse: LoopPulse) -> None:
        """Say that the loop lives."""
        self._pulse.write(pulse.now_ns, pulse.camera_failures, pulse.executing)

    def read_pulse(self) -> LoopPulse | None:
        """Return the loop's sign of life; None before the first."""
        fields = self._pulse.read()
        if fields is None:
            return None
        now_ns, failures, executing = fields
        return LoopPulse(now_ns=now_ns, camera_failures=failures, executing=executing)

    def write_offset(self, which: str, offset: ClockOffset) -> None:
        """Publish the measured offset of the "camera" or the "state" clock."""
        self._offsets[which].write(
            offset.offset_ns, offset.uncertainty_ns, offset.measured_at_ns
        )

    def read_offset(self, which: str) -> ClockOffset | None:
        """Return a clock's newest offset; None if it was never measured."""
        fields = self._offsets[which].read()
        if fields is None:
            return None
        name = self.facts.camera_clock if which == "camera" else self.facts.state_clock
        return ClockOffset(name, *fields)

    def write_frame(self, frame: Frame) -> None:
        """Publish a frame."""
        depth_ns = 0
        if frame.depth is not None:
            depth_ns = frame.depth_capture_ns or frame.capture_ns
        stamps = (frame.capture_ns, frame.device_ns, depth_ns, frame.sequence)
        self._frames.append(frame.rgb, frame.depth, stamps)

    def read_frame(self, number: int, *, with_depth: bool = True) -> Frame | None:
        """Return frame `number`, copied; None if it is gone or not yet there."""
        found = self._frames.read(number, with_depth=with_depth)
        if found is None:
            return None
        (capture_ns, device_ns, depth_ns, sequence), rgb, depth = found
        return Frame(
            rgb=rgb,
            depth=depth,
            capture_ns=capture_ns,
            device_ns=device_ns,
            sequence=sequence,
            depth_capture_ns=depth_ns or None,
        )

    def capture_ns(self, number: int) -> int | None:
        """Return when frame `number` was exposed, without copying it."""
        stamps = self._frames.stamps(number)
        return None if stamps is None else stamps[0]

    def write_state(self, sample: VectorSample) -> None:
        """Publish a reading of the robot's own state."""
        stamps = (sample.capture_ns, sample.device_ns, sample.sequence)
        self._states.append(*stamps, *_wide(sample.values))

    def read_state(self, number: int) -> VectorSample | None:
        """Return reading `number`; None if it is gone or not yet there."""
        fields = self._states.read(number)
        if fields is None:
            return None
        count = len(self.facts.state_names)
        return VectorSample(
            values=np.array(fields[3 : 3 + count], np.float32),
            capture_ns=fields[0],
            device_ns=fields[1],
            sequence=fields[2],
        )

    def write_command(self, row: CommandRow) -> None:
        """Publish a judged command."""
        source = _NO_SOURCE if row.source is None else _SOURCES.index(row.source)
        head = (row.now_ns, source, VERDICTS.index(row.verdict))
        wide = (*_wide(row.intended), *_wide(row.applied))
        self._commands.append(*head, row.executing, row.is_blind, *wide)

    def read_command(self, number: int) -> CommandRow | None:
        """Return command `number`; None if it is gone or not yet there."""
        fields = self._commands.read(number)
        if fields is None:
            return None
        now_ns, source, verdict, executing, is_blind, *wide = fields
        count = len(self.facts.action_names)
        kept = VERDICTS[verdict]
        assert kept is not None
        return CommandRow(
            now_ns=now_ns,
            source=None if source == _NO_SOURCE else _SOURCES[source],
            verdict=kept,
            executing=executing,
            is_blind=is_blind,
            intended=np.array(wide[:count], np.float32),
            applied=np.array(
                wide[_MAX_COMPONENTS : _MAX_COMPONENTS + count], np.float32
            ),
        )

    def close(self) -> None:
        """Unmap; may be called twice."""
        self._memory.close()


def _wide(values: NDArray[np.float32]) -> tuple[float, ...]:
    given = tuple(float(value) for value in values)
    return given + (0.0,) * (_MAX_COMPONENTS - len(given))


def _no_feed(path: Path) -> DataError:
    return DataError(
        "E-ROBOT-FEED-001",
        "no control loop has published its senses here",
        where=path,
        hint="start the robot service; the loop makes this file",
    )
