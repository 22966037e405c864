"""Two guards against forgetting that the literature has: elastic weights, and replay.

EWC (Kirkpatrick et al., arXiv 1612.00796): a squared pull to the old parameters, each
weighed by the diagonal of the Fisher information on the old data. Replay (Rolnick et
al., arXiv 1811.11682 for reinforcement learning): old data in every update.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from continuon._specs.learn.drift_models import Model
from continuon._specs.learn.drift_train import Rows, collect, imitation
from continuon._specs.learn.drift_world import World

EPISODES, TICKS = 16, 128


def old_data(world: World, model: Model, params: Any, seed: int) -> Rows:
    """Return training episodes [EPISODES, TICKS, ...] with the expert's labels."""
    key = jax.random.key(seed)
    return collect(world, model, params, key, batch=EPISODES, ticks=TICKS)


def fisher(model: Model, params: Any, rows: Rows) -> Any:
    """Return the mean over episodes of the squared slope, scaled to a mean of 1.

    The scale makes one penalty weight mean the same for networks of any kind.
    """

    def slope(row: Rows) -> Any:
        one = jax.tree.map(lambda leaf: leaf[None], row)
        return jax.grad(lambda p: imitation(model, p, one))(params)

    def add(total: Any, row: Rows) -> Any:
        squared = jax.tree.map(lambda t, g: t + g * g, total, slope(row))
        return squared, None

    start = jax.tree.map(jnp.zeros_like, params)
    total = jax.lax.scan(add, start, rows)[0]
    leaves = jax.tree.leaves(total)
    mean = sum(jnp.sum(leaf) for leaf in leaves) / sum(leaf.size for leaf in leaves)
    return jax.tree.map(lambda leaf: leaf / jnp.maximum(mean, 1e-30), total)


def elastic(params: Any, old: Any, weights: Any) -> Any:
    """Return half the weighted squared distance from the old parameters, a scalar."""
    parts = jax.tree.map(
        lambda p, o, w: jnp.sum(w * (p - o) ** 2), params, old, weights
    )
    return 0.5 * sum(jax.tree.leaves(parts))
