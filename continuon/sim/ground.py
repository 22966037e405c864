"""The ground as a picture seen from above: floor, road, lane lines and dashes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from continuon.sim.track import Track

__all__ = ["MARGIN", "TEXTURE_SPAN_M", "pack_rgb", "paint_ground"]

# Colours stay this far from 0 and 255, so that sensor noise never wraps around.
MARGIN = 12
TEXTURE_SPAN_M = 12.8
SHOULDER_M = 0.10

_GROUNDS = (
    (92, 92, 96), (70, 74, 80), (128, 112, 94), (98, 108, 92),
    (74, 84, 108), (134, 130, 124), (110, 84, 74),
)  # fmt: skip
_EDGES = ((236, 236, 232), (232, 226, 206), (226, 206, 70))
_DASHES = ((230, 194, 40), (236, 128, 48), (236, 236, 228))
_ROAD, _EDGE, _DASH = 1, 2, 3


def pack_rgb(rgb: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Pack colours [..., 3] in 0..255 to uint32, bytes red, green, blue, 255."""
    packed = np.full((*rgb.shape[:-1], 4), 255, np.uint8)
    packed[..., :3] = np.clip(rgb, MARGIN, 255 - MARGIN)
    return packed.view("<u4")[..., 0]


def paint_ground(
    track: Track,
    rng: np.random.Generator,
    *,
    cells: int,
    origin_m: tuple[float, float],
    light: NDArray[np.float64],
) -> tuple[NDArray[np.uint32], ...]:
    """Paint a square of `TEXTURE_SPAN_M` around the track, and its mip levels.

    Args:
        track: whose lane is painted.
        rng: draws colours, widths and textures.
        cells: side of the finest level, a power of two.
        origin_m: x and y of the square's corner.
        light: brightness of red, green and blue.

    Returns:
        uint32 [side, side] packed RGB, rows along y; each level half as wide as the
        one before, down to 256.
    """
    base = np.array(_GROUNDS[rng.integers(len(_GROUNDS))], float)
    road = base * rng.uniform(0.62, 0.9)
    edge = np.array(_EDGES[rng.integers(len(_EDGES))], float)
    dash = np.array(_DASHES[rng.integers(len(_DASHES))], float)
    colours = np.stack([base, road, edge, dash]) * light
    shades = np.clip(colours, 2 * MARGIN, 255 - 2 * MARGIN).astype(np.int16)
    texture = _texture(rng, cells)
    kinds = _kinds(track, rng, cells, origin_m)
    level = np.full((cells, cells, 4), 255, np.uint8)
    for channel in range(3):
        plane = shades[:, channel][kinds]
        plane += texture
        # Half a cell of blur takes the steps off the painted edges.
        plane[1:] += plane[:-1]
        plane[:, 1:] += plane[:, :-1]
        np.right_shift(plane, 2, out=plane)
        plane[0], plane[:, 0] = plane[1], plane[:, 1]
        np.clip(plane, MARGIN, 255 - MARGIN, out=plane)
        level[..., channel] = plane
    levels = [level]
    while levels[-1].shape[0] > 256:
        levels.append(_half(levels[-1]))
    return tuple(each.view("<u4")[..., 0] for each in levels)


def _texture(rng: np.random.Generator, cells: int) -> NDArray[np.int16]:
    """Return int16 [cells, cells]: smooth blotches and grain, in steps of colour."""
    small = cells // 4
    coarse = rng.normal(0.0, 1.0, (33, 33))
    place = np.linspace(0.0, 31.999, small)
    index = place.astype(np.int64)
    part = place - index
    rows = coarse[index] * (1 - part)[:, None] + coarse[index + 1] * part[:, None]
    blotch = rows[:, index] * (1 - part) + rows[:, index + 1] * part
    blotch *= rng.uniform(4.0, 10.0)
    grain = rng.standard_normal((small, small), dtype=np.float32)
    grain *= np.float32(rng.uniform(4.0, 8.0))
    wide = np.repeat(np.repeat(blotch.astype(np.int16), 4, axis=0), 4, axis=1)
    wide += np.tile(grain.astype(np.int16), (4, 4))
    return np.clip(wide, -60, 60, out=wide)


def _kinds(
    track: Track,
    rng: np.random.Generator,
    cells: int,
    origin_m: tuple[float, float],
) -> NDArray[np.uint8]:
    """Return uint8 [cells, cells]: 0 floor, 1 road, 2 lane line, 3 dash."""
    line_m, dash_m = rng.uniform(0.045, 0.06), rng.uniform(0.035, 0.05)
    period_m, filled = rng.uniform(0.5, 0.8), rng.uniform(0.45, 0.6)
    half = track.lane_width_m / 2.0
    # Samples closer than a cell's side by the square root of two leave no holes.
    step = 0.5 * TEXTURE_SPAN_M / cells
    along = np.arange(0.0, track.length_m, step)
    kinds = np.zeros((cells, cells), np.uint8)
    side = np.arange(half - line_m, half, step)
    dashed = along[(along % period_m) < filled * period_m]
    wide = np.arange(-half - SHOULDER_M, half + SHOULDER_M, step)
    for kind, places, across in (
        (_ROAD, along, wide),
        (_EDGE, along, np.concatenate([-side, side])),
        (_DASH, dashed, np.arange(-dash_m / 2, dash_m / 2, step)),
    ):
        place = places / track.spacing_m
        index = place.astype(np.int64) % len(track.points_m)
        part = (place - np.floor(place))[:, None]
        points, after = track.points_m[index], (index + 1) % len(track.points_m)
        centre = points + part * (track.points_m[after] - points) - origin_m
        heading = track.heading_rad[index]
        scale = cells / TEXTURE_SPAN_M
        centre = (centre * scale).astype(np.float32)
        offsets = (across * scale).astype(np.float32)
        sin = np.sin(heading).astype(np.float32)[:, None]
        cos = np.cos(heading).astype(np.float32)[:, None]
        column = (centre[:, :1] - sin * offsets).astype(np.int32)
        row = (centre[:, 1:] + cos * offsets).astype(np.int32)
        kinds[row, column] = kind
    return kinds


def _half(level: NDArray[np.uint8]) -> NDArray[np.uint8]:
    wide = level.astype(np.uint16)
    wide = wide[0::2] + wide[1::2]
    wide = wide[:, 0::2] + wide[:, 1::2]
    return (wide >> 2).astype(np.uint8)
