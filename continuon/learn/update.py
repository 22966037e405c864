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

from continuon.hope import HopeConfig, init, trainable_mask
from continuon.learn.losses import (
    Knobs,
    Losses,
    counts_of,
    knobs_of,
    losses_of,
    parts,
)
from continuon.learn.recipe import Recipe
from continuon.learn.windows import Batch

__all__ = ["Training", "gradient_of", "make_update", "start"]


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
