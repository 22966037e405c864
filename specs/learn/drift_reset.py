"""A policy that begins anew when its error lasts: the remedy for a state in ruins.

A state that writes itself can be left where nothing brings it back. The rule knows only
what the robot senses; the parameters stay.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from continuon._specs.learn.drift_models import Model

LASTS, LIMIT_M, REST = 64, 0.5, 128
"""Ticks over which the sensed error is averaged, the average that is too much, and the
ticks that a fresh state is given."""


def watched(model: Model) -> Model:
    """Return the policy with the rule around it, for the point's senses.

    The count of ticks goes on: it belongs to all robots of a batch.
    """

    def start(batch: int) -> Any:
        zero = jnp.zeros(batch)
        return {
            "own": model.start(batch),
            "error": zero,
            "rest": jnp.full(batch, REST),
            "resets": zero,
        }

    def step(params: Any, state: Any, senses: Any, previous: Any) -> Any:
        off = jnp.linalg.norm(senses[:, 2:4], axis=-1) / 3.0
        error = state["error"] + (off - state["error"]) / LASTS
        again = (error > LIMIT_M) & (state["rest"] == 0)
        fresh = model.start(len(senses))

        def chosen(new: Any, held: Any) -> Any:
            if held.ndim == 0:
                return held
            return jnp.where(again.reshape(-1, *[1] * (held.ndim - 1)), new, held)

        own = jax.tree.map(chosen, fresh, state["own"])
        own, action, ahead = model.step(params, own, senses, previous)
        held = {
            "own": own,
            "error": jnp.where(again, 0.0, error),
            "rest": jnp.where(again, REST, jnp.maximum(state["rest"] - 1, 0)),
            "resets": state["resets"] + again,
        }
        return held, action, ahead

    return model._replace(start=start, step=step)
