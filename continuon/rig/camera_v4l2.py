"""USB and other kernel cameras by Video4Linux2, through the standard library alone.

The kernel stamps each picture with CLOCK_MONOTONIC, which is the host's timebase, so
the map is exact but for the microsecond that a stamp counts. Most drivers (uvcvideo)
stamp the start of exposure; one that stamps the end gets the uncertainty of that.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import Clock, ClockOffset
from continuon.errors import HardwareError
from continuon.rig import v4l2_abi as abi
from continuon.rig.camera_faults import (
    SILENT_NS,
    camera_gone,
    camera_silent,
    wrong_format,
)
from continuon.rig.pictures import rgb_of_jpeg, rgb_of_yuyv
from continuon.rig.protocols import Frame

__all__ = ["V4l2Camera"]

BUFFERS = 4
RATE_TOLERANCE = 0.02
STAMP_NS = 1000
_GONE = frozenset({errno.ENODEV, errno.EIO, errno.ENXIO})

Decode = Callable[[memoryview, abi.PixFormat], NDArray[np.uint8]]
DECODERS: Mapping[str, Decode] = {"MJPG": rgb_of_jpeg, "YUYV": rgb_of_yuyv}


@attrs.frozen(kw_only=True)
class _Stream:
    descriptor: int
    pictures: tuple[memoryview, ...]
    format: abi.PixFormat


class V4l2Camera:
    """One capture node, colour only.

    Args:
        clock: the host's.
        path: device node.
        width, height: pixels that must be delivered.
        rate_hz: frame rate that must be promised.
        pixel_format: "MJPG" or "YUYV", what the camera sends.
        kernel: whose calls are made.
    """

    has_depth = False

    def __init__(
        self,
        *,
        clock: Clock,
        path: str = "/dev/video0",
        width: int = 640,
        height: int = 480,
        rate_hz: float = 30.0,
        pixel_format: str = "MJPG",
        kernel: abi.Kernel | None = None,
    ) -> None:
        self.name = path
        self.width, self.height, self.rate_hz = width, height, rate_hz
        self._pixel_format = pixel_format
        self._decode = DECODERS[pixel_format]
        self._clock = clock
        self._kernel = abi.SystemKernel() if kernel is None else kernel
        self._stream: _Stream | None = None
        self._alive_ns = 0
        self._starts_exposure: bool | None = None
        self._damage: HardwareError | None = None

    def open(self) -> None:
        """Negotiate, check what was promised, and start the stream.

        Raises:
            HardwareError: no camera, or it promises another format, size or rate.
        """
        if self._stream is not None:
            return
        try:
            descriptor = self._kernel.open(self.name)
        except OSError as error:
            raise HardwareError(
                "E-RIG-CAM-002",
                "the camera cannot be opened",
                where=self.name,
                seen=error.strerror,
                hint="check the USB cable, that the user is in the group video, and "
                "that no other process holds the camera",
            ) from error
        try:
            self._stream = self._start(descriptor)
        except OSError as error:
            self._kernel.close(descriptor)
            if isinstance(error, HardwareError):
                raise
            raise self._refused(error) from error
        self._alive_ns = self._clock.monotonic_ns()

    def poll(self) -> Frame | None:
        """Return the newest picture not yet returned, or None if there is none.

        Damaged pictures are drops, which the sequence shows.

        Raises:
            HardwareError: unplugged, no whole picture for two seconds, or stamped by an
                unknown clock.
        """
        if self._stream is None:
            return None
        newest = self._take_newest(self._stream)
        now = self._clock.monotonic_ns()
        if newest is None:
            if now - self._alive_ns > SILENT_NS:
                raise camera_silent(
                    self.name,
                    now - self._alive_ns,
                    hint="check the USB cable and hub, and the 5 V supply",
                ) from self._damage
            return None
        self._alive_ns = now
        buffer, rgb = newest
        if rgb.shape != (self.height, self.width, 3):
            wanted = (self.height, self.width, 3)
            raise wrong_format(self.name, seen=rgb.shape, allowed=wanted)
        return Frame(
            rgb=rgb,
            depth=None,
            capture_ns=self.clock_offset().to_host_ns(buffer.stamp_ns),
            device_ns=buffer.stamp_ns,
            sequence=buffer.sequence,
        )

    def clock_offset(self) -> ClockOffset:
        """Return the map to the start of exposure; the clock itself is the host's.

        A stamp at the end of a frame lies up to a period of exposure and a period of
        reading out after its start. Before the first frame it is not known which of the
        two this driver stamps.
        """
        period_ns = round(1e9 / self.rate_hz)
        return ClockOffset(
            device=self.name,
            offset_ns=-period_ns if self._starts_exposure is False else 0,
            uncertainty_ns=STAMP_NS + (0 if self._starts_exposure else period_ns),
            measured_at_ns=self._clock.monotonic_ns(),
        )

    def close(self) -> None:
        """Stop the stream; may be called twice."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            argument = bytearray(abi.INT.pack(abi.VIDEO_CAPTURE))
            try:
                self._kernel.ioctl(stream.descriptor, abi.STREAMOFF, argument)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
            finally:
                for picture in stream.pictures:
                    picture.release()
                self._kernel.close(stream.descriptor)

    def _start(self, descriptor: int) -> _Stream:
        call = self._kernel.ioctl
        about = bytearray(abi.CAPABILITY.size)
        call(descriptor, abi.QUERYCAP, about)
        capabilities = abi.CAPABILITY.unpack(about)[5]
        needed = abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING
        if capabilities & needed != needed:
            raise wrong_format(
                self.name,
                seen=f"capabilities 0x{capabilities:08x}",
                allowed="a node that captures and streams (a camera has several nodes)",
            )
        promised = self._negotiate(descriptor)
        pictures = []
        request = bytearray(
            abi.REQUEST.pack(BUFFERS, abi.VIDEO_CAPTURE, abi.MEMORY_MMAP, 0, 0)
        )
        call(descriptor, abi.REQBUFS, request)
        for index in range(abi.REQUEST.unpack(request)[0]):
            argument = abi.Buffer(index=index).pack()
            call(descriptor, abi.QUERYBUF, argument)
            buffer = abi.Buffer.unpack(argument)
            pictures.append(self._kernel.mmap(descriptor, buffer.length, buffer.offset))
            call(descriptor, abi.QBUF, argument)
        argument = bytearray(abi.INT.pack(abi.VIDEO_CAPTURE))
        call(descriptor, abi.STREAMON, argument)
        return _Stream(descriptor=descriptor, pictures=tuple(pictures), format=promised)

    def _negotiate(self, descriptor: int) -> abi.PixFormat:
        """Ask for format and rate, and compare what the driver makes of it."""
        wanted = abi.PixFormat(
            width=self.width,
            height=self.height,
            pixel_format=abi.fourcc(self._pixel_format),
        )
        argument = wanted.pack()
        self._kernel.ioctl(descriptor, abi.S_FMT, argument)
        promised = abi.PixFormat.unpack(argument)
        seen = (promised.width, promised.height, promised.pixel_format)
        if seen != (wanted.width, wanted.height, wanted.pixel_format):
            letters = promised.pixel_format.to_bytes(4, "little").decode("latin-1")
            raise wrong_format(
                self.name,
                seen=(promised.width, promised.height, letters),
                allowed=(self.width, self.height, self._pixel_format),
            )
        millis = round(1000 * self.rate_hz)
        parm = bytearray(abi.STREAM_PARM.pack(abi.VIDEO_CAPTURE, 0, 0, 1000, millis))
        self._kernel.ioctl(descriptor, abi.S_PARM, parm)
        _, _, _, numerator, denominator = abi.STREAM_PARM.unpack(parm)
        rate_hz = denominator / numerator if numerator else 0.0
        if abs(rate_hz / self.rate_hz - 1.0) > RATE_TOLERANCE:
            raise wrong_format(
                self.name,
                seen=f"{rate_hz:g} pictures a second",
                allowed=f"{self.rate_hz:g}",
            )
        return promised

    def _take_newest(
        self, stream: _Stream
    ) -> tuple[abi.Buffer, NDArray[np.uint8]] | None:
        """Empty the driver's queue and decode the last whole picture."""
        kept: abi.Buffer | None = None
        while (buffer := self._dequeue(stream)) is not None:
            if buffer.flags & abi.FLAG_ERROR or buffer.used_bytes == 0:
                self._enqueue(stream, buffer)
                continue
            if kept is not None:
                self._enqueue(stream, kept)
            kept = buffer
        if kept is None:
            return None
        self._check_clock(kept)
        try:
            data = stream.pictures[kept.index][: kept.used_bytes]
            return kept, self._decode(data, stream.format)
        except HardwareError as error:
            self._damage = error
            return None
        finally:
            self._enqueue(stream, kept)

    def _check_clock(self, buffer: abi.Buffer) -> None:
        if buffer.flags & abi.TIMESTAMP_MASK != abi.TIMESTAMP_MONOTONIC:
            raise HardwareError(
                "E-RIG-CLOCK-002",
                "the camera's driver does not say by which clock it stamps",
                where=self.name,
                seen=f"buffer flags 0x{buffer.flags:x}",
                allowed="monotonic",
                hint="use another camera or a newer kernel; without a known clock its "
                "pictures cannot be put beside other samples",
            )
        source = buffer.flags & abi.SOURCE_MASK
        self._starts_exposure = source == abi.SOURCE_START_OF_EXPOSURE

    def _dequeue(self, stream: _Stream) -> abi.Buffer | None:
        argument = abi.Buffer().pack()
        try:
            self._kernel.ioctl(stream.descriptor, abi.DQBUF, argument)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _GONE:
                raise camera_gone(self.name, error.strerror) from error
            raise self._refused(error) from error
        return abi.Buffer.unpack(argument)

    def _enqueue(self, stream: _Stream, buffer: abi.Buffer) -> None:
        argument = abi.Buffer(index=buffer.index).pack()
        try:
            self._kernel.ioctl(stream.descriptor, abi.QBUF, argument)
        except OSError as error:
            raise camera_gone(self.name, error.strerror) from error

    def _refused(self, error: OSError) -> HardwareError:
        return HardwareError(
            "E-RIG-CAM-005",
            "the camera's driver refuses a call",
            where=self.name,
            seen=error.strerror,
            hint="another process may hold it; else unplug it and look at dmesg",
        )
