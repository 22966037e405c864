"""A whole robot in real time, for the phases that need its loop to run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from continuon.bundle import load_public_key
from continuon.clock import SystemClock
from continuon.errors import DataError
from continuon.ota import Updater
from continuon.ota.download import Downloader
from continuon.ota.robot_files import RobotFiles
from continuon.pipeline.context import Context
from continuon.pipeline.origins import learns_from_import
from continuon.pipeline.places import bundle_dir, seed_bundle_dir
from continuon.pipeline.told import asked_by
from continuon.robot.control import ControlHandle
from continuon.robot.control_config import ControlConfig
from continuon.robot.deployed import active_policy
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.guard_handle import GuardHandle

__all__ = ["LiveRobot", "live_robot", "make_updater"]

LIVE_SEED = 2_000_003


@attrs.frozen(kw_only=True)
class LiveRobot:
    """A guard and a control process over one body.

    Attributes:
        world: the simulated world's handle; None on replayed frames or a real body.
        origin: of what the camera sees.
        state_names: what the body measures of itself.
    """

    guard: GuardHandle
    control: ControlHandle
    world: Any
    origin: str
    state_names: tuple[str, ...]

    def run_for(self, seconds: float) -> tuple[int, int]:
        """Let the loop run; returns the first tick and the one after the last."""
        clock = SystemClock()
        first = self.control.log.count
        clock.sleep_until_ns(clock.monotonic_ns() + round(seconds * 1e9))
        return first, self.control.log.count


def make_updater(
    context: Context, public_key: Path, repository: Downloader | None = None
) -> Updater:
    """Return the updater of this home's slots, held to its grants where it has any."""
    home = context.home
    return Updater(
        home.model,
        [load_public_key(public_key)],
        repository=repository,
        entitlement=RobotFiles(home.keys, home.state).entitlement(),
    )


@contextmanager
def live_robot(context: Context, updater: Updater) -> Iterator[LiveRobot]:
    """Start body, guard and control process; stop them whatever happens.

    The loop begins with the active bundle of the slots, in its own envelope, as the
    robot's service does; without a policy where there is none.

    On an imported recording the camera shows its held-out episodes again, and nothing
    but the simulated servo board moves.
    """
    with ExitStack() as stack:
        world = None
        trained, seed = bundle_dir(context), seed_bundle_dir(context)
        slot = updater.active_slot()
        asked = asked_by(context, (slot, trained, seed))
        if context.rig == "pi":
            body = Factory(target="continuon.rig.pi:PiRig")
            origin, state_names = "real", ()
        elif learns_from_import(context):
            body = Factory(
                target="continuon.pipeline.replay:replay_rig",
                kwargs={
                    "path": str(context.home.episodes),
                    "episode_ids": held_out_ids(context),
                },
            )
            origin, state_names = "replayed", ()
        else:
            from continuon.sim.live import start_live_rig

            world = stack.enter_context(
                start_live_rig(
                    context.seed,
                    track_seed=LIVE_SEED + context.seed,
                    depth=asked.depth,
                )
            )
            body = Factory(
                target="continuon.sim.live:attach", kwargs={"handle": world.path}
            )
            rig = body.build()
            origin, state_names = "simulated", tuple(rig.state.names)
            rig.close()
        guard = stack.enter_context(GuardHandle(body))
        deployed = active_policy(updater, state_names=state_names)
        config = ControlConfig(
            rig=body,
            limits=deployed.limits if deployed else car_limits(state_names=state_names),
            artifact_dir=str(deployed.directory) if deployed else None,
            backend=deployed.backend if deployed else "litert",
            preload=("ai_edge_litert.interpreter",),
            instruction=asked.told,
            # What shows recorded frames has no battery and moves nothing.
            without_gauge=origin == "replayed",
        )
        control = stack.enter_context(ControlHandle(config, guard))
        yield LiveRobot(
            guard=guard,
            control=control,
            world=world,
            origin=origin,
            state_names=state_names,
        )


def held_out_ids(context: Context) -> list[str]:
    """Return the ids of the episodes that training never saw.

    They stand in the evaluation that phase 7 wrote beside its checkpoint.

    Raises:
        DataError: E-PIPE-REPLAY-001, phase 7 did not run here, or wrote something else.
    """
    path = context.home.reports / "evaluation.json"
    try:
        ids: list[str] = json.loads(path.read_bytes())["held_out_episodes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "E-PIPE-REPLAY-001",
            "there are no held-out frames to show an imported policy",
            where=path,
            seen=type(error).__name__,
            hint="continuon pipeline run --only train, on the recording it learnt from",
        ) from error
    return ids
