"""Which safety manifests are legal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from continuon.bundle.manifest_shape import SAFETY_SCHEMA
from continuon.errors import ContractError

if TYPE_CHECKING:
    from continuon.bundle.safety import SafetyManifest

__all__ = ["check_safety"]

_MAX_CHANNELS = 64


def check_safety(
    safety: SafetyManifest, *, where: str = "safety.json"
) -> SafetyManifest:
    """Return the manifest if each bound is finite and leaves a legal value.

    Only its attributes are looked at.

    Raises:
        ContractError: E-BUNDLE-SAFE-001.
    """
    names = [item.name for item in safety.channels]
    bounds = [safety.heartbeat_timeout_ms, safety.max_observation_age_ms]
    bounds += [x for x in (safety.max_speed_mps, safety.max_force_n) if x is not None]
    rates = [item.max_rate_per_s for item in safety.channels]
    ok = (
        safety.schema == SAFETY_SCHEMA
        and safety.base_rule_version >= 1
        and 0 < len(names) <= _MAX_CHANNELS
        and names == sorted(set(names))
        and all(math.isfinite(bound) and bound > 0 for bound in bounds)
        and all(r is None or (math.isfinite(r) and r > 0) for r in rates)
        and all(
            math.isfinite(item.min) and math.isfinite(item.max) and item.min <= item.max
            for item in safety.channels
        )
    )
    if not ok:
        raise ContractError(
            "E-BUNDLE-SAFE-001",
            "the safety manifest holds a bound that is no bound",
            seen=safety,
            allowed=(
                f"schema {SAFETY_SCHEMA}, base rules from 1, channels sorted by name, "
                "each with finite min <= max; every other bound finite and above 0"
            ),
            where=where,
        )
    return safety
