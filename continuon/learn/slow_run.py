"""One run of the Slow loop, from its first state to its report. Uses JAX."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from continuon.clock import Clock
from continuon.learn.data import origin_of
from continuon.learn.evaluate import evaluate
from continuon.learn.evidence import (
    code_digest,
    host_facts,
    peak_memory_bytes,
    write_json,
)
from continuon.learn.line import lies_on_line
from continuon.learn.metrics import open_metrics
from continuon.learn.recipe import Recipe
from continuon.learn.remote import is_url, send_file, upload
from continuon.learn.run_store import FileStore, RunStore, orbax_store
from continuon.learn.share import Share
from continuon.learn.train_report import TrainReport, write_curve

if TYPE_CHECKING:
    from continuon.hope import HopeConfig
    from continuon.learn.peer_fit import PeerPlan
    from continuon.learn.windows import Sampler

__all__ = ["Progress", "SlowRun", "config_of", "run_slow"]

_STATE = "training.state"
Progress = Callable[[int, int, float], None]


@attrs.frozen(kw_only=True)
class SlowRun:
    """How to train, and where what is made goes.

    Attributes:
        output: a folder that all hosts share, or a URL.
        folder: where this host makes its files; those of the first host count.
        overrides: of the preset's fields.
        loader: "memory", or "grain" for batches that its threads make ahead. The others
            are the arguments of `train`.
    """

    output: str
    folder: Path
    config_preset: str
    num_steps: int
    mode: str
    fsdp: int
    seed: int
    recipe: Recipe
    checkpoint_every: int
    resume: bool
    tensorboard: bool
    on_progress: Progress | None
    clock: Clock
    overrides: dict[str, Any]
    peers: tuple[str, ...] = ()
    loader: str = "memory"

    @property
    def url(self) -> str | None:
        """Return the output where it is behind a protocol."""
        return self.output if is_url(self.output) else None

    def store(self) -> RunStore:
        """Open where the training state is kept."""
        if self.mode == "tpu":
            return orbax_store(f"{self.output}/training")
        return FileStore(self.folder / _STATE, self.url)


def config_of(share: Share, run: SlowRun) -> HopeConfig:
    """Return the network for these recordings; all hosts must ask.

    Raises:
        UsageError: no such preset.
    """
    from continuon.hope import preset

    first, recipe = share.training[0], run.recipe
    values = {
        "image_height": recipe.image_height,
        "image_width": recipe.image_width,
        "proprio": first.proprio_names,
        "action": first.action_names,
        "action_levels": share.action_levels(),
        "straight_action": share.hosts == 1 and lies_on_line(share.training),
        **run.overrides,
    }
    return preset(run.config_preset, **values)


def run_slow(share: Share, run: SlowRun) -> TrainReport:
    """Train on this host's share, or go on from what a killed run has saved.

    Raises:
        DataError: a loss that is not finite, or a saved state that cannot be read.
    """
    from continuon.hope import (
        count_parameters,
        digest,
        near_neutral,
        save_checkpoint,
    )
    from continuon.learn.line_start import line_start, paced
    from continuon.learn.loop import LossRow, run_steps
    from continuon.learn.mesh import Placement, meet, placement
    from continuon.learn.update import as_leaves, as_vector, begun, make_update, start
    from continuon.learn.windows import WindowSampler

    begun_ns = run.clock.monotonic_ns()
    recipe, config = run.recipe, config_of(share, run)
    facts = {
        "preset": run.config_preset,
        "seed": run.seed,
        "origin": origin_of(share.training),
        "data_digest": share.training_digest(),
        "config_digest": digest(config),
        "recipe": recipe.as_dict(),
        "code_digest": code_digest(),
        "num_steps": run.num_steps,
    }
    name = _run_digest({**facts, "hosts": share.hosts})
    meshed = run.mode == "tpu"
    where = placement(recipe.part_size, fsdp=run.fsdp) if meshed else Placement(None)
    pack = as_leaves if meshed else as_vector
    state = start(config, run.seed, pack=pack)
    untrained = {**facts, "steps": 0, "trained": False}
    seed_path = run.folder / "seed.hope"
    save_checkpoint(seed_path, config, near_neutral(state.params), metadata=untrained)
    line, training = None, share.training
    if config.straight_action:
        line = line_start(state.params, config, share.training)
        recipe, training = paced(recipe), line.own
        state = begun(line.start, pack=pack)
    state = where.state(state)
    shardings = where.shardings(state)
    store = run.store()
    found = store.load(state, run=name) if run.resume else None
    rows: list[LossRow] = []
    if found is not None:
        state, rows = found[0], [LossRow(**row) for row in found[1]]
    resumed_at = int(state.step)
    log = open_metrics(run.folder, rows, tensorboard=run.tensorboard)

    def remember(now: Any, row: LossRow) -> None:
        rows.append(row)
        log.add(row)
        done = row.step + 1
        if done % run.checkpoint_every == 0 and done < run.num_steps:
            store.save(now, run=name, rows=[attrs.asdict(r) for r in rows])
            if run.url is not None and share.host == 0:
                send_file(run.folder / "metrics.jsonl", f"{run.url}/metrics.jsonl")
        if run.on_progress is not None:
            run.on_progress(done, run.num_steps, row.loss)

    windows = WindowSampler(training, *_draws(share, run))
    with closing(log), _batches(windows, run, resumed_at) as sampler:
        state, _ = run_steps(
            state,
            make_update(config, recipe, run.num_steps, pack=pack, shardings=shardings),
            sampler,
            until=run.num_steps,
            hook=remember,
            place=where.batch,
            clock=run.clock,
        )
    params = where.whole(state.average)
    done: dict[str, Any] = {"steps": run.num_steps, "trained": True}
    if line is not None:
        params, verdict = line.kept(params)
        done["line"] = verdict.as_dict()
    policy_path = run.folder / "policy.hope"
    sha256 = save_checkpoint(policy_path, config, params, metadata={**facts, **done})
    report = _report(
        share,
        run,
        facts,
        checkpoint=policy_path,
        seed_checkpoint=seed_path,
        checkpoint_sha256=sha256,
        parameters=count_parameters(state.params),
        resumed_at=resumed_at,
        line=done.get("line"),
        devices=where.devices,
        loss_curve=tuple(rows),
        begun_ns=begun_ns,
    )
    store.close(finished=True)
    meet("trained")
    return report


def _batches(
    windows: Sampler, run: SlowRun, first: int
) -> AbstractContextManager[Sampler]:
    """Return what gives the batches of the steps that are left."""
    if run.loader == "memory":
        return nullcontext(windows)
    from continuon.learn.grain_loader import open_grain

    return open_grain(windows, first=first, until=run.num_steps)


def _draws(share: Share, run: SlowRun) -> tuple[Recipe, int]:
    """Return the recipe and the seed of this host's windows."""
    if share.hosts == 1:
        return run.recipe, run.seed
    rows = run.recipe.batch_size // share.hosts
    told = hashlib.sha256(f"{run.seed} {share.host} {share.hosts}".encode()).digest()
    seed = int.from_bytes(told[:8], "little")
    return attrs.evolve(run.recipe, batch_size=rows, accumulate=1), seed


def _report(
    share: Share, run: SlowRun, facts: dict[str, Any], *, begun_ns: int, **made: Any
) -> TrainReport:
    report = TrainReport(
        loss_csv=run.folder / "loss.csv",
        loss_json=run.folder / "loss.json",
        url=run.url,
        steps=run.num_steps,
        preset=run.config_preset,
        mode=run.mode,
        seed=run.seed,
        hosts=share.hosts,
        seconds=(run.clock.monotonic_ns() - begun_ns) / 1e9,
        peak_memory_bytes=peak_memory_bytes(),
        origin=origin_of((*share.training, *share.held_out)),
        data_digest=share.data_digest(),
        config_digest=facts["config_digest"],
        recipe=facts["recipe"],
        train_episodes=share.episode_ids,
        held_out_episodes=tuple(episode.episode_id for episode in share.held_out),
        evaluation=evaluate(
            made["checkpoint"],
            share.held_out,
            training=share.training,
            peers=_plan(run),
        ),
        host=host_facts(),
        **made,
    )
    write_curve(report)
    write_json(run.folder / "evaluation.json", report.evaluation.as_dict())
    if run.url is not None and share.host == 0:
        upload(run.folder, run.url)
    return report


def _plan(run: SlowRun) -> PeerPlan | None:
    """Return how the peers are trained, if any are asked for."""
    if not run.peers:
        return None
    from continuon.learn.peer_fit import PeerPlan

    return PeerPlan(
        names=run.peers, recipe=run.recipe, num_steps=run.num_steps, seed=run.seed
    )


def _run_digest(facts: dict[str, Any]) -> str:
    text = repr(sorted(facts.items(), key=lambda pair: pair[0]))
    return hashlib.sha256(text.encode()).hexdigest()
