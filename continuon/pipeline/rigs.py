"""The rig that a run was asked for, opened; a sim is never taken for a robot."""

from __future__ import annotations

from typing import cast

from continuon.pipeline.context import Context
from continuon.rig.protocols import Rig

__all__ = ["open_rig"]


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
