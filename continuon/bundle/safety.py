"""Safety manifest: limits that a bundle brings along. Merging only ever tightens.

The device's own base rules are immutable; a bundle may add limits and narrow them. No
manifest, however signed, can widen what the base rules allow.
"""

from __future__ import annotations

from enum import StrEnum

import attrs

from continuon.bundle.canonical import canonical_json
from continuon.bundle.manifest_read import read_safety
from continuon.bundle.manifest_shape import SAFETY_SCHEMA
from continuon.bundle.safety_rules import check_safety
from continuon.bundle.structure import structure, unstructure
from continuon.errors import TrustError

__all__ = [
    "CAR_BASE_RULES",
    "ChannelLimit",
    "EStopAction",
    "SafetyManifest",
    "at_least_as_tight",
    "dump_safety",
    "merge_safety",
    "parse_safety",
]


class EStopAction(StrEnum):
    """What an emergency stop does to the outputs, mildest first."""

    NEUTRAL = "neutral"
    FULL_OFF = "full_off"


_STRICTNESS = {EStopAction.NEUTRAL: 0, EStopAction.FULL_OFF: 1}


@attrs.frozen(kw_only=True)
class ChannelLimit:
    """Bounds of one action channel in the action's own unit.

    `max_rate_per_s` bounds the change per second; None asks for no bound beyond the
    base rules'.
    """

    name: str
    min: float
    max: float
    max_rate_per_s: float | None = None


@attrs.frozen(kw_only=True)
class SafetyManifest:
    """All limits together. None always means "no bound beyond the base rules'".

    Attributes:
        base_rule_version: in the device's base rules, their version; in a bundle, the
            lowest version of base rules that it may run under.
        channels: limits per action channel, sorted by name.
        max_speed_mps: speed over ground.
        max_force_n: contact force.
        e_stop_action: what an emergency stop does.
        e_stop_latching: whether only a person may clear it.
        heartbeat_timeout_ms: silence of the control loop that stops the robot.
        max_observation_age_ms: older observations are not acted on.
    """

    schema: str = SAFETY_SCHEMA
    base_rule_version: int
    channels: tuple[ChannelLimit, ...]
    max_speed_mps: float | None = None
    max_force_n: float | None = None
    e_stop_action: EStopAction = EStopAction.FULL_OFF
    e_stop_latching: bool = True
    heartbeat_timeout_ms: float = 200.0
    max_observation_age_ms: float = 500.0

    def channel(self, name: str) -> ChannelLimit | None:
        """Return the limit of one channel, or None when it has none."""
        return next((item for item in self.channels if item.name == name), None)


CAR_BASE_RULES = SafetyManifest(
    base_rule_version=1,
    channels=(
        ChannelLimit(name="steering", min=-1.0, max=1.0, max_rate_per_s=20.0),
        ChannelLimit(name="throttle", min=-1.0, max=1.0, max_rate_per_s=10.0),
    ),
    max_speed_mps=3.0,
)
"""Base rules of the desk-sized car, used where a device has no own ones."""


def parse_safety(data: bytes, *, where: str = "safety.json") -> SafetyManifest:
    """Return the safety manifest that `data` spells.

    Raises:
        ContractError: E-BUNDLE-JSON-..., E-BUNDLE-MAN-001 or -002 for its shape,
            E-BUNDLE-SAFE-001 for a value out of range.
    """
    return structure(read_safety(data, where=where).plain, SafetyManifest, where=where)


def dump_safety(safety: SafetyManifest) -> bytes:
    """Return canonical bytes; same value, same bytes."""
    return canonical_json(unstructure(check_safety(safety)))


def merge_safety(base: SafetyManifest, manifest: SafetyManifest) -> SafetyManifest:
    """Return limits that are at least as tight as both.

    Raises:
        TrustError: E-BUNDLE-SAFE-002 if the bundle needs newer base rules than the
            device has, E-BUNDLE-SAFE-003 if no legal value is left on a channel.
    """
    if manifest.base_rule_version > base.base_rule_version:
        raise TrustError(
            "E-BUNDLE-SAFE-002",
            "the bundle needs newer base rules than this device has",
            seen=manifest.base_rule_version,
            allowed=f"at most {base.base_rule_version}",
            hint="update the robot's continuon package first",
        )
    names = sorted({item.name for item in (*base.channels, *manifest.channels)})
    return SafetyManifest(
        base_rule_version=base.base_rule_version,
        channels=tuple(
            _merge_channel(base.channel(name), manifest.channel(name)) for name in names
        ),
        max_speed_mps=_lower(base.max_speed_mps, manifest.max_speed_mps),
        max_force_n=_lower(base.max_force_n, manifest.max_force_n),
        e_stop_action=max(
            base.e_stop_action, manifest.e_stop_action, key=_STRICTNESS.__getitem__
        ),
        e_stop_latching=base.e_stop_latching or manifest.e_stop_latching,
        heartbeat_timeout_ms=min(
            base.heartbeat_timeout_ms, manifest.heartbeat_timeout_ms
        ),
        max_observation_age_ms=min(
            base.max_observation_age_ms, manifest.max_observation_age_ms
        ),
    )


def at_least_as_tight(safety: SafetyManifest, than: SafetyManifest) -> bool:
    """Return whether `safety` forbids everything that `than` forbids."""
    return (
        all(
            (mine := safety.channel(item.name)) is not None
            and mine.min >= item.min
            and mine.max <= item.max
            and _at_most(mine.max_rate_per_s, item.max_rate_per_s)
            for item in than.channels
        )
        and _at_most(safety.max_speed_mps, than.max_speed_mps)
        and _at_most(safety.max_force_n, than.max_force_n)
        and _STRICTNESS[safety.e_stop_action] >= _STRICTNESS[than.e_stop_action]
        and safety.e_stop_latching >= than.e_stop_latching
        and safety.heartbeat_timeout_ms <= than.heartbeat_timeout_ms
        and safety.max_observation_age_ms <= than.max_observation_age_ms
    )


def _merge_channel(one: ChannelLimit | None, two: ChannelLimit | None) -> ChannelLimit:
    if one is None or two is None:
        only = one or two
        assert only is not None
        return only
    low, high = max(one.min, two.min), min(one.max, two.max)
    if low > high:
        raise TrustError(
            "E-BUNDLE-SAFE-003",
            "bundle and base rules together leave no legal value",
            seen=f"{one.name}: [{two.min}, {two.max}]",
            allowed=f"something within [{one.min}, {one.max}]",
        )
    return ChannelLimit(
        name=one.name,
        min=low,
        max=high,
        max_rate_per_s=_lower(one.max_rate_per_s, two.max_rate_per_s),
    )


def _lower(one: float | None, two: float | None) -> float | None:
    bounds = [bound for bound in (one, two) if bound is not None]
    return min(bounds) if bounds else None


def _at_most(mine: float | None, other: float | None) -> bool:
    return other is None or (mine is not None and mine <= other)
