"""How strongly the recurrent parts keep their state when nothing is sensed."""

from __future__ import annotations

import numpy as np

from continuon.hope.fast import MIN_DECAY
from continuon.hope.parameters import Params

__all__ = ["spectral_radius"]


def spectral_radius(params: Params) -> float:
    """Return the largest factor by which any state is multiplied per tick at rest.

    At rest (zero input) the gates stand at their biases: Fast keeps
    sigmoid(bias) e^-m, Mid keeps exp(-4 softplus(decay) - m), with m the least decay
    that the network adds. Slow levels keep 1 - leak per write. Below 1 for finite
    parameters; NaN if a parameter is not finite.
    """
    radii = []
    for block in params["blocks"].values():
        bias = np.asarray(block["fast"]["gates_bias"], np.float64)
        decay = bias[bias.size // 2 :]
        radii.append(np.exp(-MIN_DECAY) / (1.0 + np.exp(-decay)))
        free = np.asarray(block["mid"]["decay"], np.float64)
        rest = np.maximum(free, 0.0) + np.log1p(np.exp(-np.abs(free)))
        radii.append(np.exp(-4.0 * rest - MIN_DECAY))
        if "leak" in block["slow"]:
            leak = np.asarray(block["slow"]["leak"], np.float64)
            radii.append(1.0 / (1.0 + np.exp(leak)))
    return float(np.max(np.concatenate(radii)))
