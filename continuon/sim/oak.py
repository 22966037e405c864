"""An OAK camera's messages without the camera: exposures, clocks, drops and lies."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import Clock
from continuon.sim.clocks import DeviceClock
from continuon.sim.shutter import Shutter, moving_gradient

__all__ = ["OakMessage", "SimOakStream"]


@attrs.frozen(eq=False, kw_only=True)
class OakMessage:
    """The part of depthai's ImgFrame that a driver reads.

    Attributes:
        picture: what the message carries.
        device_ns, host_ns: end of exposure on the camera's and on the host's clock.
        exposure_us: how long it was exposed.
    """

    picture: NDArray[np.uint8] | NDArray[np.uint16]
    device_ns: int
    host_ns: int
    exposure_us: int

    def getFrame(self) -> NDArray[np.uint8] | NDArray[np.uint16]:  # noqa: N802
        """Return the pixels."""
        return self.picture

    def getTimestamp(self) -> timedelta:  # noqa: N802
        """Return the end of exposure on the host's clock, as depthai believes it."""
        return timedelta(microseconds=self.host_ns // 1000)

    def getTimestampDevice(self) -> timedelta:  # noqa: N802
        """Return the end of exposure on the camera's clock."""
        return timedelta(microseconds=self.device_ns // 1000)

    def getExposureTime(self) -> timedelta:  # noqa: N802
        """Return how long it was exposed."""
        return timedelta(microseconds=self.exposure_us)


@attrs.define(kw_only=True)
class SimOakStream:
    """Two streams of one device.

    Attributes:
        clock: the host's; what has arrived depends on it.
        width, height: of both pictures as delivered.
        colours, depths: when each camera exposes.
        device: the camera's clock.
        sync_error_ns: standard deviation of depthai's idea of the host's time.
        depth_dtype: "uint16" as depthai gives it; anything else is a lie.
        unplugged: reading raises depthai's error.
        closed: how often it was closed.
    """

    clock: Clock
    width: int
    height: int
    colours: Shutter
    depths: Shutter
    device: DeviceClock
    sync_error_ns: float = 150e3
    depth_dtype: str = "uint16"
    exposure_us: int = 8000
    unplugged: bool = False
    closed: int = 0
    _rng: np.random.Generator = attrs.field(
        factory=lambda: np.random.default_rng(0), init=False
    )
    _waiting: dict[str, deque[OakMessage]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Begin with empty queues."""
        self._waiting = {"colour": deque(maxlen=4), "depth": deque(maxlen=4)}

    def colour(self) -> OakMessage | None:
        """Return the next colour message, or None."""
        return self._next("colour", self.colours)

    def depth(self) -> OakMessage | None:
        """Return the next depth message, or None."""
        return self._next("depth", self.depths)

    def close(self) -> None:
        """Count that it was closed."""
        self.closed += 1

    def _next(self, which: str, shutter: Shutter) -> OakMessage | None:
        if self.unplugged:
            msg = "Communication exception - possible device error/misconfiguration."
            raise RuntimeError(msg)
        waiting = self._waiting[which]
        for number, at_ns in shutter.due(self.clock.monotonic_ns()):
            end_ns = at_ns + self.exposure_us * 1000
            waiting.append(
                OakMessage(
                    picture=self._picture(which, number),
                    device_ns=self.device.read_ns(end_ns),
                    host_ns=end_ns + round(self._rng.normal(0.0, self.sync_error_ns)),
                    exposure_us=self.exposure_us,
                )
            )
        return waiting.popleft() if waiting else None

    def _picture(self, which: str, number: int) -> NDArray[np.uint8]:
        colour = moving_gradient(self.width, self.height, number)
        if which == "colour":
            return colour
        return (colour[..., 0].astype(np.uint16) * 16).astype(self.depth_dtype)
