"""One step of gradient training, as pure functions over an explicit state. Uses JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from continuon.errors import ContractError
from continuon.hope import HopeConfig, init, init_state, sequence, trainable_mask
from continuon.learn.recipe import Recipe
from continuon.learn.windows import Batch

__all__ = [
    "Counts",
    "Knobs",
    "Losses",
    "Training",
    "counts_of",
    "gradient_of",
    "knobs_of",
    "losses_of",
    "make_update",
    "observe",
    "parts",
    "start",
]

_MAX_STORED_TICKS = 64
"""Longer windows are computed again in the backward pass instead of stored."""


class Losses(NamedTuple):
    """Scalars of one batch.

    Attributes:
        total: what is minimised.
        action_mae: mean absolute action error, all components.
        action_mse: the same, squared.
        prediction_mse: of the next latent, before its weight.
    """

    total: jax.Array
    action_mae: jax.Array
    action_mse: jax.Array
    prediction_mse: jax.Array


class Training(NamedTuple):
    """All that changes while training: a resumed run needs nothing else.

    Attributes:
        step: int32 scalar, updates done.
        params: the parameters that gradients move.
        average: their running mean, which is what a checkpoint keeps.
        optimiser: optax state.
    """

    step: jax.Array
    params: Any
    average: Any
    optimiser: Any


def observe(config: HopeConfig, batch: Batch) -> dict[str, Any]:
    """Return the observation that the config names; never the action to predict.

    Raises:
        ContractError: E-LEARN-SENSE-001, recordings are not read for such an input.
    """
    sources = {
        "image": batch.images,
        "proprio": batch.proprio,
        "previous_action": _previous(batch),
    }
    unknown = sorted(set(config.observation_names) - set(sources))
    if unknown:
        raise ContractError(
            "E-LEARN-SENSE-001",
            "training from recordings does not feed all of the network's inputs",
            seen=", ".join(unknown),
            allowed=", ".join(sources),
        )
    return {name: sources[name] for name in config.observation_names}


def parts(batch: Batch) -> tuple[Any, ...]:
    """Return the arrays of a batch in the order of `Batch`, for jit."""
    return (batch.images, batch.proprio, batch.action, batch.valid, batch.follows)


def _previous(batch: Batch) -> Any:
    """Return a[t-1], zero at the first tick of a window."""
    return jnp.pad(batch.action[:, :-1], ((0, 0), (1, 0), (0, 0)))


class Knobs(NamedTuple):
    """The recipe's numbers as they enter the compiled step: they never recompile it."""

    peak: Any
    final: Any
    warm_steps: Any
    num_steps: Any
    weight_decay: Any
    clip_norm: Any
    average: Any
    squared_weight: Any
    prediction_weight: Any
    sparsity_lambda: Any


def knobs_of(recipe: Recipe, num_steps: int) -> Knobs:
    """Return float32 scalars."""
    values = (
        recipe.learning_rate,
        recipe.learning_rate * recipe.final_learning_rate,
        max(1, round(num_steps * recipe.warmup)),
        max(2, num_steps),
        recipe.weight_decay,
        recipe.clip_norm,
        recipe.average,
        recipe.squared_weight,
        recipe.prediction_weight,
        recipe.sparsity_lambda,
    )
    return Knobs(*(np.float32(value) for value in values))


class Counts(NamedTuple):
    """What the sums of a batch are divided by: numbers of scalars, and of windows."""

    action: Any
    latent: Any
    ahead: Any
    rows: Any


def counts_of(config: HopeConfig, batch: Batch) -> Counts:
    """Return the counts of a batch, each at least 1."""
    valid, follows = jnp.asarray(batch.valid), jnp.asarray(batch.follows)
    later = valid[:, 1:] & valid[:, :-1] & follows[:, 1:]
    width = batch.action.shape[-1]
    ahead = sum(known.sum() for known in _known_ahead(config.action_chunk, batch))
    return Counts(
        jnp.maximum(valid.sum() * float(width), 1.0),
        jnp.maximum(later.sum() * float(config.latent), 1.0),
        jnp.maximum(jnp.asarray(ahead) * float(width), 1.0),
        float(valid.shape[0]),
    )


def losses_of(
    params: Any,
    config: HopeConfig,
    knobs: Knobs,
    batch: Batch,
    counts: Counts | None = None,
) -> Losses:
    """Return the losses of a batch, each window from a reset state.

    With the `counts` of a larger batch they are this part's share of its losses: those
    of all parts add up to the losses of the whole, however its valid steps are spread.
    """
    counts = counts or counts_of(config, batch)
    rows, ticks = batch.valid.shape
    state = init_state(config, rows)
    long = ticks > _MAX_STORED_TICKS
    seen = observe(config, batch)
    _, out = sequence(
        params, config, state, seen, follows=jnp.asarray(batch.follows), remat=long
    )
    weight = batch.valid.astype(jnp.float32)[..., None]
    error = (out.action - batch.action) * weight
    mae = jnp.abs(error).sum() / counts.action
    mse = (error * error).sum() / counts.action
    later = weight[:, 1:] * weight[:, :-1] * batch.follows[:, 1:, None]
    ahead = (out.prediction[:, :-1] - out.latent[:, 1:]) * later
    prediction = (ahead * ahead).sum() / counts.latent
    total = mae + knobs.squared_weight * mse + knobs.prediction_weight * prediction
    share = rows / counts.rows
    total = total + knobs.sparsity_lambda * share * jnp.mean(out.write_strength)
    if config.action_chunk > 1:
        total = total + _ahead(out.chunk, batch, knobs.squared_weight) / counts.ahead
    return Losses(total, mae, mse, prediction)


def _known_ahead(action_chunk: int, batch: Batch) -> Iterator[Any]:
    """Yield for each tick ahead which ticks [B, T - ahead] have such a later one.

    Only ticks that follow on from this one inside the window count: a window's end, an
    episode's end and scrambled ticks have no later action to be told.
    """
    valid, linked = jnp.asarray(batch.valid), jnp.asarray(batch.follows)
    known = valid
    for ahead in range(1, min(action_chunk, valid.shape[1])):
        rest = valid.shape[1] - ahead
        known = known[:, :rest] & valid[:, ahead:] & linked[:, ahead:]
        yield known


def _ahead(chunk: jax.Array, batch: Batch, squared_weight: Any) -> jax.Array:
    """Return the summed loss of actions told for later ticks, chunk [B, T, H, A]."""
    action, total = jnp.asarray(batch.action), jnp.zeros(())
    for index, known in enumerate(_known_ahead(chunk.shape[2], batch), start=1):
        told = chunk[:, : known.shape[1], index]
        error = (told - action[:, index:]) * known.astype(jnp.float32)[..., None]
        total = total + jnp.sum(jnp.abs(error) + squared_weight * error * error)
    return total


def _rate(knobs: Knobs, step: jax.Array) -> jax.Array:
    """Return the learning rate of a step: linear warm-up, then a cosine."""
    done = (step - knobs.warm_steps) / jnp.maximum(
        knobs.num_steps - knobs.warm_steps, 1.0
    )
    fall = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(done, 0.0, 1.0)))
    cosine = knobs.final + (knobs.peak - knobs.final) * fall
    rise = knobs.peak * (step + 1.0) / knobs.warm_steps
    return jnp.where(step < knobs.warm_steps, rise, cosine)


def _flat_masks(params: Any) -> tuple[Any, Any]:
    """Return float vectors, one entry a scalar: trainable, and decayed (matrices)."""
    free = jax.tree.map(
        lambda leaf, may: np.full(leaf.shape, may, np.float32),
        params,
        trainable_mask(params),
    )
    decayed = jax.tree.map(
        lambda leaf, may: may * np.float32(leaf.ndim > 1), params, free
    )
    return (
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(free)]),
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(decayed)]),
    )


def start(config: HopeConfig, seed: int) -> Training:
    """Return the state before the first step."""
    params = init(seed, config)
    flat = np.zeros(sum(leaf.size for leaf in jax.tree.leaves(params)), np.float32)
    optimiser = optax.scale_by_adam().init(jnp.asarray(flat))
    average = jax.tree.map(lambda leaf: jnp.asarray(np.array(leaf)), params)
    return Training(jnp.zeros((), jnp.int32), params, average, optimiser)


def make_update(
    config: HopeConfig, recipe: Recipe, num_steps: int
) -> Callable[[Training, Batch], tuple[Training, Losses]]:
    """Return the compiled update; it consumes its state.

    It is compiled once for a config, a shape of batch and a number of its parts,
    whatever the rest of the recipe.
    """
    knobs = knobs_of(recipe, num_steps)
    masks: list[tuple[Any, Any]] = []

    def call(state: Training, batch: Batch) -> tuple[Training, Losses]:
        if not masks:
            masks.append(_flat_masks(state.params))
        moved: tuple[Training, Losses]
        moved = _update(
            config, recipe.accumulate, state, masks[0], knobs, *parts(batch)
        )
        return moved

    return call


def gradient_of(
    params: Any, config: HopeConfig, knobs: Knobs, batch: Batch, accumulate: int
) -> tuple[Any, Losses]:
    """Return the gradient of a batch's loss, its windows in `accumulate` parts."""
    counts = counts_of(config, batch)

    def of_part(arrays: tuple[Any, ...]) -> tuple[Any, Losses]:
        def scalar(candidate: Any) -> tuple[jax.Array, Losses]:
            part = Batch(*arrays)
            losses = losses_of(candidate, config, knobs, part, counts)
            return losses.total, losses

        slope: tuple[Any, Losses] = jax.grad(scalar, has_aux=True)(params)
        return slope

    if accumulate == 1:
        return of_part(parts(batch))

    rows = batch.valid.shape[0] // accumulate

    def cut(array: Any) -> Any:
        # every n-th window is one part: each part then lies on all devices
        array = jnp.asarray(array)
        return array.reshape((rows, accumulate, *array.shape[1:])).swapaxes(0, 1)

    def add(total: Any, arrays: tuple[Any, ...]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, of_part(arrays)), None

    zero = jnp.zeros(())
    none = (jax.tree.map(jnp.zeros_like, params), Losses(zero, zero, zero, zero))
    summed: tuple[Any, Losses]
    summed, _ = jax.lax.scan(add, none, tuple(cut(array) for array in parts(batch)))
    return summed


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _update(
    config: HopeConfig,
    accumulate: int,
    state: Training,
    masks: Any,
    knobs: Knobs,
    *arrays: Any,
) -> tuple[Training, Losses]:
    """AdamW on all parameters as one vector: fewer operators than on fifty leaves."""
    batch = Batch(*arrays)
    gradient, losses = gradient_of(state.params, config, knobs, batch, accumulate)
    free, decayed = masks
    old, restore = ravel_pytree(state.params)
    slope = ravel_pytree(gradient)[0] * free
    norm = jnp.sqrt(jnp.sum(slope * slope))
    slope = slope * jnp.minimum(1.0, knobs.clip_norm / jnp.maximum(norm, 1e-12))
    change, optimiser = optax.scale_by_adam().update(slope, state.optimiser)
    change = free * change + knobs.weight_decay * decayed * old
    new = old - _rate(knobs, state.step) * change
    step = state.step + 1
    keep = jnp.minimum(knobs.average, step / (step + 9.0))
    average = new + keep * (ravel_pytree(state.average)[0] - new)
    return Training(step, restore(new), restore(average), optimiser), losses
