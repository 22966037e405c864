"""A loss that is not finite ends training: nothing later is to be trusted."""

from __future__ import annotations

import math

from continuon.errors import DataError

__all__ = ["require_finite"]


def require_finite(*losses: float, where: str) -> None:
    """Check losses.

    Raises:
        DataError: E-LEARN-NAN-001, one is not finite.
    """
    for loss in losses:
        if not math.isfinite(loss):
            raise DataError(
                "E-LEARN-NAN-001",
                "the loss is not finite",
                where=where,
                seen=loss,
                hint="lower the learning rate; `continuon episodes validate`",
            )
