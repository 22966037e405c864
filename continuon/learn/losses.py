"""What a policy is trained to lower, as pure functions of a batch. Uses JAX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import numpy as np

from continuon.errors import ContractError
from continuon.hope import HopeConfig, init_state, sequence
from continuon.learn.recipe import Recipe
from continuon.learn.windows import Batch

__all__ = [
    "Counts",
    "Knobs",
    "Losses",
    "counts_of",
    "knobs_of",
    "losses_of",
    "observe",
    "parts",
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


def observe(config: HopeConfig, batch: Batch) -> dict[str, Any]:
    """Return the observation that the config names; never the action to predict.

    Raises:
        ContractError: E-LEARN-SENSE-001, the episodes were not read for such an input.
    """
    sources = {
        "image": batch.images,
        "proprio": batch.proprio,
        "previous_action": _previous(batch),
        **batch.extra,
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
    main = (batch.images, batch.proprio, batch.action, batch.valid, batch.follows)
    return (*main, batch.extra)


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
    The action is judged before it is drawn to the levels of the config.
    """
    config = attrs.evolve(config, action_levels=())
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
