"""What was handed to a recorder and is not yet written: bounded, in order, thread-safe.

Every accepted sample gets a ticket. Encoders take raw images in any order; the writer
takes samples in ticket order, so a file's bytes do not depend on thread timing.
"""

from __future__ import annotations

import threading
from collections import deque

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import ClockOffset
from continuon.rlds.episode import EndReason

__all__ = ["Lane", "Payload", "Sample", "SampleQueue"]

Payload = bytes | NDArray[np.generic] | ClockOffset


@attrs.define(eq=False)
class Sample:
    """One sample on its way to the file; `payload` is replaced once encoded."""

    channel: int
    sequence: int
    capture_ns: int
    device_ns: int | None
    payload: Payload
    ticket: int = -1


@attrs.define(eq=False)
class Lane:
    """One stream's share of the queue."""

    channel: int
    is_encoded_here: bool
    sequence: int = 0
    pending: int = 0
    drops: int = 0
    raw: deque[Sample] = attrs.field(factory=deque)


class SampleQueue:
    """Lanes by channel number, each holding at most `limit` samples.

    One lock, and a condition for each kind of waiting thread: a sample wakes only the
    thread that can go on with it, which on a slow machine is most of the cost.
    """

    def __init__(self, lanes: dict[int, Lane], *, limit: int, waits: bool) -> None:
        self.lanes = lanes
        self.failure: Exception | None = None
        self.ended: EndReason | None = None
        self._limit = limit
        self._waits = waits
        self._open = True
        self._lock = threading.Lock()
        self._writable = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._raw = {number: threading.Condition(self._lock) for number in lanes}
        self._ready: dict[int, Sample] = {}
        self._next_ticket = 0
        self._next_write = 0

    def put(
        self, channel: int, payload: Payload, capture_ns: int, device_ns: int | None
    ) -> bool:
        """Accept a sample or drop and count it; waits for room where asked to."""
        lane = self.lanes[channel]
        with self._lock:
            sequence = lane.sequence
            lane.sequence += 1
            while self._waits and self._open and lane.pending >= self._limit:
                self._room.wait()
            if not self._open or lane.pending >= self._limit:
                lane.drops += 1
                return False
            sample = Sample(
                channel, sequence, capture_ns, device_ns, payload, self._next_ticket
            )
            self._next_ticket += 1
            lane.pending += 1
            if lane.is_encoded_here and not isinstance(payload, bytes):
                lane.raw.append(sample)
                self._raw[channel].notify()
            else:
                self._make_ready(sample)
        return True

    def take_raw(self, channel: int) -> Sample | None:
        """Return the lane's next raw image; None once closed and none is left."""
        lane = self.lanes[channel]
        with self._lock:
            while not lane.raw:
                if not self._open:
                    return None
                self._raw[channel].wait()
            return lane.raw.popleft()

    def hand_on(self, sample: Sample) -> None:
        """Pass an encoded (or failed) sample to the writer."""
        with self._lock:
            self._make_ready(sample)

    def take_ready(self) -> Sample | None:
        """Return the next sample in order; None once closed and all were taken."""
        with self._lock:
            while self._next_write not in self._ready:
                if not self._open and self._next_write == self._next_ticket:
                    return None
                self._writable.wait()
            sample = self._ready.pop(self._next_write)
            self._next_write += 1
            return sample

    def written(self, sample: Sample) -> None:
        """Free the sample's place."""
        with self._lock:
            self.lanes[sample.channel].pending -= 1
            self._room.notify_all()

    def lose(self, channel: int, count: int = 1) -> None:
        """Count accepted samples that will not be in the file."""
        with self._lock:
            self.lanes[channel].drops += count

    def skip(self, channel: int, count: int = 1) -> None:
        """Count samples that never came, and leave a gap in the numbering for them."""
        with self._lock:
            self.lanes[channel].drops += count
            self.lanes[channel].sequence += count

    def fail(self, error: Exception, reason: EndReason) -> None:
        """End the episode: nothing more is accepted, the first error stays."""
        with self._lock:
            self.failure = self.failure or error
            self.ended = self.ended or reason
            self._shut()

    def close(self) -> None:
        """Accept nothing more; what was accepted is still written."""
        with self._lock:
            self._shut()

    def _make_ready(self, sample: Sample) -> None:
        self._ready[sample.ticket] = sample
        if sample.ticket == self._next_write:
            self._writable.notify()

    def _shut(self) -> None:
        self._open = False
        for waiting in (self._writable, self._room, *self._raw.values()):
            waiting.notify_all()
