"""Steps a world and takes each exposure and reading at its own instant."""

from __future__ import annotations

from continuon.sim.car import CarState, glide
from continuon.sim.devices import SimCamera, SimState
from continuon.sim.world import STEP_NS, World

__all__ = ["step_observed"]


def step_observed(
    world: World, camera: SimCamera, state: SimState, deadline_ns: int
) -> None:
    """Step the world while whole steps fit before a host time.

    An exposure sees the pose at its own instant; a reading is interpolated between the
    two steps around it.
    """
    while world.time_ns + STEP_NS <= deadline_ns:
        before, start_ns = world.car, world.time_ns
        world.step()
        while (at_ns := camera.next_exposure_ns()) <= world.time_ns:
            seen = glide(before, (at_ns - start_ns) / 1e9)
            camera.expose((seen.x_m, seen.y_m, seen.heading_rad))
        while (at_ns := state.next_sample_ns()) <= world.time_ns:
            part = max(0.0, (at_ns - start_ns) / STEP_NS)
            state.sample(_between(before, world.car, part))


def _between(a: CarState, b: CarState, part: float) -> tuple[float, float, float]:
    return (
        a.speed_mps + part * (b.speed_mps - a.speed_mps),
        a.steering + part * (b.steering - a.steering),
        a.yaw_rate_rad_s + part * (b.yaw_rate_rad_s - a.yaw_rate_rad_s),
    )
