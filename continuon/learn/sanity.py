"""Phase 4: a few training steps on the recorded episodes, with gates that can fail."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from continuon.durable import replace_file
from continuon.errors import BudgetError, ContractError, DataError
from continuon.learn.data import (
    EpisodeArrays,
    digest_of,
    load_arrays,
    origin_of,
    require_episodes,
)
from continuon.learn.evidence import host_facts, write_json
from continuon.learn.recipe import Recipe
from continuon.learn.resources import ResourceMonitor
from continuon.learn.senses import NO_SENSES, Senses

if TYPE_CHECKING:
    from continuon.hope import HopeConfig
    from continuon.learn.loop import LossRow

__all__ = ["METRIC_COLUMNS", "SanityReport", "run_sanity", "sanity_of"]

METRIC_COLUMNS = (
    "step",
    "loss",
    "elapsed_s",
    "mse_main",
    "mse_imagination_tail",
    "imagination_tail_dims",
)
_FIXED_STEP = 2**31 - 1


@attrs.frozen(kw_only=True)
class SanityReport:
    """What a short run showed.

    Attributes:
        steps: updates done.
        loss_finite: every loss of every step was a finite number.
        loss_before, loss_after: on one fixed batch, before and after; None if unknown.
        loss_decrease: before minus after; None if unknown, which is no pass.
        state_shapes_ok: recurrent state and outputs have the configured shapes.
        critical_alerts: CRITICAL resource readings.
        unknown_resources: what could not be read on this machine.
        obs_dim: numbers that the policy sees at a tick; action_dim: that it commands.
        reasons: why it did not pass; empty if it did.
        checkpoint: where the parameters went, None if nowhere.
    """

    passed: bool
    reasons: tuple[str, ...]
    steps: int
    loss_finite: bool
    loss_before: float | None
    loss_after: float | None
    loss_decrease: float | None
    state_shapes_ok: bool
    critical_alerts: int
    unknown_resources: tuple[str, ...]
    obs_dim: int
    action_dim: int
    episodes: int
    origin: str
    data_digest: str
    preset: str
    checkpoint: str | None
    metrics_path: str | None
    host: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return attrs.asdict(self)


def run_sanity(
    rlds_dir: Path,
    *,
    arch_preset: str = "pi5",
    max_steps: int = 8,
    batch_size: int = 4,
    learning_rate: float = 1e-3,
    sparsity_lambda: float = 0.0,
    obs_dim: int | None = None,
    action_dim: int | None = None,
    metrics_path: Path | None = None,
    checkpoint_dir: Path | None = None,
    output: Path | None = None,
    seed: int = 0,
    minimum_episodes: int = 16,
    recipe: Recipe | None = None,
    proprio: tuple[str, ...] | None = None,
    senses: Senses = NO_SENSES,
    monitor: ResourceMonitor | None = None,
) -> SanityReport:
    """Train a few steps on one batch and report whether the gates were met.

    One batch, because eight steps on eight different ones say nothing about whether a
    network can learn, while one that cannot fit a single batch is broken.

    Args:
        rlds_dir: recordings; there is no synthetic fallback.
        arch_preset: a HOPE preset.
        max_steps: updates.
        batch_size: windows an update.
        learning_rate: peak.
        sparsity_lambda: weight of the mean write strength.
        obs_dim: what the caller expects of the data; None takes it as it is.
        action_dim: the same for actions.
        metrics_path: CSV with `METRIC_COLUMNS`, and a JSON file of the same stem.
        checkpoint_dir: where `sanity.hope` goes.
        output: where the report goes as JSON.
        seed: of parameters and batches.
        minimum_episodes: fewer are refused.
        recipe: image size and augmentation; the given numbers replace its own.
        proprio: state names to feed; None takes what `load_arrays` does.
        senses: depth and instruction, where they are wanted.
        monitor: of resources.

    Raises:
        ContractError: E-LEARN-DIM-001, obs_dim or action_dim differs from the data.
        DataError: no or too few episodes.
        UsageError: no such preset.
    """
    base = recipe or Recipe()
    arrays = load_arrays(
        rlds_dir,
        image_height=base.image_height,
        image_width=base.image_width,
        proprio=proprio,
        senses=senses,
    )
    require_episodes(arrays, minimum_episodes)
    report = sanity_of(
        arrays,
        arch_preset=arch_preset,
        max_steps=max_steps,
        recipe=attrs.evolve(
            base,
            batch_size=batch_size,
            learning_rate=learning_rate,
            sparsity_lambda=sparsity_lambda,
        ),
        obs_dim=obs_dim,
        action_dim=action_dim,
        metrics_path=metrics_path,
        checkpoint_dir=checkpoint_dir,
        seed=seed,
        monitor=monitor or ResourceMonitor(),
        overrides=dict(senses.as_fields),
    )
    if output is not None:
        write_json(output, report.as_dict())
    return report


def sanity_of(
    arrays: Sequence[EpisodeArrays],
    *,
    arch_preset: str,
    max_steps: int,
    recipe: Recipe,
    obs_dim: int | None = None,
    action_dim: int | None = None,
    metrics_path: Path | None = None,
    checkpoint_dir: Path | None = None,
    seed: int = 0,
    monitor: ResourceMonitor,
    overrides: dict[str, Any] | None = None,
) -> SanityReport:
    """Do the same with episodes that are already in memory; see `run_sanity`."""
    from continuon.hope import preset, save_checkpoint
    from continuon.learn.loop import fixed_loss, run_steps
    from continuon.learn.update import make_update, start
    from continuon.learn.windows import OneBatch, WindowSampler

    dims = _dims(arrays[0], obs_dim, action_dim)
    config = preset(
        arch_preset,
        image_height=recipe.image_height,
        image_width=recipe.image_width,
        proprio=arrays[0].proprio_names,
        action=arrays[0].action_names,
        **(overrides or {}),
    )
    fixed = WindowSampler(tuple(arrays), recipe.plain(), seed).batch(_FIXED_STEP)
    state = start(config, seed)
    update = make_update(config, recipe, max_steps)
    before = fixed_loss(state, update, fixed)
    shapes = _shapes_fit(state.params, config, recipe, fixed)
    rows: list[LossRow] = []
    stopped: list[str] = []

    def watch(_: Any, row: LossRow) -> None:
        rows.append(row)
        monitor.check()

    after, checkpoint = None, None
    try:
        monitor.check()
        state, _ = run_steps(
            state, update, OneBatch(fixed), until=max_steps, hook=watch
        )
        after = fixed_loss(state, update, fixed)
    except (BudgetError, DataError) as error:
        stopped.append(str(error))
    finite = not stopped and after is not None and all(row.finite for row in rows)
    if checkpoint_dir is not None and finite:
        checkpoint = checkpoint_dir / "sanity.hope"
        facts = {"phase": "sanity", "origin": origin_of(arrays), "steps": len(rows)}
        save_checkpoint(checkpoint, config, state.params, metadata=facts)
    summary = monitor.summary()
    decrease = before - after if after is not None else None
    reasons = tuple(stopped) + _missed(
        rows, decrease, finite=finite, shapes=shapes, alerts=summary.critical_alerts
    )
    if metrics_path is not None:
        _write_metrics(metrics_path, rows, config.latent)
    return SanityReport(
        passed=not reasons,
        reasons=reasons,
        steps=len(rows),
        loss_finite=finite,
        loss_before=before,
        loss_after=after,
        loss_decrease=decrease,
        state_shapes_ok=shapes,
        critical_alerts=summary.critical_alerts,
        unknown_resources=summary.unknown,
        obs_dim=dims[0],
        action_dim=dims[1],
        episodes=len(arrays),
        origin=origin_of(arrays),
        data_digest=digest_of(arrays),
        preset=arch_preset,
        checkpoint=None if checkpoint is None else str(checkpoint),
        metrics_path=None if metrics_path is None else str(metrics_path),
        host=host_facts(),
    )


def _dims(
    episode: EpisodeArrays, obs_dim: int | None, action_dim: int | None
) -> tuple[int, int]:
    """Return numbers seen and commanded a tick, if they are what was expected."""
    extra = sum(math.prod(value.shape[1:]) for value in episode.extra.values())
    sensed = episode.images[0].size + episode.proprio.shape[1] + extra
    held = (sensed, episode.action.shape[1])
    expected = (
        held[0] if obs_dim is None else obs_dim,
        held[1] if action_dim is None else action_dim,
    )
    if held != expected:
        raise ContractError(
            "E-LEARN-DIM-001",
            "obs_dim and action_dim are not what the episodes hold",
            where=episode.episode_id,
            seen=f"obs_dim {held[0]}, action_dim {held[1]} in the data",
            allowed=f"obs_dim {expected[0]}, action_dim {expected[1]} as asked for",
            hint="obs_dim counts image height x width x 3 plus every other sense",
        )
    return held


def _shapes_fit(params: Any, config: HopeConfig, recipe: Recipe, batch: Any) -> bool:
    """Return whether state and outputs keep the shapes that the config implies."""
    import jax

    from continuon.hope import init_state, sequence
    from continuon.learn.losses import observe

    rows = recipe.batch_size
    state = init_state(config, rows)
    after, out = jax.eval_shape(
        lambda p: sequence(p, config, state, observe(config, batch)), params
    )

    def shape(leaf: Any) -> tuple[Any, str]:
        return tuple(leaf.shape), str(leaf.dtype)

    kept = jax.tree.map(shape, after) == jax.tree.map(shape, state)
    memory = (rows, config.heads, config.head_size, config.memory_size)
    mid = (rows, config.mid_units)
    sized = all(
        block["memory"].shape == memory and block["mid"].shape == mid
        for block in after["blocks"].values()
    )
    ticks = (rows, recipe.window)
    said = out.action.shape == (*ticks, len(config.action))
    said = said and out.prediction.shape == (*ticks, config.latent)
    return bool(kept and sized and said and len(after["blocks"]) == config.layers)


def _missed(
    rows: Sequence[LossRow],
    decrease: float | None,
    *,
    finite: bool,
    shapes: bool,
    alerts: int,
) -> tuple[str, ...]:
    facts = (
        (bool(rows), "no step was taken"),
        (finite, "a loss is not finite or unknown"),
        (decrease is not None and decrease > 0.0, "the loss did not decrease"),
        (shapes, "the state's shapes are not as configured"),
        (alerts == 0, "a resource was CRITICAL"),
    )
    return tuple(reason for holds, reason in facts if not holds)


def _write_metrics(path: Path, rows: Sequence[LossRow], latent: int) -> None:
    """Write the CSV and, beside it, the same rows as JSON.

    `mse_main` is the action's squared error; `mse_imagination_tail` is the world
    model's, of a latent with `imagination_tail_dims` components.
    """
    table = [
        (r.step, r.loss, r.elapsed_s, r.action_mse, r.prediction_mse, latent)
        for r in rows
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(METRIC_COLUMNS)
    writer.writerows(table)
    replace_file(path, text.getvalue().encode())
    records = [dict(zip(METRIC_COLUMNS, row, strict=True)) for row in table]
    write_json(path.with_suffix(".json"), records)
