"""Closed tracks drawn by seed: a smooth loop that a small car can drive.

The centre line is a polar Fourier loop, r(a) = R (1 + sum c_k cos(k a + p_k)), sampled
at equal arc length. Axes: x east, y north, heading counter-clockwise from x, lateral
offsets positive to the left of the direction of travel, curvature positive to the left.
"""

from __future__ import annotations

import functools
import math

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import UsageError

__all__ = ["Track", "TrackPosition", "make_track"]

SPACING_M = 0.02
MIN_LENGTH_M, MAX_LENGTH_M = 20.0, 35.0
MAX_CURVATURE_PER_M = 0.95
MIN_SHARPEST_PER_M = 0.55
MIN_SEPARATION_M = 1.7
MAX_EXTENT_M = 9.8
MAX_TRIALS = 2000


@attrs.frozen(kw_only=True)
class TrackPosition:
    """Where a point lies relative to the centre line.

    Attributes:
        s_m: arc length along the line, 0 <= s_m < length_m.
        lateral_m: distance from the line, positive to its left.
        heading_rad: direction of travel there.
        curvature_per_m: signed curvature there, positive to the left.
    """

    s_m: float
    lateral_m: float
    heading_rad: float
    curvature_per_m: float


@attrs.frozen(eq=False, kw_only=True)
class Track:
    """A closed centre line with a lane around it.

    Attributes:
        seed: what it was drawn from.
        lane_width_m: between the outer edges of the two lane lines.
        points_m: float64 [N, 2], x and y at equal arc length.
        heading_rad: float64 [N], direction of travel.
        curvature_per_m: float64 [N], positive to the left.
        length_m: of the whole loop.
    """

    seed: int
    lane_width_m: float
    points_m: NDArray[np.float64]
    heading_rad: NDArray[np.float64]
    curvature_per_m: NDArray[np.float64]
    length_m: float

    @property
    def spacing_m(self) -> float:
        """Arc length between neighbouring points."""
        return self.length_m / len(self.points_m)

    def locate(
        self, x_m: float, y_m: float, *, near_s_m: float | None = None
    ) -> TrackPosition:
        """Return the nearest place on the centre line.

        With `near_s_m` only the half metre around that arc length is searched first,
        and the whole loop when the point is not near it.
        """
        points = self.points_m
        count = len(points)
        index = -1
        if near_s_m is not None:
            reach = int(0.5 / self.spacing_m)
            first = int(near_s_m / self.spacing_m) - reach
            window = np.arange(first, first + 2 * reach + 1) % count
            away = (points[window, 0] - x_m) ** 2 + (points[window, 1] - y_m) ** 2
            best = int(away.argmin())
            if 0 < best < 2 * reach:
                index = int(window[best])
        if index < 0:
            away = (points[:, 0] - x_m) ** 2 + (points[:, 1] - y_m) ** 2
            index = int(away.argmin())
        heading = float(self.heading_rad[index])
        cos, sin = math.cos(heading), math.sin(heading)
        dx, dy = x_m - float(points[index, 0]), y_m - float(points[index, 1])
        return TrackPosition(
            s_m=(index * self.spacing_m + dx * cos + dy * sin) % self.length_m,
            lateral_m=dy * cos - dx * sin,
            heading_rad=heading,
            curvature_per_m=float(self.curvature_per_m[index]),
        )

    def pose_at(self, s_m: float, lateral_m: float = 0.0) -> tuple[float, float, float]:
        """Return x, y and heading of a point at arc length `s_m`."""
        place = (s_m / self.spacing_m) % len(self.points_m)
        index = int(place) % len(self.points_m)
        after = (index + 1) % len(self.points_m)
        part = place - int(place)
        x, y = self.points_m[index] + part * (
            self.points_m[after] - self.points_m[index]
        )
        heading = float(self.heading_rad[index])
        return (
            float(x) - lateral_m * math.sin(heading),
            float(y) + lateral_m * math.cos(heading),
            heading,
        )

    def max_curvature_ahead(self, s_m: float, reach_m: float) -> float:
        """Return the largest absolute curvature in the next `reach_m` metres."""
        count = len(self.points_m)
        first = int(s_m / self.spacing_m)
        window = np.arange(first, first + max(1, int(reach_m / self.spacing_m)), 4)
        return float(np.abs(self.curvature_per_m[window % count]).max())

    def curve_starts_m(self) -> NDArray[np.float64]:
        """Return arc lengths from which the next two metres bend by over 25 degrees."""
        reach = int(2.0 / self.spacing_m)
        turning = np.cumsum(
            np.concatenate([self.curvature_per_m, self.curvature_per_m[:reach]])
        )
        turned = (turning[reach:] - turning[:-reach]) * self.spacing_m
        starts = np.flatnonzero(np.abs(turned) > math.radians(25.0))
        return np.asarray(starts * self.spacing_m, np.float64)


@functools.lru_cache(maxsize=32)
def make_track(seed: int, *, lane_width_m: float | None = None) -> Track:
    """Draw a track: 20 to 35 m long, no bend tighter than about 1.05 m in radius.

    Args:
        seed: any non-negative integer; equal seeds give equal tracks.
        lane_width_m: 0.4 to 1.0; drawn from 0.52 to 0.62 when None.

    Raises:
        UsageError: the seed is negative or the lane width out of range.
    """
    if seed < 0:
        raise UsageError(
            "E-SIM-SEED-001", "a seed is negative", seen=seed, allowed="0.."
        )
    if lane_width_m is not None and not 0.4 <= lane_width_m <= 1.0:
        raise UsageError(
            "E-SIM-LANE-001",
            "the lane width is out of range",
            seen=lane_width_m,
            allowed="0.4..1.0 m",
        )
    rng = np.random.default_rng([seed, 0x7AC])
    width = float(rng.uniform(0.52, 0.62)) if lane_width_m is None else lane_width_m
    for _ in range(MAX_TRIALS):
        loop = _trial(rng)
        if loop is not None:
            points, heading, curvature, length = loop
            return Track(
                seed=seed,
                lane_width_m=width,
                points_m=points,
                heading_rad=heading,
                curvature_per_m=curvature,
                length_m=length,
            )
    raise UsageError("E-SIM-TRACK-001", "no drivable track for this seed", seen=seed)


_Loop = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]


def _trial(rng: np.random.Generator) -> _Loop | None:
    radius = rng.uniform(2.6, 4.6)
    orders = np.arange(2, 6)
    sizes = rng.normal(0.0, 1.0, 4) * np.array([0.20, 0.17, 0.10, 0.05])
    phases = rng.uniform(0.0, 2.0 * np.pi, 4)
    backwards = bool(rng.integers(2))
    angle = np.linspace(0.0, 2.0 * np.pi, 1440, endpoint=False)
    waves = orders[:, None] * angle + phases[:, None]
    r = radius * (1.0 + sizes @ np.cos(waves))
    if r.min() < 0.35 * radius:
        return None
    dr = radius * (-(sizes * orders) @ np.sin(waves))
    ddr = radius * (-(sizes * orders**2) @ np.cos(waves))
    # Curvature of a polar curve: (r^2 + 2 r'^2 - r r'') / (r^2 + r'^2)^(3/2).
    speed = np.sqrt(r**2 + dr**2)
    curvature = (r**2 + 2.0 * dr**2 - r * ddr) / speed**3
    length = float(speed.mean() * 2.0 * np.pi)
    sharpest = np.abs(curvature).max()
    if not (
        MIN_LENGTH_M <= length <= MAX_LENGTH_M
        and MIN_SHARPEST_PER_M <= sharpest <= MAX_CURVATURE_PER_M
        and curvature.min() < -0.12
    ):
        return None
    arc = np.concatenate([[0.0], np.cumsum(speed)]) * (length / speed.sum())
    count = round(length / SPACING_M)
    wanted = np.linspace(0.0, length, count, endpoint=False)
    at = np.interp(wanted, arc, np.append(angle, 2.0 * np.pi))
    waves = orders[:, None] * at + phases[:, None]
    r = radius * (1.0 + sizes @ np.cos(waves))
    points = np.stack([r * np.cos(at), r * np.sin(at)], axis=1)
    if np.ptp(points, axis=0).max() > MAX_EXTENT_M or not _apart(points[::10], length):
        return None
    if backwards:
        points = points[::-1]
    ahead = np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0)
    heading = np.arctan2(ahead[:, 1], ahead[:, 0])
    bend = np.interp(at, angle, curvature, period=2.0 * np.pi)
    bend = -bend[::-1] if backwards else bend
    return np.ascontiguousarray(points), heading, bend, length


def _apart(points: NDArray[np.float64], length_m: float) -> bool:
    """Tell whether parts of the loop far apart by arc length are apart in space too."""
    gap = points[:, None, :] - points[None, :, :]
    distance = np.hypot(gap[..., 0], gap[..., 1])
    index = np.arange(len(points))
    steps = np.abs(index[:, None] - index[None, :])
    arc = np.minimum(steps, len(points) - steps) * (length_m / len(points))
    return bool(distance[arc > 2.0 * MIN_SEPARATION_M].min() > MIN_SEPARATION_M)
