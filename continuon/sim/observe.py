"""Steps a world and takes each exposure and reading at its own instant."""

from __future__ import annotations

import functools

from continuon.sim.car import CarState, glide
from continuon.sim.devices import SimCamera, SimState
from continuon.sim.world import STEP_NS, World

__all__ = ["step_observed"]


def step_observed(
    world: World, camera: SimCamera, state: SimState, deadline_ns: int
) -> None:
    """Step the world while whole steps fit before a host time.

    Each exposure, of colour or depth, sees the pose at its own instant; a reading is
    interpolated between the two steps around it.
    """
    while world.time_ns + STEP_NS <= deadline_ns:
        before, start_ns = world.car, world.time_ns
        world.step()
        while camera.next_exposure_ns() <= world.time_ns:
            camera.expose(functools.partial(_pose_at, before, start_ns))
        while (at_ns := state.next_sample_ns()) <= world.time_ns:
            part = max(0.0, (at_ns - start_ns) / STEP_NS)
            state.sample(_between(before, world.car, part))


def _pose_at(car: CarState, start_ns: int, at_ns: int) -> tuple[float, float, float]:
    """Return the pose a few milliseconds after a step began."""
    seen = glide(car, (at_ns - start_ns) / 1e9)
    return seen.x_m, seen.y_m, seen.heading_rad


def _between(a: CarState, b: CarState, part: float) -> tuple[float, float, float]:
    return (
        a.speed_mps + part * (b.speed_mps - a.speed_mps),
        a.steering + part * (b.steering - a.steering),
        a.yaw_rate_rad_s + part * (b.yaw_rate_rad_s - a.yaw_rate_rad_s),
    )
