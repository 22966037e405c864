"""The Mid loop: a bounded adapter from the latest episodes, used only if it helps."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from continuon.errors import UsageError
from continuon.learn.data import (
    EpisodeArrays,
    digest_of,
    origin_of,
    require_episodes,
    split_by_time,
)
from continuon.learn.evidence import code_digest, host_facts, to_json, write_json
from continuon.learn.mid_episodes import latest_episodes
from continuon.learn.mid_gate import (
    ActionBounds,
    GateFigures,
    GateLimits,
    judge,
    measure,
    measure_baseline,
)
from continuon.learn.mid_guard import MidGuard

if TYPE_CHECKING:
    from continuon.hope.checkpoint import Checkpoint
    from continuon.learn.mid_train import Trainer

__all__ = ["TRAINERS", "MidReport", "learn_adapter", "run_mid"]

TRAINERS = {"jax": "mid_train", "pytorch": "mid_torch"}
MIN_EPISODES = 4
LEARNING_RATE = 1e-3
GATE_MARGIN = 3.0
"""Times what one run over the held-out episodes costs: the gate makes one."""


@attrs.frozen(kw_only=True)
class MidReport:
    """What one run of the Mid loop did.

    Attributes:
        promoted: whether the candidate is now in use; reasons: why not.
        steps: updates; loss_first, loss_last: mean of the first and last tenth.
        figures: the gate's.
        adapter_sha256: of the candidate's file, which stays in any case.
        adapter: its number in the history once promoted; the file itself is named by
            it, and does not say it.
        sensors: what the guard last read, and what was waived.
        left_out: sentences on recordings that were not learnt from.
    """

    promoted: bool
    reasons: tuple[str, ...]
    trainer: str
    steps: int
    loss_first: float | None
    loss_last: float | None
    figures: GateFigures
    limits: dict[str, Any]
    sensors: dict[str, Any]
    base_sha256: str
    adapter_sha256: str
    adapter: int | None
    train_episodes: tuple[str, ...]
    held_out_episodes: tuple[str, ...]
    origin: str
    data_digest: str
    code_digest: str
    seed: int
    seconds: float
    wall_ns: int
    host: dict[str, Any]
    left_out: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return attrs.asdict(self)


def run_mid(
    checkpoint: Path,
    episodes: Path,
    store: Path,
    *,
    guard: MidGuard,
    bounds: ActionBounds | None = None,
    gate: GateLimits | None = None,
    trainer: str = "jax",
    holdout: float = 0.25,
    seed: int = 0,
    wall_ns: int,
    with_own: bool = False,
    say_left_out: Callable[[tuple[str, ...]], None] = lambda _lines: None,
) -> MidReport:
    """Learn from recordings; see `learn_adapter`.

    Episodes that a policy drove are left out unless `with_own`, damaged recordings
    always; `say_left_out` is told of both before anything else can fail.

    Raises:
        BudgetError: the machine is in no state to learn, or time ran out; what is in
            use stays in use.
        DataError: no, too few or undecodable episodes.
        MissingPackageError: the trainer's package is not installed.
    """
    from continuon.hope import load_checkpoint

    guard.check()
    loaded = load_checkpoint(checkpoint)
    latest = latest_episodes(
        episodes, loaded.config, check=guard.check, with_own=with_own
    )
    say_left_out(latest.left_out)
    return learn_adapter(
        loaded,
        require_episodes(latest.episodes, MIN_EPISODES),
        store,
        left_out=latest.left_out,
        guard=guard,
        bounds=bounds,
        gate=gate,
        trainer=trainer,
        holdout=holdout,
        seed=seed,
        wall_ns=wall_ns,
    )


def learn_adapter(
    base: Checkpoint,
    episodes: tuple[EpisodeArrays, ...],
    store: Path,
    *,
    guard: MidGuard,
    bounds: ActionBounds | None = None,
    gate: GateLimits | None = None,
    trainer: str = "jax",
    learning_rate: float = LEARNING_RATE,
    holdout: float = 0.25,
    seed: int = 0,
    wall_ns: int,
    left_out: tuple[str, ...] = (),
) -> MidReport:
    """Train a candidate from what is in use, judge it, promote it or leave it lie.

    Args:
        base: the checkpoint that the robot runs.
        episodes: the latest ones, in the order of their start; the last are held out.
        store: of adapters, see `continuon.hope.adapter_store`.
        guard: asked before, at every update, and before the promotion.
        bounds: safety rules, by component; without one [-1, 1] and any rate.
        gate: thresholds.
        trainer: a key of `TRAINERS`.
        learning_rate: of Adam.
        holdout: share of the episodes.
        seed: of the adapter and the windows.
        wall_ns: Unix time for the record.
        left_out: sentences on episodes that were not given, for the record.

    Raises:
        As `run_mid`.
        UsageError: E-HOPE-STORE-006, another learner works on this store.
    """
    from continuon.hope.adapter_store import one_learner

    train = _trainer(trainer)
    guard.check()
    with one_learner(store):
        return _learn(
            base,
            episodes,
            store,
            train=train,
            trainer=trainer,
            guard=guard,
            bounds=(bounds or ActionBounds()).of(base.config.action),
            gate=gate or GateLimits(),
            learning_rate=learning_rate,
            holdout=holdout,
            seed=seed,
            wall_ns=wall_ns,
            left_out=left_out,
        )


def _learn(
    base: Checkpoint,
    episodes: tuple[EpisodeArrays, ...],
    store: Path,
    *,
    train: Trainer,
    trainer: str,
    guard: MidGuard,
    bounds: ActionBounds,
    gate: GateLimits,
    learning_rate: float,
    holdout: float,
    seed: int,
    wall_ns: int,
    left_out: tuple[str, ...],
) -> MidReport:
    from continuon.hope import init_adapter
    from continuon.hope.adapter import load_adapter
    from continuon.hope.adapter_store import (
        candidate_path,
        current_adapter,
        promote_candidate,
        put_candidate,
    )
    from continuon.hope.checkpoint import joined_origin
    from continuon.learn.mid_train import MidTask, mid_recipe

    limits = guard.limits
    taught, held_out = split_by_time(episodes, holdout)
    current = current_adapter(store, base.config, base_sha256=base.sha256)
    before = None if current is None else current.adapter
    learnt = None if current is None else current.metadata.get("origin")
    start = before or init_adapter(seed, base.params, rank=limits.rank)

    baseline = measure_baseline(
        base.params,
        base.config,
        start=start,
        held_out=held_out,
        bounds=bounds,
        clock=guard.clock,
    )
    guard.gate_s = GATE_MARGIN * baseline.rollout_s

    def go_on() -> bool:
        guard.check()
        return guard.may_train()

    task = MidTask(
        params=base.params,
        config=base.config,
        adapter=start,
        episodes=taught,
        recipe=mid_recipe(
            base.config, batch_size=limits.batch_size, learning_rate=learning_rate
        ),
        max_steps=limits.max_steps,
        seed=seed,
        go_on=go_on,
    )
    made = train(task)
    sha256 = put_candidate(
        store,
        base.config,
        made.adapter,
        base_sha256=base.sha256,
        origin=joined_origin(learnt, origin_of(episodes)),
    )
    read_back = load_adapter(candidate_path(store), base.config)
    figures = measure(
        base.params,
        base.config,
        baseline=baseline,
        candidate=read_back.adapter,
        bounds=bounds,
    )
    reasons = judge(figures, gate)
    if not made.losses:
        reasons = ("no update was made", *reasons)
    guard.check()
    tenth = max(1, len(made.losses) // 10)
    report = MidReport(
        promoted=not reasons,
        reasons=reasons,
        trainer=trainer,
        steps=len(made.losses),
        loss_first=_mean(made.losses[:tenth]),
        loss_last=_mean(made.losses[-tenth:]),
        figures=figures,
        limits=attrs.asdict(limits),
        sensors=guard.facts(),
        base_sha256=base.sha256,
        adapter_sha256=sha256,
        adapter=None,
        train_episodes=tuple(e.episode_id for e in taught),
        held_out_episodes=tuple(e.episode_id for e in held_out),
        origin=origin_of(episodes),
        data_digest=digest_of(episodes),
        code_digest=code_digest(),
        seed=seed,
        seconds=guard.elapsed_s,
        wall_ns=wall_ns,
        host=host_facts(),
        left_out=left_out,
    )
    if not reasons:
        record = promote_candidate(
            store,
            sha256=sha256,
            base_sha256=base.sha256,
            wall_ns=wall_ns,
            report=to_json(report.as_dict()),
        )
        report = attrs.evolve(report, adapter=record.use.adapter)
    write_json(store / "candidate" / "report.json", report.as_dict())
    return report


def _trainer(name: str) -> Trainer:
    if name not in TRAINERS:
        raise UsageError(
            "E-LEARN-MID-006",
            "there is no such trainer",
            seen=name,
            allowed=", ".join(TRAINERS),
        )
    module = import_module(f"continuon.learn.{TRAINERS[name]}")
    trainer: Trainer = module.train_adapter
    return trainer


def _mean(values: tuple[float, ...]) -> float | None:
    return sum(values) / len(values) if values else None
