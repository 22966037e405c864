"""Phase 2: the headless service comes up armed but idle, and the LAN can find it."""

from __future__ import annotations

from pathlib import Path

from continuon.pipeline.context import Context
from continuon.pipeline.phase import Outcome, Progress
from continuon.robot import boot_check

__all__ = ["ROOMS", "inputs", "run"]

ROOMS = ("robot", "rig", "sim", "ota", "bundle", "edge", "rlds")


def inputs(context: Context) -> dict[str, Path | str]:
    """Return the rig; a real service is started anew on every run."""
    if context.rig == "pi":
        import time

        return {"rig": f"pi at {time.time_ns()}"}
    return {"rig": f"sim with seed {context.seed}"}


def run(context: Context, progress: Progress) -> Outcome:
    """Start the service as a process, look at it from outside, stop it."""
    progress(0, 1, "starting the service")
    report = boot_check(rig=context.rig, home=context.home, seed=context.seed)
    return Outcome(
        figures={
            "api_up": report.api_up,
            "discovered": report.discovered,
            "mode": report.mode,
            "executing": report.executing,
            "servo_bytes_driving": report.servo_bytes_driving,
            "ready_after_s": report.ready_after_s,
        },
        outputs=(),
        origin="real" if context.rig == "pi" else "simulated",
        notes=tuple(report.notes),
    )
