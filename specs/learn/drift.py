"""The drift life: a body that changes under a policy which is told nothing of it.

    python -m continuon._specs.learn.drift [--short] [--part lives|reset|learn|car]...

`lives`: a point whose actuators and sensors drift (`drift_point`), HOPE, a GRU of as
many parameters and an MLP without memory, no parameter changing: what adapts is the
state. `reset`: lives that leave a state in ruins, begun anew where the error lasts
(`drift_reset`). `learn`: the same as `lives` while it learns, with gates and a
rollback, and the baselines that forget or hold on (`drift_learn`). `car`: `lives` in
the car world (`drift_car`).
Learning rates are chosen on robots of their own; figures are of others, over training
seeds with 95 % intervals. Trained parameters are kept in `--folder`, so that a killed
run goes on. One JSON object a line is printed, as soon as it is known.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from continuon._specs.learn import drift_car, drift_car_lives, drift_compare
from continuon._specs.learn.drift_life import LIVES, ROTATIONS, TEST, TUNING, lives
from continuon._specs.learn.drift_models import NAMES
from continuon._specs.learn.drift_point import POINT
from continuon._specs.learn.drift_reset import watched
from continuon._specs.learn.drift_stats import (
    phase_figures,
    ratio_interval,
    rounded,
    tails,
)
from continuon._specs.learn.drift_train import Training
from continuon._specs.learn.drift_tune import RATES, Plan, Policy, tuned
from continuon._specs.learn.drift_world import World

PARTS = ("lives", "reset", "learn", "car")
RUINOUS = ("latency: 2 ticks", "latency: 3 ticks", "rotation, 130 degrees")
TUNING_LIFE = (*ROTATIONS[:2], TUNING, ROTATIONS[3])
FEW = ("LoRA, surprise gate", "LoRA, all gates and rollback", "full, replay, EWC")
LEARNED = (
    "rotation",
    "payload: half the push, inertia",
    "latency: 2 ticks",
    "sensor bias: rate",
    "A-B-A-B",
)
"""Lives in which the Mid loop's rules are tried, of each as many phases as the first
has; the first is where all methods are."""


def main() -> None:
    """Train, live and learn; print the figures."""
    asked = _asked()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        for name, table in report(asked, folder):
            print(json.dumps({name: table}), flush=True)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true", help="a few minutes, no claim")
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--model", action="append", choices=NAMES)
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=0)
    parser.add_argument("--robots", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    return parser.parse_args()


def report(asked: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the tables of the parts asked for, each with its name."""
    short = asked.short
    plan = Plan(
        seeds=asked.seeds or (2 if short else 5),
        training=Training(iterations=asked.iterations or (30 if short else 400)),
        rates=RATES[1:2] if short else RATES,
        robots=4 if short else 16,
        folder=folder,
    )
    robots = asked.robots or (4 if short else 32)
    parts = asked.part or (("lives", "car") if short else PARTS)
    names = asked.model or NAMES
    yield "plan", {"short": short, "seeds": plan.seeds, "robots": robots}
    if {"lives", "reset", "learn"} & set(parts):
        wanted = names if "lives" in parts else [n for n in names if n != "mlp"]
        policies = {
            name: tuned(name, POINT, plan, TUNING_LIFE, label="point")
            for name in wanted
        }
        yield "policies", {name: p.facts for name, p in policies.items()}
    if "lives" in parts:
        chosen = {"rotation": ROTATIONS} if short else LIVES
        yield from lived(POINT, policies, chosen, robots=robots)
    if "reset" in parts:
        guarded = {
            name: attrs.evolve(policy, model=watched(policy.model))
            for name, policy in policies.items()
        }
        chosen = {life: LIVES[life] for life in RUINOUS}
        for life, rows in lived(POINT, guarded, chosen, robots=robots):
            yield f"{life}, begun anew", rows
    if "learn" in parts:
        for name, policy in policies.items():
            if name != "mlp":
                few = min(robots, 8)
                yield from learned(policy, robots=few, short=short)
    if "car" in parts:
        yield from car(plan, names, robots=robots, short=short)


def lived(
    world: World, policies: dict[str, Policy], drifts: dict[str, Any], *, robots: int
) -> Iterator[tuple[str, Any]]:
    """Yield figures of each life: each model by phase, and the GRU over HOPE."""
    for life, phases in drifts.items():
        away = {
            name: lives(
                world, policy.model, policy.params, phases, robots=robots, seed=TEST
            ).distance
            for name, policy in policies.items()
        }
        rows: dict[str, Any] = {
            name: {
                drift.name: phase_figures(one[:, :, index])
                for index, drift in enumerate(phases)
            }
            for name, one in away.items()
        }
        if {"hope", "gru"} <= set(away):
            rows["gru_over_hope"] = _ratios(away, phases)
        yield life, rows


def _ratios(away: dict[str, Any], phases: Any) -> dict[str, Any]:
    """Return the GRU's tail over HOPE's by phase: above 1, HOPE is nearer."""
    kept = {name: tails(one) for name, one in away.items()}
    return {
        drift.name: rounded(
            ratio_interval(kept["gru"][:, :, index], kept["hope"][:, :, index])
        )
        for index, drift in enumerate(phases)
    }


def learned(policy: Policy, *, robots: int, short: bool) -> Iterator[tuple[str, Any]]:
    """Yield figures of learning while living.

    As many robots choose as are told of, so that one program serves both.
    """
    made = drift_compare.bases(policy)
    picked, scores = drift_compare.tune_all(policy, made[0], robots=robots, short=short)
    yield f"{policy.name}, scores on {robots} other robots", scores
    for life in LEARNED[:1] if short else LEARNED:
        used = picked if life == LEARNED[0] else {n: picked[n] for n in FEW}
        drifts = LIVES[life][: drift_compare.PHASES]
        rows = drift_compare.table(policy, drifts, used, made, robots=robots)
        for method, figures in rows:
            yield f"{policy.name}, {life}, {method}", figures


def car(
    plan: Plan, names: Sequence[str], *, robots: int, short: bool
) -> Iterator[tuple[str, Any]]:
    """Yield the car's lives; a smaller life: steering alone, no picture."""
    policies = {
        name: tuned(name, drift_car.TRACK, plan, drift_car_lives.TUNING, label="car")
        for name in names
    }
    yield "car policies", {name: policy.facts for name, policy in policies.items()}
    drifts = dict(list(drift_car_lives.LIVES.items())[: 1 if short else None])
    yield from lived(drift_car.TRACK, policies, drifts, robots=robots)


if __name__ == "__main__":
    main()
