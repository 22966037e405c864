"""Three rules around learning on the robot; each refuses where a number is not finite.

Learn only while surprised; use a candidate only if it is better on ticks that it was
not trained on and moves the actions little; take it back if the robot then does worse.
All take scalars or arrays and give booleans; JAX and numpy alike.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from continuon.learn.mid_gate import GateLimits

SURPRISE_FACTOR = 4.0
MAX_ACTION_DELTA = GateLimits().max_action_delta
WORSE_FACTOR, WORSE_MARGIN = 1.2, 0.005
REST_ROUNDS = 2


class Evidence(NamedTuple):
    """Of a candidate on held-out ticks.

    before, after: mean absolute error of the actions with what is in use and with the
    candidate; delta: how far it moves them on average.
    """

    before: Any
    after: Any
    delta: Any


def surprised(surprise: Any, level: Any) -> Any:
    """Tell whether predictions fail by more than `SURPRISE_FACTOR` of what is usual.

    A surprise that is not a number is no reason to learn: there is nothing to learn
    from.
    """
    return surprise > SURPRISE_FACTOR * level


def passes(evidence: Evidence) -> Any:
    """Tell whether a candidate may be used; NaN refuses."""
    better = evidence.after < evidence.before
    return better & (evidence.delta <= MAX_ACTION_DELTA)


def must_go(before: Any, now: Any) -> Any:
    """Tell whether a promoted candidate is to be taken back.

    Args:
        before: the robot's own mean error in the round before the promotion.
        now: in the round after. NaN takes it back.
    """
    good = now <= WORSE_FACTOR * before + WORSE_MARGIN
    return good == False  # noqa: E712 - an array, so `not` will not do
