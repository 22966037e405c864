"""Phase 1: the hardware answers, keeps time, has power and stays cool."""

from __future__ import annotations

from pathlib import Path

from continuon.health import check_health
from continuon.pipeline.context import Context
from continuon.pipeline.phase import Outcome, Progress
from continuon.pipeline.rigs import open_rig

__all__ = ["ROOMS", "inputs", "run"]

ROOMS = ("rig", "sim", "health")


def inputs(context: Context) -> dict[str, Path | str]:
    """Return the rig; a real one is measured anew on every run."""
    if context.rig == "pi":
        import time

        return {"rig": f"pi at {time.time_ns()}"}
    return {"rig": f"sim with seed {context.seed}"}


def run(context: Context, progress: Progress) -> Outcome:
    """Measure every check and report each verdict."""
    rig = open_rig(context)
    try:
        progress(0, 1, "measuring the rig")
        report = check_health(rig, quick=False, home=context.home)
    finally:
        rig.close()
    return Outcome(
        figures={**report.figures, "verdict": str(report.verdict)},
        outputs=(),
        origin=str(report.origin),
        notes=tuple(report.notes),
    )
