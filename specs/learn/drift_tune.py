"""Equal tuning: the same small grid for every model, judged on robots of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np

from continuon._specs.learn.drift_life import VALIDATION, lives, surprise
from continuon._specs.learn.drift_models import Model, make_model, scalars
from continuon._specs.learn.drift_stats import tails
from continuon._specs.learn.drift_train import Training, trained
from continuon._specs.learn.drift_world import World

RATES = (3e-3, 1e-2, 3e-2)
TUNING_SEEDS = 2
"""Training seeds that choose the rate; the robots that judge are never the test's."""


@attrs.frozen(kw_only=True, eq=False)
class Policy:
    """A model with its parameters of every seed, trained at the rate that it chose.

    Attributes:
        name, model: of it.
        params: leaves [seed, ...].
        level: usual surprise of each seed at home [seed].
        facts: size, rates and their scores, for the report.
    """

    name: str
    model: Model
    params: Any
    level: Any
    facts: dict[str, Any]


@attrs.frozen(kw_only=True)
class Plan:
    """How much is trained and where it is kept.

    Attributes:
        seeds: of training.
        training: of each.
        rates: to choose among.
        robots: that judge.
        folder: of trained parameters; they are made once.
    """

    seeds: int
    training: Training
    rates: tuple[float, ...]
    robots: int
    folder: Path


def score(distances: Any) -> float:
    """Return the geometric mean over phases of the typical tail.

    `distances` [seed, robot, phase, tick]; the median over robots, averaged over
    seeds. NaN where one is not finite, so that nothing is chosen for it.
    """
    typical = np.median(tails(distances), 1).mean(0)
    return float(np.exp(np.mean(np.log(typical))))


def best(scores: dict[Any, float]) -> Any:
    """Return the key of the smallest score; what is not finite never wins.

    Raises:
        ValueError: no score is finite.
    """
    finite = {key: value for key, value in scores.items() if math.isfinite(value)}
    if not finite:
        raise ValueError(f"no setting gave a finite score: {scores}")
    return min(finite, key=lambda key: finite[key])


def tuned(
    name: str, world: World, plan: Plan, drifts: Sequence[Any], *, label: str
) -> Policy:
    """Return a model at the rate that drives validation robots best.

    Args:
        name: of `drift_models.NAMES`.
        world: to train and live in.
        plan: sizes.
        drifts: the life that judges.
        label: of the world, for the names of files.
    """
    model = make_model(name, world.proprio, world.action)
    few = range(min(TUNING_SEEDS, plan.seeds))

    def fitted(lanes: list[tuple[int, float]]) -> Any:
        return trained(
            f"{label}-{name}",
            world,
            model,
            lanes,
            how=plan.training,
            folder=plan.folder,
        )

    def judged(params: Any) -> Any:
        return lives(world, model, params, drifts, robots=plan.robots, seed=VALIDATION)

    scores = {}
    if len(plan.rates) > 1:
        lanes = [(seed, rate) for rate in plan.rates for seed in few]
        away = judged(fitted(lanes)).distance
        for index, rate in enumerate(plan.rates):
            scores[rate] = score(away[len(few) * index :][: len(few)])
    chosen = best(scores) if scores else plan.rates[0]
    params = fitted([(seed, chosen) for seed in range(plan.seeds)])
    rows = judged(params)
    # the first phase is home, and its beginning is settling down
    level = surprise(rows)[:, :, 0, 128:].mean((1, 2))
    return Policy(
        name=name,
        model=model,
        params=jax.tree.map(jnp.asarray, params),
        level=jnp.asarray(level, jnp.float32),
        facts={
            "parameters": scalars(model.init(0)),
            "rate": chosen,
            "scores": {f"{rate:g}": round(value, 5) for rate, value in scores.items()},
        },
    )
