"""The rig that a run was asked for, opened; a sim is never taken for a robot."""

from __future__ import annotations

import time
from typing import cast

from continuon.pipeline.context import Context
from continuon.pipeline.origins import learns_from_import
from continuon.rig.protocols import Rig

__all__ = ["open_rig", "rig_input"]


def open_rig(context: Context) -> Rig:
    """Open the rig of this run.

    Raises:
        HardwareError: the Pi's devices do not answer.
    """
    if context.rig == "pi":
        from continuon.rig.pi import PiRig

        return cast("Rig", PiRig())
    from continuon.sim import SimRig

    return cast("Rig", SimRig(seed=context.seed))


def rig_input(context: Context) -> str:
    """Return the rig as an input of a phase; a real one is measured on every run."""
    if context.rig == "pi":
        return f"pi at {time.time_ns()}"
    kind = "replayed" if learns_from_import(context) else "sim"
    return f"{kind} with seed {context.seed}"
