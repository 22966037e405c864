"""One tick as the log keeps it."""

from __future__ import annotations

from typing import Any

import numpy as np

from continuon.robot.kernel import Reason
from continuon.robot.loop import Tick
from continuon.robot.pilots import Intent
from continuon.robot.ticklog import (
    EXECUTING,
    FRESH,
    NON_FINITE,
    POLICY_FAILED,
    SWAPPED,
)

__all__ = ["row_of"]


def row_of(
    tick: Tick, lateness_ns: int, *, policy: int, swapped: bool, failed: bool
) -> dict[str, Any]:
    """Return the fields of a row that are known when a tick ends.

    Args:
        tick: what happened.
        lateness_ns: after its deadline.
        policy: serial of the active policy, 0 for none.
        swapped: a policy took over at this tick.
        failed: the policy raised at this tick.
    """
    decision = tick.decision
    reasons = decision.reasons if decision else ()
    flags = FRESH if tick.frame is not None else 0
    flags |= SWAPPED if swapped else 0
    flags |= EXECUTING if tick.executing else 0
    flags |= NON_FINITE if _is_bad(tick.intent) or Reason.NON_FINITE in reasons else 0
    flags |= POLICY_FAILED if failed else 0
    return {
        "start_ns": tick.now_ns,
        "lateness_ns": lateness_ns,
        "policy_ns": tick.intent.policy_ns if tick.intent else 0,
        "policy": policy,
        "verdict": decision.verdict if decision else None,
        "flags": flags,
    }


def _is_bad(intent: Intent | None) -> bool:
    return intent is not None and not np.isfinite(intent.action).all()
