"""One step of gradient training, as pure functions over an explicit state. Uses JAX."""

from __future__ import annotations

from collections.abc import Callable
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

__all__ = [
    "Training",
    "as_leaves",
    "as_vector",
    "begun",
    "gradient_of",
    "make_update",
    "rate_of",
    "start",
]

Pack = Callable[[Any], Any]
"""How the optimiser holds the parameters: as one vector, or leaf by leaf."""


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


def rate_of(knobs: Knobs, step: jax.Array) -> jax.Array:
    """Return the learning rate of a step: linear warm-up, then a cosine."""
    done = (step - knobs.warm_steps) / jnp.maximum(
        knobs.num_steps - knobs.warm_steps, 1.0
    )
    fall = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(done, 0.0, 1.0)))
    cosine = knobs.final + (knobs.peak - knobs.final) * fall
    rise = knobs.peak * (step + 1.0) / knobs.warm_steps
    return jnp.where(step < knobs.warm_steps, rise, cosine)


def _masks(params: Any, pack: Pack) -> tuple[Any, Any]:
    """Return floats, packed: which scalars train, which of them decay (matrices)."""
    free = jax.tree.map(
        lambda leaf, may: np.full(leaf.shape, may, np.float32),
        params,
        trainable_mask(params),
    )
    decayed = jax.tree.map(
        lambda leaf, may: may * np.float32(leaf.ndim > 1), params, free
    )
    return pack(free), pack(decayed)


def as_vector(tree: Any) -> jax.Array:
    """Return all leaves as one vector: fewer operators than on fifty leaves."""
    return ravel_pytree(tree)[0]


def as_leaves(tree: Any) -> Any:
    """Return the tree: each leaf keeps the place that it has on a mesh."""
    return tree


def start(config: HopeConfig, seed: int, *, pack: Pack = as_vector) -> Training:
    """Return the state before the first step, from fresh parameters."""
    return begun(init(seed, config), pack=pack)


def begun(params: Any, *, pack: Pack = as_vector) -> Training:
    """Return the state before the first step, from a copy of these parameters."""
    params = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params)
    optimiser = optax.scale_by_adam().init(
        pack(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), params))
    )
    average = jax.tree.map(lambda leaf: jnp.asarray(np.array(leaf)), params)
    return Training(jnp.zeros((), jnp.int32), params, average, optimiser)


def make_update(
    config: HopeConfig,
    recipe: Recipe,
    num_steps: int,
    *,
    pack: Pack = as_vector,
    shardings: Training | None = None,
) -> Callable[[Training, Batch], tuple[Training, Losses]]:
    """Return the compiled update; it consumes its state.

    It is compiled once for a config, a shape of batch and a number of its parts,
    whatever the rest of the recipe.

    Args:
        config: of the network.
        recipe: how to train.
        num_steps: of the whole run, for the learning rate's course.
        pack: what the optimiser's state is a pytree of; as in `start`.
        shardings: where the state lies on a mesh and is left again.
    """
    knobs = knobs_of(recipe, num_steps)
    kind = _Kind(config, recipe.accumulate, recipe.products, pack)
    masks: list[tuple[Any, Any]] = []
    compiled = _update
    if shardings is not None:
        compiled = jax.jit(
            _moved,
            static_argnums=0,
            donate_argnums=1,
            out_shardings=(shardings, None),
        )

    def call(state: Training, batch: Batch) -> tuple[Training, Losses]:
        if not masks:
            masks.append(_masks(state.params, pack))
        moved: tuple[Training, Losses]
        moved = compiled(kind, state, masks[0], knobs, *parts(batch))
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
    summed, _ = jax.lax.scan(add, none, jax.tree.map(cut, parts(batch)))
    return summed


class _Kind(NamedTuple):
    """What an update is compiled for, beside the shapes."""

    config: HopeConfig
    accumulate: int
    products: str
    pack: Pack


def _moved(
    kind: _Kind, state: Training, masks: Any, knobs: Knobs, *arrays: Any
) -> tuple[Training, Losses]:
    """AdamW (Loshchilov & Hutter 2019) with a clipped global norm."""
    batch, pack = Batch(*arrays), kind.pack
    with jax.default_matmul_precision(kind.products):
        gradient, losses = gradient_of(
            state.params, kind.config, knobs, batch, kind.accumulate
        )
    free, decayed = masks
    old, restore = pack(state.params), _unpack(state.params, pack)
    slope = jax.tree.map(jnp.multiply, pack(gradient), free)
    norm = optax.tree.norm(slope)
    kept = jnp.minimum(1.0, knobs.clip_norm / jnp.maximum(norm, 1e-12))
    slope = jax.tree.map(lambda leaf: leaf * kept, slope)
    change, optimiser = optax.scale_by_adam().update(slope, state.optimiser)
    rate = rate_of(knobs, state.step)
    new = jax.tree.map(
        lambda was, move, may, shrinks: (
            was - rate * (may * move + knobs.weight_decay * shrinks * was)
        ),
        old,
        change,
        free,
        decayed,
    )
    step = state.step + 1
    keep = jnp.minimum(knobs.average, step / (step + 9.0))
    average = jax.tree.map(
        lambda now, mean: now + keep * (mean - now), new, pack(state.average)
    )
    return Training(step, restore(new), restore(average), optimiser), losses


def _unpack(like: Any, pack: Pack) -> Pack:
    return ravel_pytree(like)[1] if pack is as_vector else as_leaves


_update = jax.jit(_moved, static_argnums=0, donate_argnums=1)
