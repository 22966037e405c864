"""Phase 7: train on the converted episodes, evaluate on held-out ones, compile."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from continuon.bundle.sbom import installed_packages
from continuon.durable import replace_file
from continuon.environment import read_environment
from continuon.export import CompileReport, compile_checkpoint
from continuon.hope import load_checkpoint
from continuon.learn import EvaluationReport, TrainReport, train
from continuon.pipeline.context import Context
from continuon.pipeline.held_out import task_episodes
from continuon.pipeline.phase import MINIMUM_EPISODES, Outcome, Progress
from continuon.pipeline.places import artifacts, packages_path, seed_artifacts
from continuon.rlds.images import decode_colour, policy_image
from continuon.rlds.steps import read_steps

__all__ = ["ROOMS", "inputs", "run"]

ROOMS = ("rlds", "hope", "learn", "export", "edge", "bundle")
FRAMES_SHOWN = 12
GOLDEN_TICKS = 32
STEERING = "steering"


def inputs(context: Context) -> dict[str, Path | str]:
    """Return the converted episodes and the settings."""
    settings = f"{context.preset} {context.num_steps} {context.seed}"
    return {"tfrecord": context.home.tfrecord, "settings": settings}


def run(context: Context, progress: Progress) -> Outcome:
    """Train, compare with the baselines, compile trained and seed parameters."""
    read_environment().require_jax()
    home = context.home
    report = train(
        home.tfrecord,
        home.checkpoints / "slow",
        config_preset=context.preset,
        num_steps=context.num_steps,
        seed=context.seed,
        minimum_episodes=MINIMUM_EPISODES,
        on_progress=lambda done, total, loss: progress(
            done, total, f"training, loss {loss:.4f}"
        ),
    )
    progress(0, 1, "compiling for the edge")
    golden, rate_hz = _golden(report, home.tfrecord)
    held_out = task_episodes(
        home.tfrecord,
        load_checkpoint(report.checkpoint).config,
        ids=report.held_out_episodes,
    )
    compiled, seed = (
        compile_checkpoint(
            checkpoint,
            target,
            control_rate_hz=rate_hz,
            golden_observations=golden,
            golden_origin=report.origin,
            variants=variants,
            held_out=held_out,
        )
        for checkpoint, target, variants in (
            (report.checkpoint, artifacts(context), None),
            (report.seed_checkpoint, seed_artifacts(context), ()),
        )
    )
    score = report.evaluation
    _dump(home.reports / "evaluation.json", _pictures(home.tfrecord, score, rate_hz))
    _dump(
        home.reports / "loss.json",
        {
            "step": [row.step for row in report.loss_curve],
            "loss": [row.loss for row in report.loss_curve],
        },
    )
    _dump(packages_path(context), installed_packages())
    sizes = {info.path.name: info.bytes for info in compiled.artifacts}
    _dump(home.reports / "sizes.json", sizes)
    name = STEERING if STEERING in score.mae else next(iter(score.mae))
    ridge, mean = score.ridge_mae or {}, score.mean_mae or {}
    line = score.line_mae or {}
    return Outcome(
        figures={
            "held_out_mae": score.mae[name],
            "ridge_mae": ridge.get(name),
            "mean_mae": mean.get(name),
            "line_mae": line.get(name),
            "held_out_mae_over_mean": score.mae_over_mean,
            "held_out_mae_over_ridge": score.mae_over_ridge,
            "sign_accuracy": score.sign_accuracy[name],
            "ridge_sign_accuracy": (score.ridge_sign_accuracy or {}).get(name),
            "int8_task_error": _task(compiled, "error"),
            "int8_task_error_allowed": _task(compiled, "allowed"),
            "parity_ok": compiled.parity_ok and seed.parity_ok,
            "backends": ", ".join(
                info.backend for info in compiled.artifacts if info.tolerance
            ),
            "not_made": "; ".join(
                f"{name} {why}" for name, why in compiled.missing.items()
            ),
            "largest_artifact_mib": max(sizes.values()) / 2**20,
            "parameters": report.parameters,
            "train_seconds": report.seconds,
            "train_episodes": len(report.train_episodes),
            "held_out_episodes": len(report.held_out_episodes),
        },
        outputs=(
            report.checkpoint,
            artifacts(context),
            seed_artifacts(context),
            home.reports / "evaluation.json",
            home.reports / "loss.json",
            home.reports / "sizes.json",
            packages_path(context),
        ),
        origin=report.origin,
    )


def _task(compiled: CompileReport, what: str) -> float | None:
    """Return a figure of int8 on the held-out episodes; None where it is not made."""
    return next((getattr(score, what) for score in compiled.task), None)


def _golden(report: TrainReport, tfrecord: Path) -> tuple[dict[str, Any], float]:
    """Return the first held-out ticks as the policy sees them, and their rate in Hz."""
    config = load_checkpoint(report.checkpoint).config
    steps = next(
        steps
        for steps in read_steps(tfrecord)
        if steps.metadata.episode_id in report.held_out_episodes
        and len(steps.stamp_ns) > 1
    )
    images = [
        policy_image(
            decode_colour(bytes(jpeg)),
            height=config.image_height,
            width=config.image_width,
        )
        for jpeg in steps.image[:GOLDEN_TICKS]
    ]
    golden: dict[str, Any] = {"image": np.stack(images)}
    if config.proprio:
        columns = [steps.state_names.index(name) for name in config.proprio]
        golden["proprio"] = np.asarray(steps.state)[:GOLDEN_TICKS, columns]
    return golden, 1e9 / float(np.median(np.diff(steps.stamp_ns)))


def _pictures(
    tfrecord: Path, score: EvaluationReport, rate_hz: float
) -> dict[str, Any]:
    human = np.concatenate([trace.human[:, 0] for trace in score.traces])
    predicted = np.concatenate([trace.predicted[:, 0] for trace in score.traces])
    place = [(t.episode_id, i) for t in score.traces for i in range(len(t.human))]
    shown = np.linspace(0, len(human) - 1, FRAMES_SHOWN).astype(int)
    jpegs = _frames(tfrecord, [place[i] for i in shown])
    name = next(iter(score.mae))
    line = {}
    if score.line_mae is not None:
        told = _row(score.line_mae, score.line_sign_accuracy, name)
        line = {"a line through the state": told}
    return {
        "scores": {
            "policy": _row(score.mae, score.sign_accuracy, name),
            "ridge on 40x20 grey": _row(
                score.ridge_mae, score.ridge_sign_accuracy, name
            ),
            **line,
            "always the mean": _row(score.mean_mae, score.mean_sign_accuracy, name),
        },
        "held_out_episodes": [trace.episode_id for trace in score.traces],
        "series": {
            "time_s": np.arange(len(human)) / rate_hz,
            "human": human,
            "predicted": predicted,
        },
        "frames": [
            {
                "human": float(human[i]),
                "predicted": float(predicted[i]),
                "jpeg": base64.b64encode(jpeg).decode(),
            }
            for i, jpeg in zip(shown, jpegs, strict=True)
        ],
    }


def _row(mae: Any, sign: Any, name: str) -> dict[str, float | None]:
    return {"mae": (mae or {}).get(name), "sign_accuracy": (sign or {}).get(name)}


def _frames(tfrecord: Path, wanted: Sequence[tuple[str, int]]) -> list[bytes]:
    """Return the recorded JPEG of each (episode id, step)."""
    found: dict[tuple[str, int], bytes] = {}
    for steps in read_steps(tfrecord):
        episode = steps.metadata.episode_id
        found |= {
            (name, step): bytes(steps.image[step])
            for name, step in wanted
            if name == episode
        }
    return [found[key] for key in wanted]


def _dump(path: Path, value: Any) -> None:
    def plain(item: Any) -> Any:
        return item.tolist() if hasattr(item, "tolist") else str(item)

    replace_file(path, json.dumps(value, default=plain).encode())
