"""Phase 7, the Slow loop: episodes in, a trained checkpoint out."""

from __future__ import annotations

import csv
import hashlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from continuon.clock import Clock, SystemClock
from continuon.durable import replace_file
from continuon.errors import UsageError
from continuon.learn.data import (
    EpisodeArrays,
    digest_of,
    load_arrays,
    origin_of,
    require_episodes,
    split_by_time,
)
from continuon.learn.evaluate import EvaluationReport, evaluate
from continuon.learn.evidence import (
    code_digest,
    host_facts,
    peak_memory_bytes,
    write_json,
)
from continuon.learn.recipe import Recipe
from continuon.learn.remote import download, is_url, upload

if TYPE_CHECKING:
    from continuon.learn.loop import LossRow

__all__ = ["DEFAULT_STEPS", "TrainReport", "train", "train_arrays"]

DEFAULT_STEPS = 700
_STATE = "training.state"


@attrs.frozen(kw_only=True, eq=False)
class TrainReport:
    """What a training run made.

    Attributes:
        checkpoint: `policy.hope`; seed_checkpoint: the untrained `seed.hope`, its
            actions near neutral.
        loss_csv, loss_json: the loss curve, one row an update.
        resumed_at: the update from which a killed run went on, 0 for a whole run.
        seconds: of this process; peak_memory_bytes: of this process.
        evaluation: held-out figures, with traces.
    """

    checkpoint: Path
    seed_checkpoint: Path
    loss_csv: Path
    loss_json: Path
    steps: int
    resumed_at: int
    preset: str
    mode: str
    devices: int
    seed: int
    parameters: int
    seconds: float
    peak_memory_bytes: int
    checkpoint_sha256: str
    origin: str
    data_digest: str
    config_digest: str
    recipe: dict[str, Any]
    train_episodes: tuple[str, ...]
    held_out_episodes: tuple[str, ...]
    loss_curve: tuple[LossRow, ...]
    evaluation: EvaluationReport
    host: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, the loss curve left to its own file."""
        facts = {
            field.name: getattr(self, field.name)
            for field in attrs.fields(type(self))
            if field.name not in ("loss_curve", "evaluation")
        }
        paths = {k: str(v) for k, v in facts.items() if isinstance(v, Path)}
        return {**facts, **paths, "evaluation": self.evaluation.as_dict()}


Progress = Callable[[int, int, float], None]


def train(
    data_path: Path | str,
    output_dir: Path | str,
    *,
    config_preset: str = "nano",
    num_steps: int = DEFAULT_STEPS,
    mode: str = "local",
    seed: int = 0,
    recipe: Recipe | None = None,
    proprio: tuple[str, ...] | None = None,
    holdout: float = 0.2,
    minimum_episodes: int = 16,
    checkpoint_every: int = 100,
    resume: bool = True,
    on_progress: Progress | None = None,
    clock: Clock | None = None,
) -> TrainReport:
    """Train on recordings; the last ones in time are held out and scored.

    Args:
        data_path: recordings, or a TFDS directory; a URL is fetched first.
        output_dir: gets `policy.hope`, `seed.hope`, `loss.csv`, `loss.json`,
            `evaluation.json`; a URL is filled at the end.
        config_preset: a HOPE preset.
        num_steps: updates.
        mode: "local", or "tpu" for every device of every host that the environment
            names (`jax.distributed`), data-parallel.
        seed: of parameters and batches; equal inputs and seed give equal bytes.
        recipe: how to train; None is the measured default.
        proprio: state names to feed; None takes the speed where it was recorded.
        holdout: share of the episodes to hold out.
        minimum_episodes: fewer are refused.
        checkpoint_every: updates between saved states, from which a killed run goes on.
        resume: whether to go on from such a state.
        on_progress: called with (update, num_steps, loss).
        clock: for `seconds`.

    Raises:
        UsageError: no such preset or mode.
        DataError: no, too few or undecodable episodes; a loss that is not finite.
        MissingPackageError: a URL, and no package to read it.
    """
    if mode not in ("local", "tpu"):
        raise UsageError(
            "E-LEARN-MODE-001",
            "there is no such mode of training",
            seen=mode,
            allowed="local, tpu",
        )
    if mode == "tpu":
        from continuon.learn.mesh import join_cluster

        join_cluster()
    recipe = recipe or Recipe()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        source = (
            download(str(data_path), scratch) if is_url(data_path) else Path(data_path)
        )
        remote = is_url(output_dir)
        folder = scratch / "output" if remote else Path(output_dir)
        arrays = load_arrays(
            source,
            image_height=recipe.image_height,
            image_width=recipe.image_width,
            proprio=proprio,
        )
        report = train_arrays(
            require_episodes(arrays, minimum_episodes),
            folder,
            config_preset=config_preset,
            num_steps=num_steps,
            mode=mode,
            seed=seed,
            recipe=recipe,
            holdout=holdout,
            checkpoint_every=checkpoint_every,
            resume=resume,
            on_progress=on_progress,
            clock=clock,
        )
        if remote:
            upload(folder, str(output_dir))
    return report


def train_arrays(
    arrays: tuple[EpisodeArrays, ...],
    output_dir: Path,
    *,
    config_preset: str,
    num_steps: int,
    mode: str = "local",
    seed: int = 0,
    recipe: Recipe,
    holdout: float = 0.2,
    checkpoint_every: int = 100,
    resume: bool = True,
    on_progress: Progress | None = None,
    clock: Clock | None = None,
    overrides: dict[str, Any] | None = None,
) -> TrainReport:
    """Train on episodes that are already in memory; see `train`."""
    from continuon.hope import (
        count_parameters,
        digest,
        near_neutral,
        preset,
        save_checkpoint,
    )
    from continuon.learn.loop import LossRow, run_steps
    from continuon.learn.mesh import Placement, placement
    from continuon.learn.resume import load_training, save_training
    from continuon.learn.update import make_update, start
    from continuon.learn.windows import WindowSampler

    clock = clock or SystemClock()
    begun_ns = clock.monotonic_ns()
    training, held_out = split_by_time(arrays, holdout)
    config = preset(
        config_preset,
        image_height=recipe.image_height,
        image_width=recipe.image_width,
        proprio=arrays[0].proprio_names,
        action=arrays[0].action_names,
        **(overrides or {}),
    )
    facts = {
        "preset": config_preset,
        "seed": seed,
        "origin": origin_of(training),
        "data_digest": digest_of(training),
        "config_digest": digest(config),
        "recipe": recipe.as_dict(),
        "code_digest": code_digest(),
        "num_steps": num_steps,
    }
    run = _run_digest(facts)
    where = placement(recipe.part_size) if mode == "tpu" else Placement(None)
    state = start(config, seed)
    parameters = count_parameters(state.params)
    seed_path, policy_path = output_dir / "seed.hope", output_dir / "policy.hope"
    untrained = {**facts, "steps": 0, "trained": False}
    save_checkpoint(seed_path, config, near_neutral(state.params), metadata=untrained)
    rows: list[LossRow] = []
    saved = output_dir / _STATE
    found = load_training(saved, state, run=run) if resume else None
    if found is not None:
        state = found[0]
        rows = [LossRow(**row) for row in found[1]]
    resumed_at = int(state.step)

    def remember(now: Any, row: LossRow) -> None:
        rows.append(row)
        done = row.step + 1
        if done % checkpoint_every == 0 and done < num_steps:
            save_training(saved, now, run=run, rows=[attrs.asdict(r) for r in rows])
        if on_progress is not None:
            on_progress(done, num_steps, row.loss)

    state, _ = run_steps(
        where.state(state),
        make_update(config, recipe, num_steps),
        WindowSampler(training, recipe, seed),
        until=num_steps,
        hook=remember,
        place=where.batch,
        clock=clock,
    )
    sha256 = save_checkpoint(
        policy_path,
        config,
        state.average,
        metadata={**facts, "steps": num_steps, "trained": True},
    )
    report = TrainReport(
        checkpoint=policy_path,
        seed_checkpoint=seed_path,
        loss_csv=output_dir / "loss.csv",
        loss_json=output_dir / "loss.json",
        steps=num_steps,
        resumed_at=resumed_at,
        preset=config_preset,
        mode=mode,
        devices=where.devices,
        seed=seed,
        parameters=parameters,
        seconds=(clock.monotonic_ns() - begun_ns) / 1e9,
        peak_memory_bytes=peak_memory_bytes(),
        checkpoint_sha256=sha256,
        origin=origin_of(arrays),
        data_digest=digest_of(arrays),
        config_digest=digest(config),
        recipe=recipe.as_dict(),
        train_episodes=tuple(episode.episode_id for episode in training),
        held_out_episodes=tuple(episode.episode_id for episode in held_out),
        loss_curve=tuple(rows),
        evaluation=evaluate(policy_path, held_out, training=training),
        host=host_facts(),
    )
    _write_curve(report)
    write_json(output_dir / "evaluation.json", report.evaluation.as_dict())
    saved.unlink(missing_ok=True)
    return report


def _run_digest(facts: dict[str, Any]) -> str:
    text = repr(sorted(facts.items(), key=lambda pair: pair[0]))
    return hashlib.sha256(text.encode()).hexdigest()


def _write_curve(report: TrainReport) -> None:
    names = ("step", "loss", "action_mae", "action_mse", "prediction_mse", "elapsed_s")
    records = [attrs.asdict(row) for row in report.loss_curve]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    replace_file(report.loss_csv, text.getvalue().encode())
    write_json(report.loss_json, records)
