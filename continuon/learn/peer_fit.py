"""Train a policy's peers on its own windows and score them on its held-out episodes.

A peer gets the same windows in the same order, the same loss of the action, the same
rate, weight decay, clipping and running mean, and as many updates. Uses JAX.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from continuon.errors import UsageError
from continuon.hope import HopeConfig
from continuon.hope.levels import drawn
from continuon.learn.data import EpisodeArrays
from continuon.learn.finite import require_finite
from continuon.learn.line import fit_line
from continuon.learn.line_start import Judged, judged, paced, parted, went
from continuon.learn.losses import knobs_of, observe
from continuon.learn.peers import Peer, beside_line, check_peers, peer_of, scalars
from continuon.learn.recipe import Recipe
from continuon.learn.scores import score
from continuon.learn.update import rate_of
from continuon.learn.windows import Batch, WindowSampler, cut, stack

__all__ = [
    "PeerPlan",
    "PeerScore",
    "answers_of",
    "fit_peer",
    "optimiser_of",
    "plan_of",
    "score_peers",
    "told_by",
]


@attrs.frozen(kw_only=True)
class PeerPlan:
    """Which peers are trained, and how: as the policy was.

    Attributes:
        names: of `continuon.learn.peers.PEERS`.
        recipe: of the policy; num_steps: its updates; seed: of parameters and windows.
    """

    names: tuple[str, ...]
    recipe: Recipe
    num_steps: int
    seed: int = 0


@attrs.frozen(kw_only=True)
class PeerScore:
    """One peer on the held-out episodes, by action component; see `Scores`."""

    mae: dict[str, float]
    sign_accuracy: dict[str, float | None]
    parameters: int
    steps: int
    seconds: float


def plan_of(metadata: Mapping[str, Any], names: tuple[str, ...]) -> PeerPlan:
    """Return the plan that a checkpoint's own training followed.

    Raises:
        UsageError: E-LEARN-PEER-004, the checkpoint does not say how it was trained.
    """
    try:
        recipe, steps = Recipe(**metadata["recipe"]), int(metadata["num_steps"])
        seed = int(metadata["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            "E-LEARN-PEER-004",
            "the checkpoint does not say how it was trained, so no peer can be alike",
            seen=", ".join(sorted(metadata)) or "no metadata",
            allowed="a checkpoint of `continuon train`",
            hint="evaluate without --peers, or train the policy anew and compare that",
        ) from error
    return PeerPlan(names=names, recipe=recipe, num_steps=steps, seed=seed)


def score_peers(
    config: HopeConfig,
    training: Sequence[EpisodeArrays],
    held_out: Sequence[EpisodeArrays],
    plan: PeerPlan,
) -> dict[str, PeerScore]:
    """Return the score of each peer of the plan, their actions drawn as the policy's.

    Raises:
        UsageError: E-LEARN-PEER-001, there is no such peer.
        DataError: E-LEARN-NAN-001, a loss is not finite.
    """
    check_peers(plan.names)
    scores = {}
    for name in plan.names:
        begun = time.monotonic()
        told, size, _ = answers_of(name, config, (training, held_out), plan)
        figures = score(held_out, [drawn(config, action) for action in told])
        scores[name] = PeerScore(
            mae=figures.mae,
            sign_accuracy=figures.sign_accuracy,
            parameters=size,
            steps=plan.num_steps,
            seconds=time.monotonic() - begun,
        )
    return scores


def answers_of(
    name: str,
    config: HopeConfig,
    pair: tuple[Sequence[EpisodeArrays], Sequence[EpisodeArrays]],
    plan: PeerPlan,
) -> tuple[list[NDArray[np.float32]], int, Judged | None]:
    """Return a peer's held-out actions, its parameters and what was kept of a line.

    Beside a policy that starts on a line it learns what is to be added to that line, at
    the policy's pace, and as much of it is kept as the same judges bear out.
    """
    training, held_out = pair
    peer, window = peer_of(config, name), plan.recipe.window
    if not config.straight_action:
        params = fit_peer(peer, config, training, plan)
        told = told_by(peer, params, config, held_out, window=window)
        return told, scalars(params), None
    own, judges = parted(training)
    plan = attrs.evolve(plan, recipe=paced(plan.recipe))
    first, last = (
        beside_line(peer, config, fit_line(part)) for part in (own, training)
    )
    start = first.init(plan.seed)
    params = fit_peer(first, config, own, plan)

    def asked(peer: Peer, moved: Any, episodes: Any) -> list[NDArray[np.float32]]:
        return told_by(peer, moved, config, episodes, window=window)

    def at(share: float) -> list[NDArray[np.float32]]:
        return asked(first, went(start, params, share), judges)

    verdict = judged(judges, at)
    if verdict.share:
        told = asked(first, went(start, params, verdict.share), held_out)
    else:
        told = asked(last, start, held_out)
    return told, scalars(params), verdict


def fit_peer(
    peer: Peer, config: HopeConfig, training: Sequence[EpisodeArrays], plan: PeerPlan
) -> Any:
    """Return the running mean of a peer's parameters after the plan's updates."""
    recipe, steps = plan.recipe, plan.num_steps
    optimiser = optimiser_of(recipe, steps)

    @jax.jit
    def update(held: Any, step: Any, arrays: Any) -> Any:
        params, average, state = held
        obs, follows, action, valid = arrays

        def loss_of(candidate: Any) -> Any:
            off = peer.decide(candidate, peer.sense(candidate, obs, follows)) - action
            weight = valid[..., None] / jnp.maximum(valid.sum() * off.shape[-1], 1.0)
            cost = jnp.abs(off) + recipe.squared_weight * off * off
            return jnp.sum(weight * cost)

        loss, slope = jax.value_and_grad(loss_of)(params)
        change, state = optimiser.update(slope, state, params)
        params = optax.apply_updates(params, change)
        keep = jnp.minimum(recipe.average, (step + 1.0) / (step + 10.0))
        average = jax.tree.map(lambda a, now: now + keep * (a - now), average, params)
        return (params, average, state), loss

    params = peer.init(plan.seed)
    held = (params, params, optimiser.init(params))
    sampler = WindowSampler(tuple(training), recipe, plan.seed)
    for step in range(steps):
        batch = sampler.batch(step)
        held, loss = update(held, np.float32(step), _arrays(config, batch))
        require_finite(float(loss), where=f"step {step}")
    return held[1]


def told_by(
    peer: Peer,
    params: Any,
    config: HopeConfig,
    episodes: Sequence[EpisodeArrays],
    *,
    window: int,
) -> list[NDArray[np.float32]]:
    """Return a peer's actions [T, A] in each episode.

    One that carries no state is asked at each tick about the last `window` ticks, as
    many as it was trained on.
    """
    sense, decide = jax.jit(peer.sense), jax.jit(peer.decide)
    longest = max(len(episode) for episode in episodes)
    told = []
    for episode in episodes:
        batch = stack([cut(episode, 0, longest)])
        obs, follows, _, _ = _arrays(config, batch)
        x = sense(params, obs, follows)
        actions = (
            decide(params, x)[0]
            if peer.carries
            else _by_windows(decide, params, x[0], window)
        )
        told.append(np.asarray(actions[: len(episode)], np.float32))
    return told


def _by_windows(decide: Any, params: Any, x: Any, window: int) -> Any:
    """Return actions [T, A] of x [T, d], each from the last ticks alone."""
    ticks = x.shape[0]
    first = decide(params, x[None, :window])[0]
    if ticks <= window:
        return first
    index = np.arange(1, ticks - window + 1)[:, None] + np.arange(window)
    return jnp.concatenate([first, decide(params, x[index])[:, -1]])


def _arrays(config: HopeConfig, batch: Batch) -> tuple[Any, ...]:
    """Return observations, follows, action and valid."""
    eyes = attrs.evolve(config, use_previous_action=False)
    return observe(eyes, batch), batch.follows, batch.action, batch.valid


def optimiser_of(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """Return what `continuon.learn.update` does, by optax; matrices alone decay."""
    knobs = knobs_of(recipe, steps)
    return optax.chain(
        optax.clip_by_global_norm(recipe.clip_norm),
        optax.adamw(
            partial(rate_of, knobs), weight_decay=recipe.weight_decay, mask=_decayed
        ),
    )


def _decayed(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
