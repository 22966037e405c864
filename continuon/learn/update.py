"""One step of gradient training, as pure functions over an explicit state. Uses JAX."""

from __future__ import annotations

from collections.abc import Callable
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
    "Knobs",
    "Losses",
    "Training",
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


def losses_of(params: Any, config: HopeConfig, knobs: Knobs, batch: Batch) -> Losses:
    """Return the losses of a batch, each window from a reset state."""
    rows, ticks = batch.valid.shape
    state = init_state(config, rows)
    long = ticks > _MAX_STORED_TICKS
    seen = observe(config, batch)
    _, out = sequence(
        params, config, state, seen, follows=jnp.asarray(batch.follows), remat=long
    )
    weight = batch.valid.astype(jnp.float32)[..., None]
    count = jnp.maximum(weight.sum() * out.action.shape[-1], 1.0)
    error = (out.action - batch.action) * weight
    mae, mse = jnp.abs(error).sum() / count, (error * error).sum() / count
    later = weight[:, 1:] * weight[:, :-1] * batch.follows[:, 1:, None]
    ahead = (out.prediction[:, :-1] - out.latent[:, 1:]) * later
    latents = jnp.maximum(later.sum() * ahead.shape[-1], 1.0)
    prediction = (ahead * ahead).sum() / latents
    total = mae + knobs.squared_weight * mse + knobs.prediction_weight * prediction
    total = total + knobs.sparsity_lambda * jnp.mean(out.write_strength)
    if config.action_chunk > 1:
        total = total + _ahead(out.chunk, batch, knobs.squared_weight)
    return Losses(total, mae, mse, prediction)


def _ahead(chunk: jax.Array, batch: Batch, squared_weight: Any) -> jax.Array:
    """Return the loss of the actions told for later ticks, chunk [B, T, H, A].

    Only ticks that follow on from this one inside the window count: a window's end, an
    episode's end and scrambled ticks have no later action to be told.
    """
    action, valid = jnp.asarray(batch.action), jnp.asarray(batch.valid)
    linked = jnp.asarray(batch.follows)
    known, total, count = valid, jnp.zeros(()), jnp.zeros(())
    for ahead in range(1, chunk.shape[2]):
        rest = valid.shape[1] - ahead
        if rest < 1:
            break
        known = known[:, :rest] & valid[:, ahead:] & linked[:, ahead:]
        weight = known.astype(jnp.float32)[..., None]
        error = (chunk[:, :rest, ahead] - action[:, ahead:]) * weight
        total = total + jnp.sum(jnp.abs(error) + squared_weight * error * error)
        count = count + weight.sum() * action.shape[-1]
    return total / jnp.maximum(count, 1.0)


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

    It is compiled once for a config and a shape of batch, whatever the recipe.
    """
    knobs = knobs_of(recipe, num_steps)
    masks: list[tuple[Any, Any]] = []

    def call(state: Training, batch: Batch) -> tuple[Training, Losses]:
        if not masks:
            masks.append(_flat_masks(state.params))
        moved: tuple[Training, Losses]
        moved = _update(config, state, masks[0], knobs, *parts(batch))
        return moved

    return call


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _update(
    config: HopeConfig, state: Training, masks: Any, knobs: Knobs, *arrays: Any
) -> tuple[Training, Losses]:
    """AdamW on all parameters as one vector: fewer operators than on fifty leaves."""
    batch = Batch(*arrays)

    def scalar(params: Any) -> tuple[jax.Array, Losses]:
        losses = losses_of(params, config, knobs, batch)
        return losses.total, losses

    gradient, losses = jax.grad(scalar, has_aux=True)(state.params)
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
