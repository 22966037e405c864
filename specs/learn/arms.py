"""Arms learnt from others' recordings: HOPE beside the mean, ridge, a GRU and ACT.

    python -m continuon._specs.learn.arms SHARED_DATA [--sets g1 bridge] [--seeds 1]

`g1`: the 26 joints of a teleoperated humanoid, no pictures; what is told are the joint
targets in radians, and `hold`, the joints as they are, is a baseline too. `bridge`: a
WidowX arm's small motions from pictures, its state and the written instruction, ten
steps an episode. Whole episodes, the last fifth in the order of the source, are held
out. `line` is ridge without the pictures, on which all networks start and of whose
training the judges keep what they bear out (`continuon.learn.line_start`); with
`--fresh` they start from nothing and keep everything. State and actions are scaled by
the training episodes' least and largest values; an error is told as a share of half
that range, for `g1` in radians too. One JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon import hope
from continuon.learn.data import EpisodeArrays, split_by_time
from continuon.learn.line import fit_line
from continuon.learn.line_start import Judged, line_start, paced
from continuon.learn.loop import run_steps, seed_steps
from continuon.learn.peer_fit import PeerPlan, answers_of
from continuon.learn.peers import PEERS, scalars
from continuon.learn.recipe import Recipe
from continuon.learn.rollout import predict
from continuon.learn.senses import Senses, extra_of
from continuon.learn.update import begun, make_update
from continuon.learn.windows import WindowSampler

SETS = ("g1", "bridge")
MODELS = ("hope", *PEERS)
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
BRIDGE = "rlds-bridge/bridge_dataset/1.0.0"
WORDS, PIXELS = Senses(instruction_size=32), 32
Array = NDArray[Any]


@attrs.frozen(eq=False)
class Raw:
    """One episode: state [T, P] and action [T, A], in their own units."""

    name: str
    images: Array
    state: Array
    action: Array
    extra: dict[str, Array] = attrs.field(factory=dict)


def read_g1(folder: Path) -> list[Raw]:
    """Return the humanoid's episodes: joint positions and targets, radians."""
    from pyarrow import parquet

    found = []
    for path in sorted((folder / "lerobot-g1").glob("data/*/*.parquet")):
        table = parquet.read_table(path)
        state, action = (
            np.stack(table.column(name).to_numpy())
            for name in ("observation.state", "action")
        )
        found.append(Raw(path.stem, np.zeros((len(state), 0, 0, 3)), state, action))
    return found


def read_bridge(folder: Path) -> list[Raw]:
    """Return the arm's episodes."""
    from continuon.rlds.images import decode_colour, policy_image
    from continuon.rlds.importers.dispatch import import_recording
    from continuon.rlds.steps import read_steps

    found = []
    with tempfile.TemporaryDirectory() as name:
        import_recording(folder / BRIDGE, Path(name))
        for steps in read_steps(Path(name)):
            images = [
                policy_image(decode_colour(one), height=PIXELS, width=PIXELS)
                for one in steps.image
            ]
            state, action = np.asarray(steps.state), np.asarray(steps.action)
            words = extra_of(steps, WORDS)
            found.append(
                Raw(steps.metadata.episode_id, np.stack(images), state, action, words)
            )
    return found


@attrs.frozen(eq=False)
class Span:
    """The middle and half the range of each component."""

    centre: Array
    half: Array

    @classmethod
    def of(cls, rows: Sequence[Array]) -> Span:
        """Return the span of arrays [T, N]; half of it is never 0."""
        every = np.concatenate(rows).astype(np.float64)
        low, high = every.min(0), every.max(0)
        return cls((low + high) / 2, np.maximum((high - low) / 2, 1e-6))

    def shared(self, values: Array) -> Array:
        """Return values as shares of half the range, 0 at its middle."""
        return (values - self.centre) / self.half


def scaled(
    training: Sequence[Raw], held_out: Sequence[Raw]
) -> tuple[list[EpisodeArrays], list[EpisodeArrays], Span]:
    """Return both in [-1, 1] by the training's range, and the span of its actions.

    A held-out action beyond that range is clipped, in its error too.
    """
    state = Span.of([raw.state for raw in training])
    action = Span.of([raw.action for raw in training])

    def made(raw: Raw) -> EpisodeArrays:
        ticks = len(raw.action)
        return EpisodeArrays(
            episode_id=raw.name,
            origin="imported",
            images=raw.images.astype(np.uint8),
            proprio=state.shared(raw.state).astype(np.float32),
            action=np.clip(action.shared(raw.action), -1, 1).astype(np.float32),
            stamp_ns=np.arange(ticks, dtype=np.int64) * 33_333_333,
            valid=np.ones(ticks, bool),
            proprio_names=tuple(f"state_{i}" for i in range(raw.state.shape[1])),
            action_names=tuple(f"action_{i}" for i in range(raw.action.shape[1])),
            extra=raw.extra,
        )

    return [made(r) for r in training], [made(r) for r in held_out], action


def features(episode: EpisodeArrays) -> Array:
    """Return what ridge sees of each step: state, words, an 8 x 8 grey picture."""
    parts = [episode.proprio, *episode.extra.values()]
    if episode.images.size:
        size = episode.images.shape[1] // 8
        grey = episode.images.mean(-1).reshape(len(episode), 8, size, 8, size)
        parts.append(grey.mean((2, 4)).reshape(len(episode), -1) / 255.0 - 0.5)
    return np.concatenate(parts, 1).astype(np.float64)


def ridge(training: Sequence[EpisodeArrays]) -> Callable[[EpisodeArrays], Array]:
    """Return the linear map whose penalty the last training episodes chose."""
    cut = max(1, round(0.8 * len(training)))
    trials = {p: _solve(training[:cut], p) for p in PENALTIES}
    judges = training[cut:] or training
    best = min(PENALTIES, key=lambda p: float(error(judges, trials[p]).mean()))
    return _solve(training, best)


def _solve(
    training: Sequence[EpisodeArrays], penalty: float
) -> Callable[[EpisodeArrays], Array]:
    x = np.concatenate([features(e) for e in training])
    y = np.concatenate([e.action for e in training]).astype(np.float64)
    centre, bias = x.mean(0), y.mean(0)
    x = x - centre
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (y - bias))
    return lambda e: np.clip((features(e) - centre) @ weights + bias, -1, 1)


def error(
    held_out: Sequence[EpisodeArrays], told: Callable[[EpisodeArrays], Array]
) -> Array:
    """Return the mean absolute error of each component [A], scaled."""
    return np.concatenate([np.abs(told(e) - e.action) for e in held_out]).mean(0)


def network(
    name: str,
    pair: tuple[Sequence[EpisodeArrays], Sequence[EpisodeArrays]],
    plan: PeerPlan,
    *,
    straight: bool,
) -> tuple[Array, dict[str, Any]]:
    """Return the error [A] of HOPE (preset `nano`) or a peer, and what it is."""
    training, held_out = pair
    first = training[0]
    pictured = first.images.size > 0
    config = hope.preset(
        "nano",
        straight_action=straight,
        image_height=PIXELS if pictured else 0,
        image_width=PIXELS if pictured else 0,
        motion_bands=3 if pictured else 0,
        proprio=first.proprio_names,
        action=first.action_names,
        **(WORDS.as_fields if first.extra else {}),
    )
    if name == "hope":
        params, kept = taught(config, training, plan)
        told = [answer.action for answer in predict(params, config, held_out)]
        size = scalars(params)
    else:
        told, size, kept = answers_of(name, config, pair, plan)
    off = [np.abs(t - e.action) for t, e in zip(told, held_out, strict=True)]
    more = {} if kept is None else {"line": kept.as_dict()}
    return np.concatenate(off).mean(0), {"parameters": size, **more}


def taught(
    config: hope.HopeConfig, training: Sequence[EpisodeArrays], plan: PeerPlan
) -> tuple[Any, Judged | None]:
    """Return what `continuon train` keeps of HOPE's parameters, and why."""
    steps, recipe, seed = plan.num_steps, plan.recipe, plan.seed
    if not config.straight_action:
        state, _ = seed_steps(config, recipe, training, num_steps=steps, seed=seed)
        return state.average, None
    line = line_start(hope.init(seed, config), config, training)
    recipe = paced(recipe)
    state, _ = run_steps(
        begun(line.start),
        make_update(config, recipe, steps),
        WindowSampler(line.own, recipe, seed),
        until=steps,
    )
    return line.kept(state.average)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--fresh", action="store_true")
    asked = parser.parse_args()
    recipe = attrs.evolve(Recipe().plain(), proprio_noise=0.02)
    for which in asked.sets:
        raw = read_g1(asked.data) if which == "g1" else read_bridge(asked.data)
        parts = split_by_time(raw, 0.2)
        training, held_out, span = scaled(*parts)
        in_radians = span.half if which == "g1" else None

        def row(
            name: str,
            off: Array,
            which: str = which,
            rad: Any = in_radians,
            **more: Any,
        ) -> None:
            told = {"set": which, "model": name, "error": round(float(off.mean()), 5)}
            if rad is not None:
                told["error_rad"] = round(float((off * rad).mean()), 5)
            by_component = [round(float(value), 4) for value in off]
            print(json.dumps(told | more | {"components": by_component}), flush=True)

        mean = np.concatenate([e.action for e in training]).mean(0)
        row("mean", error(held_out, lambda _, mean=mean: mean))
        if which == "g1":
            stay = {one.name: span.shared(one.state) for one in parts[1]}
            row("hold", error(held_out, lambda e, stay=stay: stay[e.episode_id]))
        row("ridge", error(held_out, ridge(training)))
        row("line", error(held_out, fit_line(training).told))
        for name in asked.models:
            for seed in range(asked.seeds):
                plan = PeerPlan(
                    names=(name,), recipe=recipe, num_steps=asked.steps, seed=seed
                )
                begun = time.process_time()
                pair = (training, held_out)
                off, facts = network(name, pair, plan, straight=not asked.fresh)
                seconds = round(time.process_time() - begun, 1)
                row(name, off, seed=seed, cpu_s=seconds, **facts)


if __name__ == "__main__":
    main()
