"""From a bundle's safety manifest to the limits that the kernel enforces."""

from __future__ import annotations

from continuon.bundle.safety import CAR_BASE_RULES, SafetyManifest, merge_safety
from continuon.errors import ContractError
from continuon.robot.kernel import UNLIMITED_PER_S, SafetyLimits

__all__ = ["CAR_ACTION", "car_limits", "limits_from_manifest"]

CAR_ACTION = ("steering", "throttle")
STOP_WITHIN_NS = 450_000_000
"""From the last good frame to the kernel's stop; loop and guard add up to 25 ms, and in
half a second the outputs are off."""

_SPEED = "speed_mps"


def limits_from_manifest(
    manifest: SafetyManifest,
    *,
    action_names: tuple[str, ...],
    state_names: tuple[str, ...],
    neutral: tuple[float, ...] | None = None,
) -> SafetyLimits:
    """Return the limits for a robot with these action and state channels.

    A speed limit on a robot that cannot measure speed is named in `unenforced`.

    Raises:
        ContractError: E-ROBOT-KERNEL-002, the manifest bounds a channel too few.
    """
    channels = [manifest.channel(name) for name in action_names]
    missing = [n for n, c in zip(action_names, channels, strict=True) if c is None]
    if missing:
        raise ContractError(
            "E-ROBOT-KERNEL-002",
            "the safety manifest does not bound every action channel",
            seen=", ".join(missing),
            allowed="a limit for each of " + ", ".join(action_names),
        )
    bounds = [channel for channel in channels if channel is not None]
    unenforced = []
    hold_ns = min(round(manifest.heartbeat_timeout_ms * 1e6), STOP_WITHIN_NS // 2)
    if manifest.max_speed_mps is not None and _SPEED not in state_names:
        unenforced.append("max_speed_mps")
    if manifest.max_force_n is not None:
        unenforced.append("max_force_n")
    return SafetyLimits(
        names=action_names,
        low=[bound.min for bound in bounds],
        high=[bound.max for bound in bounds],
        max_rate_per_s=[bound.max_rate_per_s or UNLIMITED_PER_S for bound in bounds],
        neutral=neutral or (0.0,) * len(action_names),
        max_observation_age_ns=min(
            round(manifest.max_observation_age_ms * 1e6), STOP_WITHIN_NS - hold_ns
        ),
        max_hold_ns=hold_ns,
        throttle=action_names.index("throttle") if "throttle" in action_names else None,
        max_speed_mps=manifest.max_speed_mps if _SPEED in state_names else None,
        unenforced=tuple(unenforced),
    )


def car_limits(
    *,
    manifest: SafetyManifest | None = None,
    state_names: tuple[str, ...] = (_SPEED,),
) -> SafetyLimits:
    """Return the base rules of the desk-sized car, tightened by a bundle's manifest.

    Raises:
        TrustError: the manifest and the base rules leave no legal value.
    """
    rules = merge_safety(CAR_BASE_RULES, manifest) if manifest else CAR_BASE_RULES
    return limits_from_manifest(rules, action_names=CAR_ACTION, state_names=state_names)
