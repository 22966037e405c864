"""A pinhole RGB-D camera in numpy: ground by texture look-up, things by columns.

The optical axis is level and the principal point lies above the image's middle (a
shifted lens), so a row of ground has one depth and an upright face has one depth a
column. Depth is along the optical axis (as RGB-D cameras give it), not along the ray.
"""

from __future__ import annotations

import itertools
import math

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.sim.ground import MARGIN
from continuon.sim.scene import Scene, make_scene

__all__ = ["CameraModel", "Renderer", "View"]

NEAR_M = 0.12
DEPTH_BLOCK_PX = 6
_NOISE_CELLS = 262_139  # prime: its repeats never line up with rows


@attrs.frozen(kw_only=True)
class CameraModel:
    """Geometry and noise of the camera.

    Attributes:
        width, height: pixels.
        half_view: tangent of half the horizontal field of view.
        horizon: the horizon's row as a fraction of the height.
        height_m: lens above the ground.
        forward_m: lens ahead of the rear axle.
        min_depth_m, max_depth_m: depth outside is unknown (0).
        colour_noise: largest change of a colour by noise, 0..10 of 255.
        depth_noise_per_m: depth's relative noise a metre away (grows with its square).
    """

    width: int = 640
    height: int = 480
    half_view: float = 0.84
    horizon: float = 0.32
    height_m: float = 0.22
    forward_m: float = 0.22
    min_depth_m: float = 0.2
    max_depth_m: float = 10.0
    colour_noise: int = 6
    depth_noise_per_m: float = 0.004

    @property
    def focal_px(self) -> float:
        """Focal length in pixels, the same for rows and columns."""
        return 0.5 * self.width / self.half_view


@attrs.frozen(eq=False)
class View:
    """One picture: rgb uint8 [h, w, 3] and depth uint16 [h, w] in millimetres."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]


class Renderer:
    """Draws views of a track's scene from poses of the car. One per camera and thread.

    The scene is painted at the first view (about half a second at full size).
    """

    scene: Scene

    def __init__(self, track_seed: int, model: CameraModel, *, seed: int) -> None:
        self.track_seed = track_seed
        self.model = model
        self._seed = seed
        self._ready = False

    def view(
        self,
        pose: tuple[float, float, float],
        *,
        sequence: int,
        depth_pose: tuple[float, float, float] | None = None,
    ) -> View:
        """Draw what is seen from a pose (x_m, y_m, heading_rad of the rear axle).

        The noise depends on seed and `sequence` alone.

        Args:
            pose: at the exposure of the colours.
            sequence: of the exposure.
            depth_pose: at the exposure of the depth, which is another instant; `pose`
                when None.
        """
        if not self._ready:
            self.prepare()
        eye, cos, sin = self._eye(pose)
        self._ground(eye, cos, sin)
        np.copyto(self._z, self._ground_z)
        self._things(eye, cos, sin)
        if depth_pose is not None and depth_pose != pose:
            # The ground's depth is the same from every pose: only things move.
            np.copyto(self._z, self._ground_z)
            self._things(*self._eye(depth_pose), paint=False)
        return self._sense(sequence)

    def _eye(
        self, pose: tuple[float, float, float]
    ) -> tuple[tuple[float, float], float, float]:
        """Return where the lens is, and the cosine and sine of where it looks."""
        x, y, heading = pose
        cos, sin = float(np.cos(heading)), float(np.sin(heading))
        forward = self.model.forward_m
        return (x + forward * cos, y + forward * sin), cos, sin

    def prepare(self) -> None:
        """Paint the scene and lay out the rays; `view` does it when it was not done."""
        model = self.model
        cells = 2048 if model.width > 320 else 1024
        self.scene = make_scene(self.track_seed, cells=cells)
        width, height, focal = model.width, model.height, model.focal_px
        self._cy = round(model.horizon * height)
        columns = np.arange(width, dtype=np.float32) + 0.5 - width / 2
        self._slope = (columns / focal).astype(np.float32)
        below = np.arange(self._cy, height, dtype=np.float32) + 0.5 - self._cy
        self._row_z = (focal * model.height_m / below).astype(np.float32)
        footprint = self._row_z**2 / (focal * model.height_m)
        level = np.floor(np.log2(np.maximum(footprint / self.scene.cell_m / 2, 1.0)))
        level = np.minimum(level, len(self.scene.ground) - 1).astype(np.int64)
        ends = np.flatnonzero(np.diff(level)) + 1
        bounds = [0, *ends.tolist(), len(level)]
        self._bands = [(a, b, int(level[a])) for a, b in itertools.pairwise(bounds)]
        self._rows = np.arange(height, dtype=np.float32)[:, None] + 0.5
        self._z = np.empty((height, width), np.float32)
        self._ground_z = np.full((height, width), 1e3, np.float32)
        self._ground_z[self._cy :] = self._row_z[:, None]
        self._pixels = np.empty((height, width), np.uint32)
        self._draw_noise()
        self._ready = True

    def _draw_noise(self) -> None:
        """Lay out noise for two frames; each frame starts at a place of its own."""
        model = self.model
        rng = np.random.default_rng([self._seed, 0x4015E])
        count = model.width * model.height
        top = min(model.colour_noise, MARGIN - 1)
        drawn = rng.standard_normal(_NOISE_CELLS, dtype=np.float32)
        colour = np.clip(np.rint(drawn * np.float32(top / 2.5)), -top, top)
        # Added modulo 256; colours keep a margin, so nothing wraps around.
        self._colour_noise = np.resize(colour.astype(np.int8), 6 * count)
        self._colour_noise = self._colour_noise.view(np.uint8)
        # A stereo matcher compares blocks, so neighbours in a row share their error.
        shared = np.resize(np.repeat(drawn[::-1], DEPTH_BLOCK_PX), _NOISE_CELLS)
        grain = shared * np.float32(1000.0 * model.depth_noise_per_m)
        # One depth pixel in 400 has no match and reads 0, wherever it lies.
        grain[rng.random(_NOISE_CELLS, dtype=np.float32) < 0.0025] = -1e9
        self._depth_noise = np.resize(grain, 2 * count)

    def _ground(self, eye: tuple[float, float], cos: float, sin: float) -> None:
        scene, f32 = self.scene, np.float32
        self._pixels[: self._cy] = scene.ceiling
        # Ground point of (row, column): eye + z * (forward + slope * right).
        step_x = f32(cos) + self._slope * f32(sin)
        step_y = f32(sin) - self._slope * f32(cos)
        for first, last, level in self._bands:
            texture = scene.ground[level]
            side = texture.shape[0]
            per_m = 1.0 / (scene.cell_m * 2**level)
            z = (self._row_z[first:last] * f32(per_m))[:, None]
            # A whole number of spans keeps the look-up positive; the mask wraps it.
            base_x = f32((eye[0] - scene.origin_m[0]) * per_m + 64 * side)
            base_y = f32((eye[1] - scene.origin_m[1]) * per_m + 64 * side)
            column = (z * step_x + base_x).astype(np.int32)
            row = (z * step_y + base_y).astype(np.int32)
            column &= side - 1
            row &= side - 1
            row *= side
            row += column
            out = self._pixels[self._cy + first : self._cy + last]
            np.take(texture.reshape(-1), row, out=out, mode="clip")

    def _things(
        self, eye: tuple[float, float], cos: float, sin: float, *, paint: bool = True
    ) -> None:
        walls = self.scene.walls
        dx = walls.ends_m[..., 0] - eye[0]
        dy = walls.ends_m[..., 1] - eye[1]
        z = dx * cos + dy * sin
        right = dx * sin - dy * cos
        half = 0.5 * np.abs(walls.ends_m[:, 1, 0] - walls.ends_m[:, 0, 0])
        turn = walls.turning
        middle_z, middle_right = z[turn].mean(axis=1), right[turn].mean(axis=1)
        z[turn] = middle_z[:, None]
        right[turn, 0] = middle_right - half[turn]
        right[turn, 1] = middle_right + half[turn]
        reach = self.model.half_view
        facing = (dx[:, 0] * (dy[:, 1] - dy[:, 0])) < (dy[:, 0] * (dx[:, 1] - dx[:, 0]))
        seen = (
            (~walls.solid | facing)
            & (z.max(axis=1) > NEAR_M)
            & ~(right > reach * np.maximum(z, 0) + 1e-3).all(axis=1)
            & ~(right < -reach * np.maximum(z, 0) - 1e-3).all(axis=1)
        )
        for face in np.flatnonzero(seen):
            self._face(
                int(face),
                (float(right[face, 0]), float(z[face, 0])),
                (float(right[face, 1]), float(z[face, 1])),
                paint=paint,
            )

    def _face(
        self,
        face: int,
        start: tuple[float, float],
        end: tuple[float, float],
        *,
        paint: bool,
    ) -> None:
        walls, model = self.scene.walls, self.model
        (x0, z0), (x1, z1) = start, end
        dx, dz = x1 - x0, z1 - z0
        c0, c1 = 0, model.width
        if min(z0, z1) > NEAR_M:
            a = model.focal_px * x0 / z0 + model.width / 2
            b = model.focal_px * x1 / z1 + model.width / 2
            c0 = max(0, int(min(a, b)))
            c1 = min(model.width, int(max(a, b)) + 2)
            if c0 >= c1:
                return
        slope = self._slope[c0:c1]
        across = np.float32(dx) - slope * np.float32(dz)
        across[np.abs(across) < 1e-6] = 1e-6
        t = (slope * np.float32(z0) - np.float32(x0)) / across
        z = np.float32(z0) + t * np.float32(dz)
        hit = (t >= 0.0) & (t <= 1.0) & (z > NEAR_M)
        if not hit.any():
            return
        if not hit.all():
            first = int(hit.argmax())
            last = len(hit) - int(hit[::-1].argmax())
            c0, c1 = c0 + first, c0 + last
            t, z, hit = t[first:last], z[first:last], hit[first:last]
        scale = np.float32(model.focal_px) / np.where(hit, z, np.float32(1e6))
        low, high = (float(h) for h in walls.height_m[face])
        above: NDArray[np.float32] | float = high - model.height_m
        apex = float(walls.apex_m[face])
        if not math.isnan(apex):
            slant = low + (apex - low) * (1 - np.abs(2 * t - 1))
            above = np.minimum(slant, high) - model.height_m
        top = self._cy - scale * above
        bottom = self._cy - scale * np.float32(low - model.height_m)
        r0 = max(0, int(top.min()))
        r1 = min(model.height, int(bottom.max()) + 1)
        if r0 >= r1:
            return
        rows = self._rows[r0:r1]
        depth = self._z[r0:r1, c0:c1]
        mask = rows >= top
        mask &= rows < bottom
        mask &= z <= depth
        if paint:
            palette = walls.palette[face]
            cell = np.clip(t * len(palette), 0, len(palette) - 1).astype(np.int32)
            np.copyto(self._pixels[r0:r1, c0:c1], palette[cell], where=mask)
        np.copyto(depth, z, where=mask)

    def _sense(self, sequence: int) -> View:
        """Add the sensor's noise and limits."""
        model = self.model
        count = model.width * model.height
        place = _scramble(self._seed, sequence)
        offset = place % (3 * count)
        rgb = np.empty((model.height, model.width, 3), np.uint8)
        bytes4 = self._pixels.view(np.uint8).reshape(model.height, model.width, 4)
        for channel in range(3):  # eight times faster than one copy of [..., :3]
            rgb[..., channel] = bytes4[..., channel]
        flat = rgb.reshape(-1)
        flat += self._colour_noise[offset : offset + 3 * count]
        offset = (place >> 24) % count
        grain = self._depth_noise[offset : offset + count].reshape(rgb.shape[:2])
        millimetres = grain * self._z
        millimetres += 1000.0
        millimetres *= self._z
        np.clip(millimetres, 0.0, 65535.0, out=millimetres)
        depth = millimetres.astype(np.uint16)
        known = depth >= round(model.min_depth_m * 1000)
        known &= depth <= round(model.max_depth_m * 1000)
        depth *= known.view(np.uint8)
        return View(rgb, depth)


def _scramble(seed: int, sequence: int) -> int:
    """Return 64 well-mixed bits of two integers (the finaliser of SplitMix64)."""
    word = (seed * 0x9E3779B97F4A7C15 + sequence * 0xD1B54A32D192ED03 + 1) % 2**64
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % 2**64
    return word ^ (word >> 31)
