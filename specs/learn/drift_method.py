"""How a robot learns while it lives: its method, what it begins with, its examples."""

from __future__ import annotations

from typing import Any, NamedTuple

import attrs
import jax.numpy as jnp

from continuon._specs.learn.drift_life import Seen
from continuon._specs.learn.drift_train import Rows

WARM = 16
"""Ticks at a window's beginning that are not scored: its state starts fresh."""


@attrs.frozen(kw_only=True)
class Method:
    """How a robot learns while it lives.

    Attributes:
        name: in tables.
        lora: of which parameters: a bounded adapter of rank 4, or all.
        rate: of Adam.
        gated: only while surprised.
        judged: a candidate must pass on held-out ticks, and is taken back if the robot
            then does worse.
        pull: weight of EWC's penalty; 0 is none.
        replay: share of each update that is of old data; for all parameters only.
    """

    name: str
    lora: bool
    rate: float
    gated: bool = False
    judged: bool = False
    pull: float = 0.0
    replay: float = 0.0


class Knobs(NamedTuple):
    """A method's numbers, traced: one program serves many methods."""

    rate: Any
    gated: Any
    judged: Any
    pull: Any
    replay: Any


class Base(NamedTuple):
    """What was trained: parameters, their Fisher weights, old episodes, surprise."""

    params: Any
    weights: Any
    old: Rows
    level: Any


class Count(NamedTuple):
    """Sums over rounds of what happened to candidates.

    Attributes:
        tried, refused, promoted: by the gates.
        worse: promoted, and in the next round truly worse (by 5 %) than what they
            replaced would have been from the same state with the same noise.
        back: taken back by the rule, which knows only the robot's own error.
        back_wrongly: of those, the ones that were not worse.
    """

    tried: Any
    refused: Any
    promoted: Any
    worse: Any
    back: Any
    back_wrongly: Any


def hindsight(recent: Seen) -> Rows:
    """Return what was done as examples: no error from where to be, the rate that came.

    `recent` [1, T]; the result is one tick shorter.
    """
    moved = recent.senses[..., -2:]
    came = 0.5 * (moved[:, 1:] + moved[:, :-1])
    senses = recent.senses[:, :-1].at[..., 2:4].set(0.0).at[..., 4:6].set(came)
    return Rows(
        senses, recent.previous[:, :-1], recent.action[:, :-1], recent.distance[:, :-1]
    )


def hindsight_loss(told: tuple[Any, Any], rows: Rows) -> Any:
    """Return the loss of actions and expectations that a model told, state fresh."""
    action, ahead = told
    error = jnp.mean(jnp.abs(action - rows.label)[:, WARM:])
    # the place and the rate sensor alone: where to be was made up
    expected = jnp.concatenate([ahead[..., :2], ahead[..., -2:]], -1)
    came = jnp.concatenate([rows.senses[..., :2], rows.senses[..., -2:]], -1)
    ahead_error = jnp.mean((expected[:, WARM:-1] - came[:, WARM + 1 :]) ** 2)
    return error + 0.1 * ahead_error
