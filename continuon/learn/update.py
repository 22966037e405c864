"""One step of gradient training, as pure functions over an explicit state. Uses JAX."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from continuon.hope import HopeConfig, init, init_state, sequence, trainable_mask
from continuon.learn.recipe import Recipe
from continuon.learn.windows import Batch

__all__ = [
    "Losses",
    "Training",
    "losses_of",
    "make_update",
    "observe",
    "parts",
    "start",
]


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
    """Return the observation that the config names; never the action to predict."""
    sources = {"image": batch.images, "proprio": batch.proprio}
    return {
        name: sources[name] if name in sources else _previous(batch)
        for name in config.observation_names
    }


def parts(batch: Batch) -> tuple[Any, ...]:
    """Return the arrays of a batch in the order of `Batch`, for jit."""
    return (batch.images, batch.proprio, batch.action, batch.valid, batch.follows)


def _previous(batch: Batch) -> Any:
    """Return a[t-1], zero at the first tick of a window."""
    return jnp.pad(batch.action[:, :-1], ((0, 0), (1, 0), (0, 0)))


def losses_of(params: Any, config: HopeConfig, recipe: Recipe, batch: Batch) -> Losses:
    """Return the losses of a batch, each window from a reset state."""
    state = init_state(config, batch.images.shape[0])
    _, out = sequence(params, config, state, observe(config, batch))
    weight = batch.valid.astype(jnp.float32)[..., None]
    count = jnp.maximum(weight.sum() * out.action.shape[-1], 1.0)
    error = (out.action - batch.action) * weight
    mae, mse = jnp.abs(error).sum() / count, (error * error).sum() / count
    later = weight[:, 1:] * weight[:, :-1] * batch.follows[:, 1:, None]
    ahead = (out.prediction[:, :-1] - out.latent[:, 1:]) * later
    latents = jnp.maximum(later.sum() * ahead.shape[-1], 1.0)
    prediction = (ahead * ahead).sum() / latents
    total = mae + recipe.prediction_weight * prediction
    total = total + recipe.sparsity_lambda * jnp.mean(out.write_strength)
    return Losses(total, mae, mse, prediction)


def _optimiser(recipe: Recipe, num_steps: int, params: Any) -> Any:
    schedule = optax.warmup_cosine_decay_schedule(
        0.0,
        recipe.learning_rate,
        max(1, round(num_steps * recipe.warmup)),
        max(2, num_steps),
        recipe.learning_rate * recipe.final_learning_rate,
    )
    decayed = jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    free = optax.chain(
        optax.clip_by_global_norm(recipe.clip_norm),
        optax.adamw(schedule, weight_decay=recipe.weight_decay, mask=decayed),
    )
    frozen = jax.tree.map(lambda free: not free, trainable_mask(params))
    return optax.chain(
        optax.masked(optax.set_to_zero(), frozen),
        free,
        optax.masked(optax.set_to_zero(), frozen),
    )


def start(config: HopeConfig, recipe: Recipe, num_steps: int, seed: int) -> Training:
    """Return the state before the first step."""
    params = init(seed, config)
    optimiser = _optimiser(recipe, num_steps, params).init(params)
    average = jax.tree.map(jnp.copy, params)
    return Training(jnp.zeros((), jnp.int32), params, average, optimiser)


@lru_cache(maxsize=8)
def make_update(
    config: HopeConfig, recipe: Recipe, num_steps: int
) -> Callable[[Training, Batch], tuple[Training, Losses]]:
    """Return the jitted update, one for equal settings; it consumes its state."""

    def update(state: Training, batch: Batch) -> tuple[Training, Losses]:
        def scalar(params: Any) -> tuple[jax.Array, Losses]:
            losses = losses_of(params, config, recipe, batch)
            return losses.total, losses

        gradient, losses = jax.grad(scalar, has_aux=True)(state.params)
        optimiser = _optimiser(recipe, num_steps, state.params)
        change, opt = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, change)
        step = state.step + 1
        keep = jnp.minimum(recipe.average, step / (step + 9.0))
        average = jax.tree.map(
            lambda old, new: keep * old + (1.0 - keep) * new, state.average, params
        )
        return Training(step, params, average, opt), losses

    jitted = jax.jit(
        lambda state, *arrays: update(state, Batch(*arrays)), donate_argnums=0
    )

    def call(state: Training, batch: Batch) -> tuple[Training, Losses]:
        moved: tuple[Training, Losses] = jitted(state, *parts(batch))
        return moved

    return call
