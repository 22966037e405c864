"""The OAK-D Lite: RGB and depth of one camera with one clock, by depthai (USB).

Depth is made on the camera, in the picture of the colour camera, in millimetres. Stamps
are the start of exposure on the camera's own monotonic clock; depthai keeps a second
stamp in the host's steady clock (CLOCK_MONOTONIC on Linux), and the two give the map.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from continuon.clock import Clock, ClockOffset
from continuon.rig.camera_faults import (
    SILENT_NS,
    camera_gone,
    camera_silent,
    wrong_format,
)
from continuon.rig.oak_pipeline import start_oak
from continuon.rig.offsets import OffsetEstimate
from continuon.rig.protocols import Frame

__all__ = ["OakCamera", "OakStream"]

# Luxonis, "Host clock syncing improved" (depthai 2.24): below 200 us at one sigma over
# USB. Three sigma bound what the spread of our own pairs cannot show: a common error.
SYNC_BOUND_NS = 600_000
FIRST_FRAME_NS = 5_000_000_000
WAIT_NS = 5_000_000
PENDING = 8
_CABLE = "use a USB 3 port and the cable that came with the camera"


class OakStream(Protocol):
    """A running pipeline: what this driver needs of depthai."""

    def colour(self) -> Any:
        """Return the next ImgFrame of the colour camera, or None."""
        ...

    def depth(self) -> Any:
        """Return the next ImgFrame of depth, or None."""
        ...

    def close(self) -> None:
        """Stop the pipeline and release the device."""
        ...


class OakCamera:
    """Pairs of colour and depth whose exposures are less than half a period apart.

    A colour picture whose depth never came is a drop, which the sequence shows.

    Args:
        clock: the host's.
        width, height: pixels of both pictures.
        rate_hz: asked frame rate of both.
        start: starts the pipeline; depthai's own when None.
    """

    name = "oak"
    has_depth = True

    def __init__(
        self,
        *,
        clock: Clock,
        width: int = 640,
        height: int = 480,
        rate_hz: float = 30.0,
        start: Callable[[int, int, float], OakStream] | None = None,
    ) -> None:
        self.width, self.height, self.rate_hz = width, height, rate_hz
        self._clock = clock
        self._start = start_oak if start is None else start
        self._stream: OakStream | None = None
        self._offset = OffsetEstimate(self.name, bound_ns=SYNC_BOUND_NS)
        self._colours: deque[Any] = deque(maxlen=PENDING)
        self._depths: deque[Any] = deque(maxlen=PENDING)
        self._first: Frame | None = None
        self._last_device_ns: int | None = None
        self._sequence = -1
        self._alive_ns = self._colour_ns = self._depth_ns = 0

    def open(self) -> None:
        """Start the stream and wait for the first pair, whose format is checked.

        Raises:
            MissingPackageError: depthai is not installed.
            HardwareError: there is no camera, it gives no pair, or another format.
        """
        if self._stream is not None:
            return
        self._stream = self._start(self.width, self.height, self.rate_hz)
        now = self._alive_ns = self._clock.monotonic_ns()
        try:
            while self._first is None:
                self._first = self._newest(now)
                self._clock.sleep_until_ns(now + WAIT_NS)
                now = self._clock.monotonic_ns()
                self._check_silence(now, FIRST_FRAME_NS)
        except BaseException:
            self.close()
            raise
        self._alive_ns = now

    def poll(self) -> Frame | None:
        """Return the newest pair not yet returned, or None if there is none.

        Raises:
            HardwareError: unplugged, silent for two seconds, or of another format.
        """
        if self._stream is None:
            return None
        now = self._clock.monotonic_ns()
        frame = self._newest(now) or self._first
        self._first = None
        if frame is None:
            self._check_silence(now, SILENT_NS)
        else:
            self._alive_ns = now
        return frame

    def clock_offset(self) -> ClockOffset:
        """Return the map from the camera's clock.

        Raises:
            HardwareError: no frame came yet, so nothing was measured.
        """
        return self._offset.value()

    def close(self) -> None:
        """Stop the stream; may be called twice."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._colours.clear()
            self._depths.clear()
            self._first = None
            stream.close()

    def _newest(self, now_ns: int) -> Frame | None:
        """Take in all messages and return the newest pair."""
        assert self._stream is not None
        try:
            while (message := self._stream.colour()) is not None:
                self._colours.append(message)
                self._colour_ns = now_ns
            while (message := self._stream.depth()) is not None:
                self._depths.append(message)
                self._depth_ns = now_ns
        except RuntimeError as error:  # depthai's word for a lost device
            raise camera_gone(self.name, error) from error
        for depth in reversed(self._depths):
            depth_ns = _device_ns(depth)
            for colour in reversed(self._colours):
                apart = abs(_device_ns(colour) - depth_ns)
                if apart < 5e8 / self.rate_hz:
                    return self._pair(colour, depth, now_ns)
        return None

    def _pair(self, colour: Any, depth: Any, now_ns: int) -> Frame:
        device_ns, depth_ns = _device_ns(colour), _device_ns(depth)
        _forget(self._colours, device_ns)
        _forget(self._depths, depth_ns)
        rgb: NDArray[np.uint8] = np.ascontiguousarray(colour.getFrame())
        far: NDArray[np.uint16] = np.ascontiguousarray(depth.getFrame())
        self._check_format(rgb, far)
        host_ns = _ns(colour.getTimestamp())
        offset = self._offset.add(
            host_ns - _ns(colour.getTimestampDevice()), at_ns=now_ns
        )
        step = 1
        if self._last_device_ns is not None:
            periods = (device_ns - self._last_device_ns) * self.rate_hz / 1e9
            step = max(1, round(periods))
        self._last_device_ns = device_ns
        self._sequence += step
        return Frame(
            rgb=rgb,
            depth=far,
            capture_ns=offset.to_host_ns(device_ns),
            device_ns=device_ns,
            sequence=self._sequence,
            depth_capture_ns=offset.to_host_ns(depth_ns),
        )

    def _check_format(self, rgb: NDArray[Any], depth: NDArray[Any]) -> None:
        shape = (self.height, self.width)
        wanted = ((*shape, 3), "uint8", shape, "uint16")
        seen = (rgb.shape, str(rgb.dtype), depth.shape, str(depth.dtype))
        if seen != wanted:
            raise wrong_format(self.name, seen=seen, allowed=wanted)

    def _check_silence(self, now_ns: int, allowed_ns: int) -> None:
        """Raise when no pair came for too long, and name the stream that is missing."""
        silent_ns = now_ns - self._alive_ns
        if silent_ns <= allowed_ns:
            return
        hint = f"{_CABLE}; a weak 5 V supply does this too"
        if self._colour_ns - self._depth_ns > allowed_ns // 2:
            hint = f"colour comes and depth does not: {hint}"
        elif self._depth_ns - self._colour_ns > allowed_ns // 2:
            hint = f"depth comes and colour does not: {hint}"
        raise camera_silent(self.name, silent_ns, hint=hint)


def _forget(pending: deque[Any], until_ns: int) -> None:
    while pending and _device_ns(pending[0]) <= until_ns:
        pending.popleft()


def _device_ns(message: Any) -> int:
    """Return the start of exposure on the camera's clock."""
    # depthai stamps the end (ImgFrame.hpp, CameraExposureOffset: START subtracts it).
    return _ns(message.getTimestampDevice()) - _ns(message.getExposureTime())


def _ns(span: timedelta) -> int:
    """Return a timedelta in nanoseconds, exactly (it counts microseconds)."""
    return (span // timedelta(microseconds=1)) * 1000
