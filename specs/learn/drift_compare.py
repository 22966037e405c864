"""Learning while living: ten ways on the same robots, each tuned on others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from continuon._specs.learn.drift_forget import fisher, old_data
from continuon._specs.learn.drift_learn import learn_life
from continuon._specs.learn.drift_life import (
    PHASE,
    ROTATIONS,
    TEST,
    VALIDATION,
    conditions,
    lives,
    sensor_noise,
)
from continuon._specs.learn.drift_method import Base, Count, Method
from continuon._specs.learn.drift_point import POINT
from continuon._specs.learn.drift_stats import (
    mean_interval,
    phase_figures,
    rounded,
    tails,
)
from continuon._specs.learn.drift_tune import Policy, best, score

RATES, PULLS = (3e-4, 1e-3, 3e-3), (0.01, 1.0, 100.0)
OLD_SEED = 4242
PHASES = len(ROTATIONS)


def methods(rates: Sequence[float], pulls: Sequence[float]) -> dict[str, list[Method]]:
    """Return the settings of each method that may be chosen."""
    kinds: dict[str, dict[str, Any]] = {
        "LoRA": {"lora": True},
        "LoRA, surprise gate": {"lora": True, "gated": True},
        "LoRA, all gates and rollback": {"lora": True, "gated": True, "judged": True},
        "full": {"lora": False},
        "full, surprise gate": {"lora": False, "gated": True},
        "full, replay": {"lora": False, "replay": 0.5},
    }
    table = {
        name: [Method(name=name, rate=rate, **kind) for rate in rates]
        for name, kind in kinds.items()
    }
    pulled: dict[str, dict[str, Any]] = {
        "full, EWC": {"lora": False},
        "full, replay, EWC": {"lora": False, "replay": 0.5},
        "full, surprise gate, EWC": {"lora": False, "gated": True},
        "LoRA, surprise gate, EWC": {"lora": True, "gated": True},
    }
    for name, kind in pulled.items():
        table[name] = [
            Method(name=name, rate=rate, pull=pull, **kind)
            for rate in rates
            for pull in pulls
        ]
    return table


def bases(policy: Policy) -> list[Base]:
    """Return what each training seed has when its life begins."""

    def one(params: Any) -> Any:
        rows = old_data(POINT, policy.model, params, OLD_SEED)
        return fisher(policy.model, params, rows), rows

    make, made = jax.jit(one), []
    for index in range(len(policy.level)):
        params = jax.tree.map(lambda leaf, at=index: leaf[at], policy.params)
        made.append(Base(params, *make(params), policy.level[index]))
    return made


def run(
    policy: Policy,
    method: Method,
    base: Base,
    drifts: Sequence[Any],
    *,
    robots: int,
    seed: int,
) -> tuple[Any, Count]:
    """Return distances [robot, phase, tick] and counts [robot] of one seed's lives."""
    drawn = POINT.robots(seed, robots)
    bodies = conditions(POINT, drawn, drifts)
    noise = sensor_noise(POINT, seed, len(drifts) * PHASE, robots)
    return learn_life(policy.model, method, base, (drawn, bodies, noise))


def chosen(
    policy: Policy, base: Base, settings: Sequence[Method], *, robots: int
) -> tuple[Method, dict[str, float]]:
    """Return the setting that does best on validation robots, and all scores."""
    scores = {}
    for method in settings:
        away, _ = run(policy, method, base, ROTATIONS, robots=robots, seed=VALIDATION)
        scores[method] = score(away[None])
    told = {f"{m.rate:g}, {m.pull:g}": round(v, 5) for m, v in scores.items()}
    return best(scores) if len(settings) > 1 else settings[0], told


def table(
    policy: Policy,
    drifts: Sequence[Any],
    picked: dict[str, Method],
    made: Sequence[Base],
    *,
    robots: int,
) -> Iterator[tuple[str, Any]]:
    """Yield the figures of no learning and of each method on the test robots."""
    phases = padded(drifts)
    still = lives(
        POINT, policy.model, policy.params, phases, robots=robots, seed=TEST
    ).distance
    yield "none", _figures(drifts, still)
    for name, method in picked.items():
        lived = [
            run(policy, method, base, phases, robots=robots, seed=TEST) for base in made
        ]
        figures = _figures(drifts, np.stack([away for away, _ in lived]))
        sums = [
            np.sum([count[i] for _, count in lived]) for i in range(len(Count._fields))
        ]
        figures["counts"] = dict(zip(Count._fields, map(int, sums), strict=True))
        figures["setting"] = {"rate": method.rate, "pull": method.pull}
        yield name, figures


def padded(drifts: Sequence[Any]) -> list[Any]:
    """Return the life with its last phase going on to `PHASES`: one program for all.

    What is added comes after all that is told; the counts of candidates include it.
    """
    return [*drifts, *[drifts[-1]] * (PHASES - len(drifts))]


def _figures(drifts: Sequence[Any], away: Any) -> dict[str, Any]:
    """Return figures by phase, and forgetting: the tail at home, last less first.

    `away` [seed, robot, phase, tick] may go on beyond `drifts`.
    """
    away = away[:, :, : len(drifts)]
    rows: dict[str, Any] = {
        drift.name: phase_figures(away[:, :, index])
        for index, drift in enumerate(drifts)
    }
    kept = tails(away)
    lost = np.median(kept[:, :, -1] - kept[:, :, 0], -1)
    rows["forgetting"] = (
        rounded(mean_interval(lost)) if len(lost) > 1 else rounded(lost)
    )
    rows["lost_robots"] = int((kept[:, :, -1] > 0.1).sum())
    return rows


def tune_all(
    policy: Policy, base: Base, *, robots: int, short: bool
) -> tuple[dict[str, Method], dict[str, Any]]:
    """Return each method at its best setting, and what the others scored."""
    grid = methods(RATES[1:2], PULLS[:1]) if short else methods(RATES, PULLS)
    picked, scores = {}, {}
    for name, settings in grid.items():
        picked[name], scores[name] = chosen(policy, base, settings, robots=robots)
    return picked, scores
