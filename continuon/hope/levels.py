"""Actions of a teacher who knows only -1, 0 and 1: what is told is drawn to these.

Somebody who steers with keys is either straight or at full lock. A network that is not
sure when the key will go down tells something between, which is off at either answer.
Drawing it to the nearer level by Perlin's curve (Improving Noise, 2002)

    a^3 (10 - 15 |a| + 6 a^2)

leaves -1, -1/2, 0, 1/2 and 1 where they are and has no step. It is no part of the loss:
what is learnt stays how likely each level is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from continuon.hope.config import HopeConfig

__all__ = ["drawn"]


def drawn(config: HopeConfig, action: Any) -> Any:
    """Return the actions [..., A] in [-1, 1], those of `config.action_levels` drawn.

    Takes arrays of JAX and of numpy, and keeps their kind and dtype.
    """
    if not config.action_levels:
        return action
    square = action * action
    curve = action * square * (10.0 - 15.0 * abs(action) + 6.0 * square)
    moves = np.asarray(
        [name in config.action_levels for name in config.action], action.dtype
    )
    # rounding lifts the curve above 1 by some units in the last place
    return (action + (curve - action) * moves).clip(-1.0, 1.0)
