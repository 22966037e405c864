"""The new policy's own episode: recorded like any other, and labelled as a policy's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from continuon.edge import load_policy
from continuon.pipeline.bench_robot import held_out_ids
from continuon.pipeline.context import Context
from continuon.pipeline.origins import learns_from_import
from continuon.pipeline.recording import STATE_RATE_HZ
from continuon.pipeline.told import asked_by
from continuon.robot.capture import capture_episodes
from continuon.robot.capture_episode import EpisodeNotes
from continuon.robot.factory import Factory
from continuon.robot.pilots import PolicyPilot

__all__ = ["policy_pilot", "record_policy"]

LOG_S = 4.0
LOG_SEED = 3_000_017


def policy_pilot(
    rig: Any, artifact_dir: str, *, backend: str = "litert"
) -> PolicyPilot:
    """Return a pilot that steps a compiled policy, for a process of its own."""
    pilot = PolicyPilot(
        load_policy(Path(artifact_dir), backend=backend),  # type: ignore[arg-type]
        rig.clock.monotonic_ns,
    )
    pilot.reset()
    return pilot


def record_policy(context: Context, artifact_dir: Path) -> Path:
    """Record one short run of the policy and return the recording."""
    folder = context.root / "rlds" / "policy-log"
    told = asked_by(context, (artifact_dir,)).told
    said = {"task": told} if told else {}
    shutil.rmtree(folder, ignore_errors=True)
    if context.rig == "pi":
        body = Factory(target="continuon.rig.pi:PiRig")
    elif learns_from_import(context):
        body = Factory(
            target="continuon.pipeline.replay:replay_rig",
            kwargs={
                "path": str(context.home.episodes),
                "episode_ids": held_out_ids(context),
            },
        )
    else:
        body = Factory(
            target="continuon.sim:SimRig",
            kwargs={
                "seed": context.seed,
                "track_seed": LOG_SEED + context.seed,
                "state_rate_hz": STATE_RATE_HZ,
            },
        )
    report = capture_episodes(
        body,
        Factory(
            target="continuon.pipeline.policy_log:policy_pilot",
            kwargs={"artifact_dir": str(artifact_dir)},
        ),
        folder,
        count=1,
        duration_s=LOG_S,
        notes=EpisodeNotes.of_policy(artifact_dir.name, **said),
        prefix="policy",
    )
    return report.episodes[0].path
