"""The newest camera frame as JPEG, for people who watch; taken from the loop's feed."""

from __future__ import annotations

import threading
from pathlib import Path

import attrs

from continuon.errors import DataError
from continuon.rlds.images import encode_jpeg
from continuon.robot.feed import Feed

__all__ = ["CameraFacts", "Picture", "Viewfinder"]

_QUALITY = 75


@attrs.frozen(kw_only=True)
class Picture:
    """One frame.

    Attributes:
        number: counts the loop's frames.
        age_ns: from its exposure to its encoding.
        jpeg: the picture.
    """

    number: int
    age_ns: int
    jpeg: bytes


@attrs.frozen(kw_only=True)
class CameraFacts:
    """What is known of the camera now.

    Attributes:
        frames: that the loop saw since its start.
        failures: polls that failed.
        age_ns: of the newest frame; None before the first.
    """

    frames: int
    failures: int
    age_ns: int | None


class Viewfinder:
    """Looks into a feed. A frame is encoded once, however many watch."""

    def __init__(self, feed_path: Path) -> None:
        self._path = feed_path
        self._feed: Feed | None = None
        self._lock = threading.Lock()
        self._newest: Picture | None = None

    def look(self, after: int, now_ns: int) -> Picture | None:
        """Return the newest frame if its number is above `after`, else None."""
        with self._lock:
            feed = self._opened()
            number = feed.frame_count - 1 if feed is not None else -1
            if feed is None or number <= after:
                return None
            if self._newest is None or self._newest.number != number:
                frame = feed.read_frame(number, with_depth=False)
                if frame is None:
                    return None
                self._newest = Picture(
                    number=number,
                    age_ns=now_ns - frame.capture_ns,
                    jpeg=encode_jpeg(frame.rgb, _QUALITY),
                )
            return self._newest

    def facts(self, now_ns: int) -> CameraFacts | None:
        """Return what is known of the camera; None while there is no feed."""
        with self._lock:
            feed = self._opened()
            if feed is None:
                return None
            pulse = feed.read_pulse()
            newest = None
            if feed.frame_count:
                newest = feed.capture_ns(feed.frame_count - 1)
            return CameraFacts(
                frames=feed.frame_count,
                failures=pulse.camera_failures if pulse is not None else 0,
                age_ns=None if newest is None else now_ns - newest,
            )

    def close(self) -> None:
        """Unmap; may be called twice."""
        with self._lock:
            if self._feed is not None:
                self._feed.close()
                self._feed = None

    def _opened(self) -> Feed | None:
        if self._feed is None:
            try:
                self._feed = Feed.open(self._path)
            except DataError:
                return None
        return self._feed
