"""The small depth picture that a policy sees, in training and on the robot alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError

__all__ = ["MAX_DEPTH_APART_NS", "policy_depth"]

MAX_DEPTH_APART_NS = 200_000_000
"""Depth that was taken further from its colour picture belongs to another one.

Such a step is neither learnt from nor acted on. It is far more than the streams of a
camera differ by, which is up to 18 ms and what the recording's checks look at.
"""


def policy_depth(
    counts: NDArray[np.uint16], *, height: int, width: int, unit_m: float
) -> NDArray[np.float32]:
    """Return the depth float32 [height, width] in metres, 0 where it is not known.

    Each pixel is the nearest of the camera's: a mean over an edge is a distance at
    which nothing is, and over pixels of which some are not known a wrong one. Nothing
    is clipped; the network itself sees no further than its config says.

    Args:
        counts: uint16 [rows, columns] as the camera gives them, 0 where not known.
        height: of the result; any ratio works, also enlarging.
        width: likewise.
        unit_m: metres of a count.

    Raises:
        ContractError: E-RLDS-DEPTH-020, these are no counts; -021, the size is not
            positive.
    """
    if counts.dtype.kind != "u" or counts.ndim != 2 or counts.size == 0:
        raise ContractError(
            "E-RLDS-DEPTH-020",
            "a policy sees depth of whole counts",
            seen=f"{counts.dtype} {counts.shape}",
            allowed="uint16 [height, width]",
            hint="decode the stream's pictures first, and keep their counts",
        )
    if height < 1 or width < 1:
        raise ContractError(
            "E-RLDS-DEPTH-021",
            "a depth picture has a positive size",
            seen=(height, width),
            allowed="1 or more rows and columns",
            hint="a policy without depth asks for none",
        )
    rows, columns = (
        (np.arange(n) * full + full // 2) // n
        for n, full in zip((height, width), counts.shape, strict=True)
    )
    return counts[np.ix_(rows, columns)] * np.float32(unit_m)
