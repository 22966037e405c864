"""Train an adapter on a few episodes: gradient steps on the adapter alone. Uses JAX."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import optax

from continuon.hope import Adapter, HopeConfig, attach_adapter
from continuon.learn.data import EpisodeArrays
from continuon.learn.finite import require_finite
from continuon.learn.losses import knobs_of, losses_of, parts
from continuon.learn.recipe import Recipe
from continuon.learn.windows import Batch, WindowSampler

__all__ = ["MidTask", "MidTraining", "Trainer", "mid_recipe", "train_adapter"]

_CLIP = 1.0


@attrs.frozen(kw_only=True, eq=False)
class MidTask:
    """What a trainer gets; every trainer sees the same windows for the same seed.

    Attributes:
        params: of the frozen network.
        adapter: to start from.
        recipe: windows, batch size, learning rate.
        max_steps: updates at most.
        go_on: asked before each update; False ends training early and in order, an
            error ends it with nothing.
    """

    params: Any
    config: HopeConfig
    adapter: Adapter
    episodes: tuple[EpisodeArrays, ...]
    recipe: Recipe
    max_steps: int
    seed: int
    go_on: Callable[[], bool]

    def batches(self) -> Any:
        """Yield the batch of each update that may be made."""
        sampler = WindowSampler(self.episodes, self.recipe, self.seed)
        for step in range(self.max_steps):
            if not self.go_on():
                return
            yield sampler.batch(step)


@attrs.frozen(kw_only=True, eq=False)
class MidTraining:
    """What a trainer made: the adapter, and the loss of each update."""

    adapter: Adapter
    losses: tuple[float, ...]


class Trainer(Protocol):
    """Anything that turns a task into an adapter."""

    def __call__(self, task: MidTask) -> MidTraining:
        """Train."""
        ...


def mid_recipe(config: HopeConfig, *, batch_size: int, learning_rate: float) -> Recipe:
    """Return the recipe of the Mid loop: windows of two chunks, light augmentation."""
    return attrs.evolve(
        Recipe().plain(),
        image_height=max(config.image_height, 1),
        image_width=max(config.image_width, 1),
        window=2 * config.chunk,
        batch_size=batch_size,
        learning_rate=learning_rate,
        shift_px=1,
        brightness=0.03,
        contrast=0.1,
    )


def train_adapter(task: MidTask) -> MidTraining:
    """Minimise the action error over the adapter: Adam, clipped, constant rate.

    Raises:
        DataError: E-LEARN-NAN-001, a loss is not finite.
    """
    adapter = jax.tree.map(jnp.asarray, task.adapter)
    state = optax.scale_by_adam().init(adapter)
    losses: list[float] = []
    for batch in task.batches():
        adapter, state, loss = _update(
            task.config,
            adapter,
            state,
            task.params,
            np.float32(task.recipe.learning_rate),
            *parts(batch),
        )
        losses.append(float(loss))
        require_finite(losses[-1], where=f"adapter, step {len(losses) - 1}")
    return MidTraining(adapter=jax.tree.map(np.asarray, adapter), losses=tuple(losses))


@partial(jax.jit, static_argnums=0)
def _update(
    config: HopeConfig, adapter: Any, state: Any, params: Any, rate: Any, *arrays: Any
) -> tuple[Any, Any, jax.Array]:
    batch = Batch(*arrays)
    knobs = knobs_of(Recipe(), 1)

    def loss_of(candidate: Any) -> jax.Array:
        return losses_of(
            attach_adapter(params, candidate), config, knobs, batch
        ).action_mae

    loss, slope = jax.value_and_grad(loss_of)(adapter)
    scale = jnp.minimum(1.0, _CLIP / jnp.maximum(optax.tree.norm(slope), 1e-12))
    change, state = optax.scale_by_adam().update(
        jax.tree.map(lambda leaf: leaf * scale, slope), state
    )
    moved = jax.tree.map(lambda leaf, step: leaf - rate * step, adapter, change)
    return moved, state, loss
