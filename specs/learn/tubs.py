"""Steering learnt from a real tub: HOPE beside networks of as many parameters.

    python -m continuon._specs.learn.tubs TUB [--models hope gru] [--seeds 2]

TUB is any recording that `continuon` imports. The first 80 % by time are learnt from,
the last 20 % are scored: mean absolute error and side of zero of the steering, for the
mean, ridge, HOPE (preset `nano`) and peers that see through the same convolutions and
the same motion, are trained on the same windows with the same loss, rate and running
mean, and are of HOPE's size: `gru`, `attention` (the decoder of ACT), and `cnn`, which
has no memory. Where the teacher steers by keys the actions of all are drawn to these,
and the error before that is told beside. One JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import optax

from continuon import hope
from continuon._specs.learn.peers import Peer, nearest_width, scalars, stack_peer
from continuon.hope.encoder import encode, frame_of
from continuon.hope.levels import drawn
from continuon.hope.motion import motion_of
from continuon.learn.baselines import fit_mean, fit_ridge
from continuon.learn.data import EpisodeArrays, load_arrays
from continuon.learn.loop import seed_steps
from continuon.learn.recipe import Recipe
from continuon.learn.rollout import predict
from continuon.learn.scores import score
from continuon.learn.share import whole_share
from continuon.learn.slow import DEFAULT_STEPS
from continuon.learn.windows import WindowSampler
from continuon.rlds.importers.dispatch import import_recording

MODELS = ("hope", "gru", "attention", "cnn")
LAYERS = 2
Pair = tuple[Sequence[EpisodeArrays], Sequence[EpisodeArrays]]


def seer(config: hope.HopeConfig, name: str) -> Peer:
    """Return a peer behind HOPE's eyes, of HOPE's size; it takes images and follows."""
    size = scalars(hope.init(0, config))
    layers = 0 if name == "cnn" else LAYERS
    mixer = "gru" if name == "cnn" else name
    outputs = len(config.action)

    def made(width: int) -> Peer:
        core = stack_peer(mixer, config.d, outputs, width, layers)

        def init(seed: int) -> Any:
            return {
                "encoder": hope.init(seed, config)["encoder"],
                "core": core.init(seed),
            }

        def run(params: Any, seen: tuple[Any, Any]) -> Any:
            images, follows = seen
            obs = {"image": images}
            frames = frame_of(params, obs)
            before = jnp.concatenate([frames[:, :1], frames[:, :-1]], 1)
            motion = motion_of(config, frames, before) * follows[..., None]
            return core.run(params["core"], encode(params, config, obs, motion))

        return Peer(init, run)

    def parameters(width: int) -> int:
        return scalars(jax.eval_shape(lambda: made(width).init(0)))

    return made(nearest_width(parameters, size))


def fitted(
    peer: Peer, training: Sequence[EpisodeArrays], recipe: Recipe, seed: int, steps: int
) -> Any:
    """Return the running mean of a peer's parameters, trained as HOPE is."""
    rate = optax.warmup_cosine_decay_schedule(
        0.0,
        recipe.learning_rate,
        round(steps * recipe.warmup),
        steps,
        recipe.learning_rate * recipe.final_learning_rate,
    )
    optimiser = optax.chain(
        optax.clip_by_global_norm(recipe.clip_norm),
        optax.adamw(rate, weight_decay=recipe.weight_decay),
    )

    @jax.jit
    def update(held: Any, step: Any, batch: Any) -> Any:
        params, average, state = held
        images, action, valid, follows = batch

        def loss_of(candidate: Any) -> Any:
            off = peer.run(candidate, (images, follows)) - action
            weight = valid[..., None] / (valid.sum() * action.shape[-1])
            return jnp.sum(weight * (jnp.abs(off) + recipe.squared_weight * off * off))

        change, state = optimiser.update(jax.grad(loss_of)(params), state, params)
        params = optax.apply_updates(params, change)
        keep = jnp.minimum(recipe.average, (step + 1.0) / (step + 10.0))
        average = jax.tree.map(lambda a, now: now + keep * (a - now), average, params)
        return params, average, state

    params = peer.init(seed)
    held = (params, params, optimiser.init(params))
    sampler = WindowSampler(tuple(training), recipe, seed)
    for step in range(steps):
        made = sampler.batch(step)
        batch = (made.images, made.action, made.valid, made.follows)
        held = update(held, jnp.float32(step), batch)
    return held[1]


def told_by(peer: Peer, params: Any, episodes: Sequence[EpisodeArrays]) -> list[Any]:
    """Return a peer's actions in each episode."""
    run = jax.jit(peer.run)
    told = []
    for episode in episodes:
        follows = np.arange(len(episode))[None] > 0
        told.append(np.asarray(run(params, (episode.images[None], follows))[0]))
    return told


def row_of(
    name: str, config: hope.HopeConfig, pair: Pair, seed: int, steps: int
) -> dict[str, Any]:
    """Return the figures of one model and seed."""
    training, held_out = pair
    recipe, begun = Recipe(), time.process_time()
    bare = attrs.evolve(config, action_levels=())
    if name == "hope":
        state, _ = seed_steps(bare, recipe, training, num_steps=steps, seed=seed)
        params = state.average
        told = [t.action for t in predict(params, bare, held_out)]
    else:
        peer = seer(bare, name)
        params = fitted(peer, training, recipe, seed, steps)
        told = told_by(peer, params, held_out)
    first = config.action[0]
    final = score(held_out, [drawn(config, action) for action in told])
    return {
        "model": name,
        "seed": seed,
        "parameters": scalars(params),
        "mae": round(final.mae[first], 4),
        "mae_before_levels": round(score(held_out, told).mae[first], 4),
        "sign_accuracy": final.sign_accuracy[first],
        "cpu_s": round(time.process_time() - begun, 1),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tub", type=Path)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS)
    asked = parser.parse_args()
    recipe = Recipe()
    with tempfile.TemporaryDirectory() as folder:
        import_recording(asked.tub, Path(folder))
        arrays = load_arrays(
            Path(folder),
            image_height=recipe.image_height,
            image_width=recipe.image_width,
        )
    share = whole_share(arrays, 0.2)
    pair = (share.training, share.held_out)
    config = hope.preset(
        "nano",
        image_height=recipe.image_height,
        image_width=recipe.image_width,
        action=arrays[0].action_names,
        action_levels=share.action_levels(),
    )
    for name, fit in (("mean", fit_mean), ("ridge", fit_ridge)):
        made: Any = fit(share.training)
        scores = score(share.held_out, [made.predict(e) for e in share.held_out])
        first = config.action[0]
        told = {"mae": scores.mae[first], "sign_accuracy": scores.sign_accuracy[first]}
        print(json.dumps({"model": name, **told}), flush=True)
    for name in asked.models:
        for seed in range(asked.seeds):
            print(json.dumps(row_of(name, config, pair, seed, asked.steps)), flush=True)


if __name__ == "__main__":
    main()
