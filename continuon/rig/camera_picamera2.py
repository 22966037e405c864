"""Camera modules of the Raspberry Pi, by picamera2 (from the Pi's apt, not PyPI)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import Clock, ClockOffset
from continuon.errors import HardwareError, MissingPackageError
from continuon.rig.boottime import measure_boottime_offset
from continuon.rig.camera_faults import SILENT_NS, camera_silent, wrong_format
from continuon.rig.protocols import Frame

__all__ = ["Picamera2Camera", "list_picameras"]

# picamera2 names formats by memory order of a word: "BGR888" gives red, green, blue.
RGB_FORMAT = "BGR888"
REMEASURE_NS = 10_000_000_000


@attrs.frozen(eq=False)
class _Taken:
    image: NDArray[np.uint8]
    device_ns: int
    sequence: int


class Picamera2Camera:
    """Frames with the sensor's own timestamps.

    picamera2's thread hands each frame to a callback that copies it, so `poll` never
    waits for the camera.

    Args:
        width, height: pixels that must be delivered.
        rate_hz: asked frame rate.
        clock: the host's.
        open_camera: makes the picamera2 object; its own class when None.
        measure: measures the map from the sensor's clock.
    """

    name = "camera"
    has_depth = False

    def __init__(
        self,
        *,
        clock: Clock,
        width: int = 640,
        height: int = 480,
        rate_hz: float = 30.0,
        open_camera: Callable[[], Any] | None = None,
        measure: Callable[[], ClockOffset] = measure_boottime_offset,
    ) -> None:
        self.width, self.height, self.rate_hz = width, height, rate_hz
        self._clock = clock
        self._open_camera = _picamera2 if open_camera is None else open_camera
        self._measure = measure
        self._offset: ClockOffset | None = None
        self._camera: Any = None
        self._lock = threading.Lock()
        self._newest: _Taken | None = None
        self._last: _Taken | None = None
        self._alive_ns = 0

    def open(self) -> None:
        """Start the stream and check the delivered format against the asked one.

        Raises:
            MissingPackageError: picamera2 is not installed.
            HardwareError: there is no camera, or it delivers something else.
        """
        if self._camera is not None:
            return
        period_us = round(1e6 / self.rate_hz)
        try:
            camera = self._open_camera()
        except (RuntimeError, IndexError) as error:
            raise HardwareError(
                "E-RIG-CAM-002",
                "the camera cannot be opened",
                seen=error,
                hint="check the ribbon cable's seat and side, and that no other "
                "process holds the camera (libcamera-hello --list-cameras)",
            ) from error
        try:
            camera.configure(
                camera.create_video_configuration(
                    main={"size": (self.width, self.height), "format": RGB_FORMAT},
                    controls={"FrameDurationLimits": (period_us, period_us)},
                    buffer_count=4,
                )
            )
            self._check_format(camera.camera_configuration()["main"])
            camera.post_callback = self._take
            self._alive_ns = self._clock.monotonic_ns()
            camera.start()
        except BaseException:
            camera.close()
            raise
        self._camera = camera

    def poll(self) -> Frame | None:
        """Return the newest frame not yet returned, or None if there is none.

        Raises:
            HardwareError: silent for two seconds, or pictures of another size than was
                negotiated.
        """
        with self._lock:
            taken, self._newest = self._newest, None
        now = self._clock.monotonic_ns()
        if taken is None:
            if self._camera is not None and now - self._alive_ns > SILENT_NS:
                raise camera_silent(
                    self.name,
                    now - self._alive_ns,
                    hint="check the ribbon cable and the 5 V supply; dmesg says "
                    "'camera frontend has timed out' for both",
                )
            return None
        self._alive_ns = now
        wanted = (self.height, self.width, 3)
        if taken.image.shape != wanted:
            raise wrong_format(self.name, seen=taken.image.shape, allowed=wanted)
        return Frame(
            rgb=taken.image,
            depth=None,
            capture_ns=self.clock_offset().to_host_ns(taken.device_ns),
            device_ns=taken.device_ns,
            sequence=taken.sequence,
        )

    def clock_offset(self) -> ClockOffset:
        """Return the measured map from CLOCK_BOOTTIME, measured again each 10 s."""
        now = self._clock.monotonic_ns()
        if self._offset is None or now - self._offset.measured_at_ns > REMEASURE_NS:
            self._offset = self._measure()
        return self._offset

    def close(self) -> None:
        """Stop the stream; may be called twice."""
        if self._camera is not None:
            camera, self._camera = self._camera, None
            camera.stop()
            camera.close()

    def _take(self, request: Any) -> None:
        """Copy one completed request; runs in picamera2's thread."""
        device_ns = int(request.get_metadata()["SensorTimestamp"])
        image = np.ascontiguousarray(request.make_array("main"))
        with self._lock:
            step = 1
            if self._last is not None:
                periods = (device_ns - self._last.device_ns) * self.rate_hz / 1e9
                step = max(1, round(periods))
            sequence = step + (-1 if self._last is None else self._last.sequence)
            self._last = self._newest = _Taken(image, device_ns, sequence)

    def _check_format(self, main: Any) -> None:
        wanted = ((self.width, self.height), RGB_FORMAT)
        delivered = (tuple(main["size"]), main["format"])
        if delivered != wanted:
            raise wrong_format(self.name, seen=delivered, allowed=wanted)


def list_picameras() -> list[dict[str, Any]]:
    """Return what libcamera sees, without opening anything.

    Raises:
        MissingPackageError: picamera2 is not installed, or cannot be imported.
    """
    found: list[dict[str, Any]] = _class().global_camera_info()
    return found


def _picamera2() -> Any:
    return _class()()


def _class() -> Any:
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise MissingPackageError(
            "E-ENV-PKG-002",
            "the camera needs picamera2, which comes from the Pi's apt",
            seen=error,
            hint="sudo apt install python3-picamera2, and a virtual environment made "
            "with --system-site-packages",
        ) from error
    return Picamera2
