"""Phase 4: a few JAX steps on this machine: finite, decreasing, the right shapes."""

from __future__ import annotations

from pathlib import Path

from continuon.environment import read_environment
from continuon.learn import run_sanity
from continuon.pipeline.context import Context
from continuon.pipeline.phase import MINIMUM_EPISODES, Outcome, Progress

__all__ = ["ROOMS", "inputs", "run"]

ROOMS = ("rlds", "hope", "learn")
LEARNING_RATE = 3e-4


def inputs(context: Context) -> dict[str, Path | str]:
    """Return the episodes and the settings."""
    settings = (
        f"{context.preset} {context.sanity_steps} {context.batch_size} {context.seed}"
    )
    return {"episodes": context.home.episodes, "settings": settings}


def run(context: Context, progress: Progress) -> Outcome:
    """Take the steps and report what moved."""
    read_environment().require_jax()
    progress(0, 1, "compiling")
    metrics = context.home.trainer_logs / "sanity_metrics.csv"
    report = run_sanity(
        context.home.episodes,
        arch_preset=context.preset,
        max_steps=context.sanity_steps,
        batch_size=context.batch_size,
        learning_rate=LEARNING_RATE,
        metrics_path=metrics,
        checkpoint_dir=context.home.checkpoints / "sanity",
        seed=context.seed,
        minimum_episodes=MINIMUM_EPISODES,
    )
    return Outcome(
        figures={
            "loss_finite": report.loss_finite,
            "loss_decrease": report.loss_decrease,
            "state_shapes_ok": report.state_shapes_ok,
            "critical_alerts": report.critical_alerts,
            "steps": report.steps,
            "loss_before": report.loss_before,
            "loss_after": report.loss_after,
            "episodes": report.episodes,
        },
        outputs=(metrics,),
        origin=report.origin,
        notes=(
            *report.reasons,
            *(f"not readable here: {name}" for name in report.unknown_resources),
        ),
    )
