"""Train for a while and remember what was seen: the loop that every phase shares.

Uses JAX. The loop owns no files and no clocks but the one it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import jax
import numpy as np

from continuon.clock import Clock, SystemClock
from continuon.hope import HopeConfig
from continuon.learn.data import EpisodeArrays
from continuon.learn.finite import require_finite
from continuon.learn.recipe import Recipe
from continuon.learn.update import (
    Training,
    make_update,
    start,
)
from continuon.learn.windows import Batch, Sampler, WindowSampler

__all__ = ["LossRow", "fixed_loss", "max_parameter_delta", "run_steps", "seed_steps"]


@attrs.frozen
class LossRow:
    """The losses of one update, measured before it; `elapsed_s` since the first."""

    step: int
    loss: float
    action_mae: float
    action_mse: float
    prediction_mse: float
    elapsed_s: float

    @property
    def finite(self) -> bool:
        """Whether every loss is a finite number."""
        values = (self.loss, self.action_mae, self.action_mse, self.prediction_mse)
        return bool(np.isfinite(values).all())


Hook = Callable[[Training, LossRow], None]


def run_steps(
    state: Training,
    update: Callable[[Training, Batch], tuple[Training, Any]],
    sampler: Sampler,
    *,
    until: int,
    hook: Hook | None = None,
    place: Callable[[Batch], Batch] = lambda batch: batch,
    clock: Clock | None = None,
) -> tuple[Training, tuple[LossRow, ...]]:
    """Update from `state.step` until step `until`.

    The next batch is made while the device computes, so a row is seen one step late.

    Args:
        state: consumed.
        update: from `make_update`.
        sampler: gives batch k for step k.
        until: steps in all, not steps more.
        hook: called after each update with the new state and its row.
        place: puts a batch on devices.
        clock: for `elapsed_s`.

    Raises:
        DataError: E-LEARN-NAN-001, a loss is not finite; nothing later is trusted.
    """
    clock = clock or SystemClock()
    begun = clock.monotonic_ns()
    rows: list[LossRow] = []
    step = int(state.step)
    batch = sampler.batch(step) if step < until else None
    while batch is not None:
        state, losses = update(state, place(batch))
        batch = sampler.batch(step + 1) if step + 1 < until else None
        total, mae, mse, prediction = (float(value) for value in losses)
        elapsed = (clock.monotonic_ns() - begun) / 1e9
        row = LossRow(step, total, mae, mse, prediction, elapsed)
        require_finite(total, mae, mse, prediction, where=f"step {step}")
        rows.append(row)
        if hook is not None:
            hook(state, row)
        step += 1
    return state, tuple(rows)


def seed_steps(
    config: HopeConfig,
    recipe: Recipe,
    episodes: Sequence[EpisodeArrays],
    *,
    num_steps: int,
    seed: int,
) -> tuple[Training, tuple[LossRow, ...]]:
    """Train from fresh parameters."""
    update = make_update(config, recipe, num_steps)
    sampler = WindowSampler(tuple(episodes), recipe, seed)
    return run_steps(start(config, seed), update, sampler, until=num_steps)


def fixed_loss(
    state: Training,
    update: Callable[[Training, Batch], tuple[Training, Any]],
    batch: Batch,
) -> float:
    """Return the total loss of one batch; the state stays as it is.

    The compiled update tells the loss before it moves: nothing else is compiled.
    """
    copy = jax.tree.map(lambda leaf: jax.numpy.array(leaf, copy=True), state)
    return float(update(copy, batch)[1].total)


def max_parameter_delta(before: Any, after: Any) -> dict[str, float]:
    """Return the largest absolute change of each parameter, by its path."""
    from continuon.hope.checkpoint import flatten

    old, new = flatten(before), flatten(after)
    return {name: float(np.abs(new[name] - old[name]).max()) for name in old}
