"""Phase 5: learning, shown on held-out episodes against two controls."""

from __future__ import annotations

from pathlib import Path

from continuon.environment import read_environment
from continuon.learn import run_proof
from continuon.pipeline.context import Context
from continuon.pipeline.phase import MINIMUM_EPISODES, Outcome, Progress
from continuon.pipeline.places import proof_path

__all__ = ["ROOMS", "inputs", "run"]

ROOMS = ("rlds", "hope", "learn")


def inputs(context: Context) -> dict[str, Path | str]:
    """Return the episodes and the settings."""
    settings = f"{context.proof_seeds} {context.seed}"
    return {"episodes": context.home.episodes, "settings": settings}


def run(context: Context, progress: Progress) -> Outcome:
    """Train with several seeds beside a frozen and a shuffled-label control."""
    read_environment().require_jax()
    progress(0, 1, f"training {context.proof_seeds} seeds and their controls")
    report = run_proof(
        context.home.episodes,
        output=proof_path(context),
        seeds=tuple(range(context.seed, context.seed + context.proof_seeds)),
        minimum_episodes=MINIMUM_EPISODES,
    )
    return Outcome(
        figures={
            "updates": report.updates,
            "max_parameter_delta": report.max_parameter_delta,
            "improvement_over_frozen_ci_low": report.improvement_over_frozen_ci_low,
            "improvement_over_shuffled_ci_low": report.improvement_over_shuffled_ci_low,
            "novelty_before": report.novelty_before,
            "novelty_after": report.novelty_after,
            "seeds": len(report.seeds),
        },
        outputs=(proof_path(context),),
        origin=report.origin,
        notes=tuple(report.reasons),
    )
