"""Phase 5: proof that the images teach something, against two controls."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import UsageError
from continuon.learn.controls import Interval, deal_labels, paired_interval
from continuon.learn.data import (
    EpisodeArrays,
    digest_of,
    load_arrays,
    origin_of,
    require_episodes,
    split_by_time,
)
from continuon.learn.evidence import code_digest, host_facts, write_json
from continuon.learn.recipe import Recipe
from continuon.learn.senses import NO_SENSES, Senses

if TYPE_CHECKING:
    from continuon.hope import HopeConfig

__all__ = [
    "DEFAULT_PROOF_STEPS",
    "MIN_DELTA",
    "ProofReport",
    "ProofSeed",
    "margins",
    "prove",
    "run_proof",
]

MIN_DELTA = 1e-9
MIN_SEEDS = 3
DEFAULT_PROOF_STEPS = 150
PROOF_RECIPE = Recipe(
    window=32,
    batch_size=4,
    learning_rate=4e-3,
    average=0.95,
    flip=0.0,
    shift_px=1,
    brightness=0.03,
    contrast=0.15,
    colour=0.04,
)
"""Pictures are changed less than where a policy is made: see decision 0400."""


@attrs.frozen(kw_only=True)
class ProofSeed:
    """One seed: held-out mean absolute error (all action components) of the three.

    Attributes:
        trained, shuffled, frozen: after training, after training on dealt-out labels,
            and of the same initial parameters untouched.
        novelty_before, novelty_after: mean surprise of the world model, held out.
        max_parameter_delta: largest change of any parameter.
        unmoved: paths of trainable parameters that did not change by more than 1e-9.
        by_episode: error of each held-out episode [trained/shuffled/frozen, episode],
            from which `margins` tells the intervals again.
    """

    seed: int
    updates: int
    trained: float
    shuffled: float
    frozen: float
    max_parameter_delta: float
    unmoved: tuple[str, ...]
    novelty_before: float
    novelty_after: float
    by_episode: tuple[tuple[float, ...], ...]


@attrs.frozen(kw_only=True)
class ProofReport:
    """The content of `proof_of_learning.json`.

    Attributes:
        verdict: PASSED or FAILED; reasons: why it failed.
        improvement_over_frozen, improvement_over_shuffled: fall of the held-out
            error, in action units, with its 95 % interval over seeds and episodes.
        max_parameter_delta: the least over the seeds.
    """

    verdict: str
    reasons: tuple[str, ...]
    updates: int
    max_parameter_delta: float
    improvement_over_frozen: Interval
    improvement_over_shuffled: Interval
    novelty_before: float
    novelty_after: float
    seeds: tuple[ProofSeed, ...]
    train_episodes: int
    held_out_episodes: int
    origin: str
    data_digest: str
    config_digest: str
    recipe_digest: str
    code_digest: str
    host: dict[str, Any]
    seconds: float
    finished: str

    @property
    def passed(self) -> bool:
        """Whether every condition held."""
        return self.verdict == "PASSED"

    @property
    def improvement_over_frozen_ci_low(self) -> float:
        """Return the interval's lower end, which the gate reads."""
        return self.improvement_over_frozen.low

    @property
    def improvement_over_shuffled_ci_low(self) -> float:
        """Return the interval's lower end, which the gate reads."""
        return self.improvement_over_shuffled.low

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, the gate's figures at the top level."""
        return {
            **attrs.asdict(self),
            "improvement_over_frozen_ci_low": self.improvement_over_frozen_ci_low,
            "improvement_over_shuffled_ci_low": self.improvement_over_shuffled_ci_low,
        }


def run_proof(
    rlds_dir: Path,
    *,
    output: Path,
    config_preset: str = "seed",
    num_steps: int = DEFAULT_PROOF_STEPS,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    holdout: float = 0.3,
    minimum_episodes: int = 16,
    recipe: Recipe = PROOF_RECIPE,
    proprio: tuple[str, ...] | None = None,
    senses: Senses = NO_SENSES,
    overrides: dict[str, Any] | None = None,
) -> ProofReport:
    """Prove learning on recordings and write the report, whole or not at all.

    `proprio` are state names to feed, None what `load_arrays` takes; `senses` are depth
    and instruction, where they are wanted; `overrides` replaces
    fields of the preset.

    Raises:
        DataError: no, too few or undecodable episodes.
        UsageError: no such preset, or fewer than three different seeds.
    """
    from continuon.hope import preset

    arrays = load_arrays(
        rlds_dir,
        image_height=recipe.image_height,
        image_width=recipe.image_width,
        proprio=proprio,
        senses=senses,
    )
    require_episodes(arrays, minimum_episodes)
    train, held_out = split_by_time(arrays, holdout)
    config = preset(
        config_preset,
        image_height=recipe.image_height,
        image_width=recipe.image_width,
        proprio=arrays[0].proprio_names,
        action=arrays[0].action_names,
        **senses.as_fields,
        **(overrides or {}),
    )
    report = prove(
        train, held_out, config=config, recipe=recipe, num_steps=num_steps, seeds=seeds
    )
    write_json(output, report.as_dict())
    return report


def prove(
    train: Sequence[EpisodeArrays],
    held_out: Sequence[EpisodeArrays],
    *,
    config: HopeConfig,
    recipe: Recipe,
    num_steps: int,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
) -> ProofReport:
    """Prove with episodes that are already in memory; see `run_proof`."""
    from continuon.hope import digest

    if len(set(seeds)) < MIN_SEEDS:
        raise UsageError(
            "E-LEARN-SEEDS-001",
            "a proof needs different seeds",
            seen=list(seeds),
            allowed=f"at least {MIN_SEEDS}",
        )
    begun = time.monotonic()
    results = [
        _one_seed(
            train,
            held_out,
            config=config,
            recipe=recipe,
            num_steps=num_steps,
            seed=seed,
        )
        for seed in seeds
    ]
    over_frozen, over_shuffled = margins([r.by_episode for r in results])
    updates = min(r.updates for r in results)
    delta = min(r.max_parameter_delta for r in results)
    reasons = _reasons(updates, delta, results, over_frozen, over_shuffled)
    return ProofReport(
        verdict="FAILED" if reasons else "PASSED",
        reasons=reasons,
        updates=updates,
        max_parameter_delta=delta,
        improvement_over_frozen=over_frozen,
        improvement_over_shuffled=over_shuffled,
        novelty_before=float(np.mean([r.novelty_before for r in results])),
        novelty_after=float(np.mean([r.novelty_after for r in results])),
        seeds=tuple(results),
        train_episodes=len(train),
        held_out_episodes=len(held_out),
        origin=origin_of((*train, *held_out)),
        data_digest=digest_of((*train, *held_out)),
        config_digest=digest(config),
        recipe_digest=recipe.digest(),
        code_digest=code_digest(),
        host=host_facts(),
        seconds=time.monotonic() - begun,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def margins(
    by_episode: Sequence[Sequence[Sequence[float]]],
) -> tuple[Interval, Interval]:
    """Return the margins over the frozen and the shuffled control.

    Args:
        by_episode: errors [seed, trained/shuffled/frozen, episode], as they stand in
            `proof_of_learning.json`: whoever reads it can tell its margins again.
    """
    trained, shuffled, frozen = np.asarray(by_episode, np.float64).swapaxes(0, 1)
    rng = np.random.default_rng(0)
    over_frozen = paired_interval(frozen - trained, rng)
    return over_frozen, paired_interval(shuffled - trained, rng)


def _one_seed(
    train: Sequence[EpisodeArrays],
    held_out: Sequence[EpisodeArrays],
    *,
    config: HopeConfig,
    recipe: Recipe,
    num_steps: int,
    seed: int,
) -> ProofSeed:
    from continuon.hope import init, trainable_mask
    from continuon.hope.checkpoint import flatten
    from continuon.learn.loop import max_parameter_delta, seed_steps

    dealt = deal_labels(train, np.random.default_rng([seed, 1]))
    initial = init(seed, config)
    finals = []
    for episodes in (train, dealt):
        state, _ = seed_steps(config, recipe, episodes, num_steps=num_steps, seed=seed)
        finals.append(state)
    kept = [state.average for state in finals]
    scored = [_scored(params, config, held_out) for params in (*kept, initial)]
    moved = max_parameter_delta(initial, finals[0].params)
    free = flatten(trainable_mask(initial))
    return ProofSeed(
        seed=seed,
        updates=int(finals[0].step),
        trained=float(scored[0][0].mean()),
        shuffled=float(scored[1][0].mean()),
        frozen=float(scored[2][0].mean()),
        max_parameter_delta=max(moved.values()),
        unmoved=tuple(
            name for name, d in moved.items() if free[name] and not d > MIN_DELTA
        ),
        novelty_before=scored[2][1],
        novelty_after=scored[0][1],
        by_episode=tuple(tuple(errors.tolist()) for errors, _ in scored),
    )


def _scored(
    params: Any, config: HopeConfig, held_out: Sequence[EpisodeArrays]
) -> tuple[NDArray[np.float64], float]:
    """Return the error of each held-out episode, and the mean surprise; valid steps."""
    from continuon.learn.rollout import predict

    told = predict(params, config, held_out)
    pairs = list(zip(told, held_out, strict=True))
    errors = [
        np.abs(t.action - e.action)[e.valid].mean(dtype=np.float64)
        for t, e in pairs
        if e.valid.any()
    ]
    surprise = float(np.concatenate([t.surprise[e.valid] for t, e in pairs]).mean())
    return np.asarray(errors), surprise


def _reasons(
    updates: int,
    delta: float,
    results: Sequence[ProofSeed],
    over_frozen: Interval,
    over_shuffled: Interval,
) -> tuple[str, ...]:
    finite = all(np.isfinite([r.trained, r.shuffled, r.frozen]).all() for r in results)
    facts = (
        (updates > 0, "no update was made"),
        (delta > MIN_DELTA, f"no parameter moved by more than {MIN_DELTA}"),
        (finite, "an error is not finite"),
        (
            over_frozen.low > 0.0,
            "the held-out error is not surely below the frozen control's",
        ),
        (
            over_shuffled.low > 0.0,
            "the held-out error is not surely below the shuffled-label control's",
        ),
    )
    return tuple(reason for holds, reason in facts if not holds)
