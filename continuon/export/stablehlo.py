"""The step as a portable, versioned StableHLO artifact (`jax.export`)."""

from __future__ import annotations

import jax
import numpy as np
from jax import export

from continuon.export.lowering import Lowered, rollout

__all__ = ["PLATFORMS", "stablehlo_rollout", "to_stablehlo"]

PLATFORMS = ("cpu", "tpu", "cuda")


def to_stablehlo(lowered: Lowered) -> bytes:
    """Return serialised StableHLO with the parameters inside, for `PLATFORMS`."""
    jitted = jax.jit(lowered.function, keep_unused=True)
    exported = export.export(jitted, platforms=PLATFORMS)(*lowered.specs())
    return bytes(exported.serialize())


def stablehlo_rollout(
    data: bytes, lowered: Lowered, observations: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Run the serialised artifact over observations, as `rollout` does."""
    call = export.deserialize(bytearray(data)).call
    return rollout(Lowered(call, lowered.inputs, lowered.outputs), observations)
