"""Frames of a film by time, decoded one after the other as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError, MissingPackageError

__all__ = ["Film"]


def _av() -> ModuleType:
    try:
        return import_module("av")
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "av", "lerobot", purpose="decoding films"
        ) from error


class Film(Sequence[Any]):
    """The frames of a film at given times; a row without a frame is None.

    Rows are meant to be read in order. Asking for an earlier one starts again at the
    key frame before it. Where the film turns out to be damaged, it ends: no row from
    there on is known any more.

    Args:
        path: a film that PyAV (FFmpeg) reads.
        times_s: float64 [n], the time of each row, from the film's start.
        tolerance_s: how far a frame may be from its row's time.
    """

    def __init__(
        self, path: Path, times_s: NDArray[np.float64], *, tolerance_s: float
    ) -> None:
        self._path = path
        stamps, self._base = _frame_stamps(path)
        base = float(self._base)
        self._wanted = _match(stamps, times_s / base, tolerance_s / base)
        self._frames: Iterator[Any] | None = None
        self._at: int | None = None
        self._last: Any = None
        self._end: int | None = None

    def __len__(self) -> int:
        return len(self._wanted)

    def known(self) -> list[bool]:
        """Return for each row whether the film has its frame; none is decoded."""
        end = self._end
        return [
            stamp is not None and (end is None or stamp < end) for stamp in self._wanted
        ]

    def __getitem__(self, row: Any) -> Any:
        """Return a row's frame, uint8 [height, width, 3], or None.

        Raises:
            DataError: the film is damaged there.
        """
        stamp = self._wanted[row]
        if stamp is None:
            return None
        if stamp == self._at:
            return self._last
        try:
            self._last = self._decoded(stamp)
        except DataError:
            self._end = stamp if self._end is None else min(stamp, self._end)
            raise
        self._at = stamp
        return self._last

    def _decoded(self, stamp: int) -> Any:
        if self._frames is None or self._at is None or stamp < self._at:
            self._frames = self._decode(stamp)
        for frame in self._frames:
            if frame.pts == stamp:
                if frame.is_corrupt:
                    raise _damaged(self._path, f"{self._time(stamp)} is torn")
                return frame.to_ndarray(format="rgb24")
        raise _damaged(self._path, f"no frame at {self._time(stamp)}")

    def _time(self, stamp: int) -> str:
        return f"{float(stamp * self._base):.3f} s"

    def _decode(self, stamp: int) -> Iterator[Any]:
        av = _av()
        try:
            with av.open(str(self._path)) as container:
                stream = container.streams.video[0]
                container.seek(stamp, stream=stream, backward=True)
                yield from container.decode(stream)
        except (av.error.FFmpegError, OSError) as error:
            raise _damaged(self._path, str(error)) from error


def _frame_stamps(path: Path) -> tuple[NDArray[np.int64], Fraction]:
    """Return (int64 [frames], sorted, in units of the time base, the time base)."""
    av = _av()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise _damaged(path, "it holds no pictures")
            stream = container.streams.video[0]
            stamps = [
                packet.pts
                for packet in container.demux(stream)
                if packet.pts is not None and packet.size
            ]
            base = stream.time_base
    except (av.error.FFmpegError, OSError) as error:
        raise _damaged(path, str(error)) from error
    return np.array(sorted(stamps), np.int64), base


def _match(
    stamps: NDArray[np.int64], wanted: NDArray[np.float64], tolerance: float
) -> list[int | None]:
    """Return for each wanted time the nearest stamp, each used once, or None."""
    if not stamps.size:
        return [None] * len(wanted)
    right = np.clip(np.searchsorted(stamps, wanted), 1, max(len(stamps) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(stamps) - 1)
    nearer = np.where(
        np.abs(stamps[left] - wanted) <= np.abs(stamps[right] - wanted), left, right
    )
    found: list[int | None] = []
    used = -1
    for row, index in zip(wanted.tolist(), nearer.tolist(), strict=True):
        fits = index > used and abs(int(stamps[index]) - row) <= tolerance
        found.append(int(stamps[index]) if fits else None)
        used = index if fits else used
    return found


def _damaged(path: Path, why: str) -> DataError:
    return DataError("E-RLDS-FILM-001", f"this film cannot be read: {why}", where=path)
