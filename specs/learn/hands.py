"""Made-up grasps: a hand reaches for an object and closes around it. Synthetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from continuon.learn.hands import HandEpisode

__all__ = ["grasp_episode", "grasp_episodes", "random_walks"]

RATE_HZ = 10.0
"""The rate of AINA's demonstrations (arXiv 2511.16661)."""


def grasp_episodes(
    count: int, *, seed: int = 0, ticks: int = 28, points: int = 24
) -> tuple[HandEpisode, ...]:
    """Return grasps of ellipsoids in random places, each in a frame of its own."""
    return tuple(
        grasp_episode(index, seed=seed, ticks=ticks, points=points)
        for index in range(count)
    )


def grasp_episode(
    index: int, *, seed: int = 0, ticks: int = 28, points: int = 24
) -> HandEpisode:
    """Return one grasp: fingertips go from a ring to the object by minimum jerk.

    The path of least jerk from rest to rest is 10 s^3 - 15 s^4 + 6 s^5 (Flash and
    Hogan, 1985). The camera's noise on points and tracks is 1 mm.
    """
    rng = np.random.default_rng([seed, index, 47])
    radii_m = rng.uniform(0.02, 0.05, 3)
    turn, where_m = _rotation(rng), rng.uniform(-0.5, 0.5, 3)

    def surface(directions: NDArray[np.float64]) -> NDArray[np.float64]:
        unit = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
        return np.asarray((unit * radii_m) @ turn.T + where_m)

    cloud = surface(rng.standard_normal((ticks, points, 3)))
    approach = rng.standard_normal(3)
    approach /= np.linalg.norm(approach)
    side = np.cross(approach, rng.standard_normal(3))
    side /= np.linalg.norm(side)
    over = np.cross(approach, side)
    angle = np.array([0.0, 1.8, 2.4, 3.0, 3.6])
    ring = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * over
    begin = where_m + approach * rng.uniform(0.15, 0.3) + 0.05 * ring
    goal = surface((ring + 0.3 * approach) @ turn)
    late = rng.integers(0, 5)
    s = np.clip((np.arange(ticks) - late) / rng.integers(14, 20), 0, 1)
    share = (10 * s**3 - 15 * s**4 + 6 * s**5)[:, None, None]
    tips = begin + share * (goal - begin)
    return HandEpisode(
        episode_id=f"grasp-{index:03d}",
        origin="synthetic",
        points_m=(cloud + 0.001 * rng.standard_normal(cloud.shape)).astype(np.float32),
        tips_m=(tips + 0.001 * rng.standard_normal(tips.shape)).astype(np.float32),
        rate_hz=RATE_HZ,
    )


def random_walks(
    count: int, *, seed: int = 0, ticks: int = 28
) -> tuple[HandEpisode, ...]:
    """Return fingertips that wander: their future follows from nothing that is seen."""
    walks = []
    for index in range(count):
        rng = np.random.default_rng([seed, index, 53])
        made = grasp_episode(index, seed=seed, ticks=ticks)
        steps = 0.004 * rng.standard_normal((ticks, 1, 3))
        tips = made.tips_m[:1] + np.cumsum(steps, 0)
        walks.append(
            HandEpisode(
                episode_id=f"walk-{index:03d}",
                origin="synthetic",
                points_m=made.points_m,
                tips_m=tips.astype(np.float32),
                rate_hz=RATE_HZ,
            )
        )
    return tuple(walks)


def _rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    matrix, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return np.asarray(matrix * np.sign(np.linalg.det(matrix)))
