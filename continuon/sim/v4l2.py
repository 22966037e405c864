"""A video node as Video4Linux2 describes it: calls in, structures out, drops and lies.

It stands for the kernel of `rig.camera_v4l2`, which packs and reads the real bytes.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import Clock
from continuon.rig import v4l2_abi as abi
from continuon.sim.shutter import Shutter, moving_gradient

__all__ = ["SimVideoNode", "yuyv_of"]


def yuyv_of(rgb: NDArray[np.uint8]) -> bytes:
    """Return a picture's brightness as YUYV without colour (BT.601, narrow range)."""
    luma = rgb.astype(np.float64) @ (0.299, 0.587, 0.114)
    out = np.full((*rgb.shape[:2], 2), 128, np.uint8)
    out[..., 0] = np.rint(16.0 + luma * 219.0 / 255.0)
    return out.tobytes()


@attrs.define(kw_only=True)
class SimVideoNode:
    """One capture node with up to four buffers.

    Attributes:
        clock: the host's.
        shutter: when it exposes.
        path: where it is.
        encode: makes the bytes of a picture.
        stamps: buffer flags that say by which clock and when it stamps.
        capabilities: what QUERYCAP says of this node.
        damaged: exposures that arrive with the error flag, by number.
        truncated: exposures of which only a tenth arrives, by number.
        deliver: what S_FMT makes of a wish; the wish itself when None.
        rate_hz: what S_PARM promises; the shutter's when None.
        unplugged: every further call fails.
        fails: requests that fail, with their errno.
    """

    clock: Clock
    shutter: Shutter
    path: str = "/dev/video0"
    encode: Callable[[NDArray[np.uint8]], bytes] = yuyv_of
    stamps: int = abi.TIMESTAMP_MONOTONIC | abi.SOURCE_START_OF_EXPOSURE
    capabilities: int = abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING
    damaged: frozenset[int] = frozenset()
    truncated: frozenset[int] = frozenset()
    deliver: Callable[[abi.PixFormat], abi.PixFormat] | None = None
    rate_hz: float | None = None
    unplugged: bool = False
    fails: dict[int, int] = attrs.field(factory=dict)
    streaming: bool = False
    opened: int = 0
    _format: abi.PixFormat | None = None
    _memory: list[bytearray] = attrs.field(factory=list)
    _free: deque[int] = attrs.field(factory=deque)
    _ready: deque[abi.Buffer] = attrs.field(factory=deque)

    def open(self, path: str) -> int:
        """Open the node."""
        if path != self.path or self.unplugged:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self.opened += 1
        return 3

    def close(self, descriptor: int) -> None:
        """Close the node; buffers are gone."""
        assert descriptor == 3
        self.opened -= 1
        self._memory.clear()

    def mmap(self, descriptor: int, length: int, offset: int) -> memoryview:
        """Map the buffer that lies at an offset."""
        assert descriptor == 3
        memory = self._memory[offset // length]
        return memoryview(memory).toreadonly()

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        """Answer a call as the kernel would."""
        assert descriptor == 3
        if self.unplugged:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        if request in self.fails:
            number = self.fails[request]
            raise OSError(number, os.strerror(number))
        calls: dict[int, Callable[[bytes], bytes | None]] = {
            abi.QUERYCAP: self._query,
            abi.S_FMT: self._set_format,
            abi.S_PARM: self._set_rate,
            abi.REQBUFS: self._request,
            abi.QUERYBUF: self._describe,
            abi.QBUF: self._queue,
            abi.DQBUF: self._dequeue,
            abi.STREAMON: self._start,
            abi.STREAMOFF: self._stop,
        }
        changed = calls[request](bytes(argument))
        if changed is not None:
            argument[:] = changed

    def _query(self, _: bytes) -> bytes:
        names = (b"uvcvideo", b"simulated camera", b"usb-sim")
        return abi.CAPABILITY.pack(*names, 0, self.capabilities, self.capabilities)

    def _set_format(self, data: bytes) -> bytes:
        wish = abi.PixFormat.unpack(data)
        made = wish if self.deliver is None else self.deliver(wish)
        line = made.line_bytes or 2 * made.width
        self._format = attrs.evolve(
            made, line_bytes=line, image_bytes=line * made.height
        )
        return bytes(self._format.pack())

    def _set_rate(self, data: bytes) -> bytes:
        kind, _, mode, _, _ = abi.STREAM_PARM.unpack(data)
        millis = round(1000 * (self.rate_hz or self.shutter.rate_hz))
        return abi.STREAM_PARM.pack(kind, abi.CAP_TIME_PER_FRAME, mode, 1000, millis)

    def _request(self, data: bytes) -> bytes:
        count, *rest = abi.REQUEST.unpack(data)
        count = min(count, 4)
        assert self._format is not None
        self._memory = [bytearray(self._format.image_bytes) for _ in range(count)]
        return abi.REQUEST.pack(count, *rest)

    def _describe(self, data: bytes) -> bytes:
        asked = abi.Buffer.unpack(data)
        length = len(self._memory[asked.index])
        offset = asked.index * length
        return bytes(attrs.evolve(asked, offset=offset, length=length).pack())

    def _queue(self, data: bytes) -> None:
        index = abi.Buffer.unpack(data).index
        assert index not in self._free, "a buffer is queued twice"
        self._free.append(index)

    def _dequeue(self, _: bytes) -> bytes:
        self._expose()
        if not self._ready:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return bytes(self._ready.popleft().pack())

    def _start(self, _: bytes) -> None:
        self.streaming = True

    def _stop(self, _: bytes) -> None:
        self.streaming = False

    def _expose(self) -> None:
        """Fill free buffers with what has arrived; without one it is dropped."""
        wanted = self._format
        assert wanted is not None
        for number, at_ns in self.shutter.due(self.clock.monotonic_ns()):
            if not self._free or not self.streaming:
                continue
            index = self._free.popleft()
            data = self.encode(moving_gradient(wanted.width, wanted.height, number))
            if number in self.truncated:
                data = data[: len(data) // 10]
            self._memory[index][: len(data)] = data
            bad = abi.FLAG_ERROR if number in self.damaged else 0
            self._ready.append(
                abi.Buffer(
                    index=index,
                    used_bytes=len(data),
                    flags=self.stamps | bad,
                    stamp_ns=at_ns,
                    sequence=number,
                )
            )
