"""What a track looks like: a painted ground and upright things around it, by seed."""

from __future__ import annotations

import functools
import math

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.sim.ground import TEXTURE_SPAN_M, pack_rgb, paint_ground
from continuon.sim.track import Track, make_track

__all__ = ["Scene", "Walls", "make_scene"]

ROOM_MARGIN_M = 1.4

_THINGS = (
    (186, 70, 52), (58, 104, 176), (206, 166, 62), (84, 144, 86),
    (150, 92, 158), (176, 150, 120), (92, 150, 160),
)  # fmt: skip


@attrs.frozen(eq=False, kw_only=True)
class Walls:
    """Upright faces, each standing on a ground segment.

    Attributes:
        ends_m: float64 [F, 2, 2], the two ends' x and y.
        height_m: float64 [F, 2], lower and upper edge above the ground.
        palette: uint32 [F, M], colour along the face as packed RGB.
        apex_m: float64 [F], where the sides of a cone meet; NaN for a rectangle.
        solid: bool [F], a side of a box, seen from its outside only.
        turning: bool [F], always faces the camera (posts, cones).
    """

    ends_m: NDArray[np.float64]
    height_m: NDArray[np.float64]
    palette: NDArray[np.uint32]
    apex_m: NDArray[np.float64]
    solid: NDArray[np.bool_]
    turning: NDArray[np.bool_]


@attrs.frozen(eq=False, kw_only=True)
class Scene:
    """Everything that the camera can see.

    Attributes:
        track: the lane that is painted.
        ground: uint32 [S, S] packed RGB, row along y, column along x; one mip level
            each, the first with `cell_m` metres a cell, each next one twice as coarse.
        cell_m: size of a cell of the first level.
        origin_m: x and y of the raster's corner.
        walls: the things that stand on it; the first four are the room.
        ceiling: packed RGB.
    """

    track: Track
    ground: tuple[NDArray[np.uint32], ...]
    cell_m: float
    origin_m: tuple[float, float]
    walls: Walls
    ceiling: int


@functools.lru_cache(maxsize=4)
def make_scene(track_seed: int, *, cells: int = 2048) -> Scene:
    """Paint the scene of a track; `cells` (a power of two) is the raster's side."""
    track = make_track(track_seed)
    rng = np.random.default_rng([track_seed, 0x5CE])
    low, high = track.points_m.min(axis=0), track.points_m.max(axis=0)
    middle = (low + high) / 2.0
    origin = (
        float(middle[0] - TEXTURE_SPAN_M / 2),
        float(middle[1] - TEXTURE_SPAN_M / 2),
    )
    light = float(rng.uniform(0.72, 1.12))
    tint = 1.0 + rng.uniform(-0.07, 0.07, 3)
    ground = paint_ground(track, rng, cells=cells, origin_m=origin, light=light * tint)
    walls = _stand_things(track, rng, low, high, light * tint)
    sky = np.array([200.0, 202.0, 206.0]) * rng.uniform(0.75, 1.05) * tint
    return Scene(
        track=track,
        ground=ground,
        cell_m=TEXTURE_SPAN_M / cells,
        origin_m=origin,
        walls=walls,
        ceiling=int(pack_rgb(sky)),
    )


@attrs.define
class _Builder:
    light: NDArray[np.float64]
    ends: list[list[tuple[float, float]]] = attrs.field(factory=list)
    heights: list[tuple[float, float]] = attrs.field(factory=list)
    palettes: list[NDArray[np.uint32]] = attrs.field(factory=list)
    apexes: list[float] = attrs.field(factory=list)
    solids: list[bool] = attrs.field(factory=list)
    turnings: list[bool] = attrs.field(factory=list)

    def face(
        self,
        ends: list[tuple[float, float]],
        height: tuple[float, float],
        colours: NDArray[np.float64],
        *,
        apex_m: float = math.nan,
        solid: bool = False,
        turning: bool = False,
    ) -> None:
        dx, dy = ends[1][0] - ends[0][0], ends[1][1] - ends[0][1]
        length = max(math.hypot(dx, dy), 1e-6)
        shade = 1.0 if turning else 0.86 + 0.18 * (0.6 * dy - 0.8 * dx) / length
        self.ends.append(ends)
        self.heights.append(height)
        self.palettes.append(pack_rgb(colours * shade * self.light))
        self.apexes.append(apex_m)
        self.solids.append(solid)
        self.turnings.append(turning)

    def build(self) -> Walls:
        return Walls(
            ends_m=np.array(self.ends, np.float64),
            height_m=np.array(self.heights, np.float64),
            palette=np.stack(self.palettes),
            apex_m=np.array(self.apexes, np.float64),
            solid=np.array(self.solids),
            turning=np.array(self.turnings),
        )


_CELLS = 64


def _stand_things(
    track: Track,
    rng: np.random.Generator,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    light: NDArray[np.float64],
) -> Walls:
    builder = _Builder(light)
    x0, y0 = (low - ROOM_MARGIN_M).tolist()
    x1, y1 = (high + ROOM_MARGIN_M).tolist()
    room = np.array([190.0, 186.0, 176.0]) * rng.uniform(0.6, 1.0)
    room = room * (1.0 + rng.uniform(-0.12, 0.12, 3))
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    for side in range(4):
        panels = np.repeat(rng.uniform(0.86, 1.08, (16, 1)), _CELLS // 16, axis=0)
        colours = room * panels
        for _ in range(3):
            at = int(rng.integers(0, _CELLS - 6))
            picture = np.array(_THINGS[rng.integers(len(_THINGS))], float)
            colours[at : at + int(rng.integers(2, 6))] = picture
        ends = [corners[side], corners[(side + 1) % 4]]
        builder.face(ends, (0.0, 2.6), colours)
    for side in range(4):
        skirting = np.tile(room * 0.45, (_CELLS, 1))
        inner = [_towards(corners[(side + e) % 4], (x0, y0, x1, y1)) for e in (0, 1)]
        builder.face(inner, (0.0, 0.14), skirting)
    _beside(track, rng, builder, (x0, y0, x1, y1))
    return builder.build()


def _towards(
    corner: tuple[float, float], room: tuple[float, float, float, float]
) -> tuple[float, float]:
    """Return a corner moved 2 cm into the room."""
    x0, y0, x1, y1 = room
    return (
        min(max(corner[0], x0 + 0.02), x1 - 0.02),
        min(max(corner[1], y0 + 0.02), y1 - 0.02),
    )


def _beside(
    track: Track,
    rng: np.random.Generator,
    builder: _Builder,
    room: tuple[float, float, float, float],
) -> None:
    """Stand boxes, low walls, posts and cones beside the lane, never on it."""
    keep_off = track.lane_width_m / 2 + 0.2
    for s_m in np.arange(0.0, track.length_m, 0.9):
        kind = rng.choice(["box", "wall", "post", "cone", "cone", "none"])
        side = 1.0 if rng.random() < 0.5 else -1.0
        away = keep_off + float(rng.uniform(0.05, 0.6))
        tall, size = float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.1, 0.25))
        turn = float(rng.uniform(0.0, math.pi))
        colour = np.array(_THINGS[rng.integers(len(_THINGS))], float)
        colour = colour * rng.uniform(0.8, 1.1)
        if kind == "none":
            continue
        lengthways = 0.6 if kind == "wall" else size
        reach = 0.05 if kind == "wall" else size
        x, y, heading = track.pose_at(float(s_m), side * (away + reach))
        radius = math.hypot(lengthways, reach)
        if not (
            room[0] + radius < x < room[2] - radius
            and room[1] + radius < y < room[3] - radius
        ):
            continue
        position = track.locate(x, y)
        clear = radius if kind != "wall" else 0.2
        if abs(position.lateral_m) < keep_off + clear * 0.7:
            continue
        if kind in ("post", "cone"):
            _round(builder, (x, y), colour, cone=kind == "cone", tall=tall)
            continue
        angle = heading if kind == "wall" else turn
        tall = 0.3 if kind == "wall" else tall
        _box(builder, rng, (x, y), (lengthways, reach, angle, tall), colour)


def _round(
    builder: _Builder,
    at: tuple[float, float],
    colour: NDArray[np.float64],
    *,
    cone: bool,
    tall: float,
) -> None:
    x, y = at
    wide = 0.11 if cone else 0.045
    tall = 0.32 if cone else tall + 0.2
    across = np.linspace(-0.97, 0.97, _CELLS)
    round_shade = (0.55 + 0.5 * np.sqrt(1 - across**2))[:, None]
    apex = tall if cone else math.nan
    body = np.array([226.0, 96.0, 38.0]) if cone else colour
    ends = [(x - wide, y), (x + wide, y)]
    builder.face(ends, (0.0, tall), body * round_shade, apex_m=apex, turning=True)
    band = np.array([232.0, 232.0, 228.0]) * round_shade
    if cone:
        narrow = wide * (1.0 - 0.12 / tall)
        ends = [(x - narrow, y), (x + narrow, y)]
        builder.face(ends, (0.12, 0.19), band, apex_m=tall, turning=True)
    else:
        builder.face(ends, (0.7 * tall, 0.85 * tall), band, turning=True)


def _box(
    builder: _Builder,
    rng: np.random.Generator,
    at: tuple[float, float],
    shape: tuple[float, float, float, float],
    colour: NDArray[np.float64],
) -> None:
    half_a, half_b, angle, tall = shape
    cos, sin = math.cos(angle), math.sin(angle)
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    corners = [
        (
            at[0] + a * half_a * cos - b * half_b * sin,
            at[1] + a * half_a * sin + b * half_b * cos,
        )
        for a, b in signs
    ]
    stripes = np.repeat(rng.uniform(0.8, 1.1, (8, 1)), _CELLS // 8, axis=0)
    for side in range(4):
        ends = [corners[side], corners[(side + 1) % 4]]
        builder.face(ends, (0.0, tall), colour * stripes, solid=True)
