"""Demonstrations by a bare hand: an object's points and five fingertips, by the tick.

A folder holds a `.npz` for each demonstration, without pickle: `points_m` [T, N, 3] and
`tips_m` [T, K, 3] in metres and in one frame that stands still, `rate_hz`, and the
`origin`, one of the words that every recording is labelled with.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.durable import replace_file
from continuon.errors import DataError
from continuon.rlds.vocabulary import Origin

__all__ = ["HandEpisode", "hands_digest", "load_hands", "save_hand"]

_MAX_SPAN_M = 0.5
"""Fingertips of one hand are never further apart; millimetres taken for metres are."""
_FIELDS = ("points_m", "tips_m", "rate_hz", "origin")


@attrs.frozen(kw_only=True, eq=False)
class HandEpisode:
    """One demonstration.

    Attributes:
        episode_id: the file's stem.
        origin: real, imported, simulated, synthetic or replayed.
        points_m: float32 [T, N, 3], in any order.
        tips_m: float32 [T, K, 3], fingertips in a fixed order.
        rate_hz: ticks a second.

    Raises:
        DataError: E-LEARN-HAND-002, the arrays do not belong together, are not finite,
            or are no hand in metres.
    """

    episode_id: str
    origin: str
    points_m: NDArray[np.float32]
    tips_m: NDArray[np.float32]
    rate_hz: float

    def __attrs_post_init__(self) -> None:
        points, tips = self.points_m, self.tips_m
        fits = points.ndim == tips.ndim == 3 and points.shape[-1] == tips.shape[-1] == 3
        if not fits or len(points) != len(tips) or 0 in points.shape + tips.shape:
            self._refuse(
                f"points {points.shape}, tips {tips.shape}", "[T, N, 3], [T, K, 3]"
            )
        if not (np.isfinite(points).all() and np.isfinite(tips).all()):
            self._refuse("a number that is not finite", "finite metres")
        if not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
            self._refuse(f"rate_hz {self.rate_hz}", "above 0, finite")
        if self.origin not in set(Origin):
            self._refuse(f"origin {self.origin}", ", ".join(Origin))
        span_m = float(np.ptp(tips, axis=1).max())
        if span_m > _MAX_SPAN_M:
            self._refuse(
                f"fingertips {span_m:.3g} apart", f"metres, at most {_MAX_SPAN_M}"
            )

    def _refuse(self, seen: str, allowed: str) -> None:
        raise DataError(
            "E-LEARN-HAND-002",
            "a demonstration by hand cannot be learnt from",
            where=self.episode_id,
            seen=seen,
            allowed=allowed,
        )

    def __len__(self) -> int:
        return len(self.tips_m)


def save_hand(folder: Path, episode: HandEpisode) -> Path:
    """Write one demonstration, whole or not at all, and return its file."""
    held = io.BytesIO()
    np.savez_compressed(
        held,
        points_m=episode.points_m,
        tips_m=episode.tips_m,
        rate_hz=np.float64(episode.rate_hz),
        origin=np.array(episode.origin),
    )
    path = folder / f"{episode.episode_id}.npz"
    replace_file(path, held.getvalue())
    return path


def load_hands(folder: Path) -> tuple[HandEpisode, ...]:
    """Read every demonstration of a folder, by name.

    Raises:
        DataError: E-LEARN-HAND-001, there is none, or one cannot be read; -002; -003,
            they differ in their rate, fingertips or points.
    """
    files = sorted(folder.glob("*.npz")) if folder.is_dir() else []
    if not files:
        raise DataError(
            "E-LEARN-HAND-001",
            "there is no demonstration by hand",
            where=folder,
            allowed=f"*.npz files with {', '.join(_FIELDS)}",
        )
    episodes = tuple(_read(path) for path in files)
    kinds = {(e.rate_hz, e.points_m.shape[1:], e.tips_m.shape[1:]) for e in episodes}
    if len(kinds) > 1:
        raise DataError(
            "E-LEARN-HAND-003",
            "the demonstrations are not of one kind",
            where=folder,
            seen="; ".join(map(str, sorted(kinds))),
            allowed="one rate, one number of points and of fingertips",
        )
    return episodes


def hands_digest(episodes: Sequence[HandEpisode]) -> str:
    """Return the SHA-256, hex, of everything that learning sees, in order."""
    total = hashlib.sha256()
    for e in episodes:
        head = f"{e.episode_id}\0{e.origin}\0{e.rate_hz}\0{e.points_m.shape}\n"
        total.update(head.encode())
        total.update(np.ascontiguousarray(e.points_m).tobytes())
        total.update(np.ascontiguousarray(e.tips_m).tobytes())
    return total.hexdigest()


def _read(path: Path) -> HandEpisode:
    try:
        # opened here: numpy leaves its own handle open where the archive is torn
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            held: dict[str, Any] = {name: file[name] for name in _FIELDS}
        points_m, tips_m = (held[f].astype(np.float32) for f in ("points_m", "tips_m"))
        rate_hz = float(held["rate_hz"])
    # zipfile, zlib, tokenize and numpy each raise their own for an altered byte
    except Exception as error:
        raise DataError(
            "E-LEARN-HAND-001",
            "a demonstration by hand cannot be read",
            where=path,
            seen=str(error).splitlines()[0] if str(error) else type(error).__name__,
            allowed=f"an .npz with {', '.join(_FIELDS)}",
        ) from error
    return HandEpisode(
        episode_id=path.stem,
        origin=str(held["origin"]),
        points_m=points_m,
        tips_m=tips_m,
        rate_hz=rate_hz,
    )
