"""From a promoted adapter to the policy that drives: compile it, tell the service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from continuon.errors import HardwareError, UsageError
from continuon.home import Home

if TYPE_CHECKING:
    from continuon.clock import Clock
    from continuon.export.adapted import AdaptedReport
    from continuon.learn.mid_gate import ActionBounds
    from continuon.learn.mid_guard import MidGuard, MidLimits
    from continuon.robot.deployed import Deployed

__all__ = [
    "active_bundle",
    "base_weights",
    "car_bounds",
    "compile_adapter",
    "guard_here",
    "require_base_weights",
    "switch_running",
]

WEIGHTS = "policy.weights"
_SWITCH_TIMEOUT_S = 120.0
_BATTERY_AGE_NS = 10_000_000_000


def active_bundle(home: Home) -> Deployed | None:
    """Return the bundle that runs on this home, verified; None where there is none."""
    from continuon.bundle import load_public_key
    from continuon.ota import Updater
    from continuon.robot.deployed import TRUSTED_KEY, active_policy

    key = home.keys / TRUSTED_KEY
    if not key.exists():
        return None
    return active_policy(Updater(home.model, [load_public_key(key)]), state_names=())


def base_weights(home: Home) -> Path | None:
    """Return the parameters that the robot drives with, which an adapter must fit."""
    active = active_bundle(home)
    weights = None if active is None else active.directory / WEIGHTS
    return weights if weights is not None and weights.exists() else None


def require_base_weights(home: Home) -> Path:
    """Return the parameters that the robot drives with.

    Raises:
        UsageError: E-PIPE-ADAPTER-001, no bundle runs here.
    """
    weights = base_weights(home)
    if weights is None:
        raise _no_bundle(home)
    return weights


def guard_here(
    limits: MidLimits, *, clock: Clock, without: tuple[str, ...] = ()
) -> MidGuard:
    """Return a guard over this machine, its battery's gauge looked at now and then.

    Raises:
        UsageError: E-LEARN-MID-002, a waived name is no sensor.
    """
    from continuon.learn.mid_guard import MidGuard

    # A gauge shares its bus with the servo board, whose guard comes first.
    held: list[tuple[int, float | None]] = []

    def battery() -> float | None:
        now_ns = clock.monotonic_ns()
        if not held or now_ns - held[-1][0] > _BATTERY_AGE_NS:
            held[:] = [(now_ns, _battery())]
        return held[-1][1]

    return MidGuard.of(limits, clock=clock, battery=battery, waived=without)


def car_bounds() -> ActionBounds:
    """Return the base rules of the car as bounds of actions."""
    from continuon.bundle.safety import CAR_BASE_RULES
    from continuon.learn.mid_gate import ActionBounds

    rules = CAR_BASE_RULES.channels
    return ActionBounds(
        low=tuple(rule.min for rule in rules),
        high=tuple(rule.max for rule in rules),
        max_rate_per_s=tuple(rule.max_rate_per_s or float("inf") for rule in rules),
    )


def compile_adapter(home: Home) -> AdaptedReport:
    """Merge the adapter in use into the active bundle's policy, beside its slot.

    Raises:
        UsageError: E-PIPE-ADAPTER-001, no bundle runs here.
        ContinuonError: what `continuon.export.adapted.derive_policy` refuses.
    """
    from continuon.export.adapted import derive_policy

    active = active_bundle(home)
    if active is None:
        raise _no_bundle(home)
    return derive_policy(active.directory, home.adapters, bundle=active.bundle)


def switch_running(home: Home) -> dict[str, Any] | None:
    """Let the service on this home drive with what the record says; None if none runs.

    Raises:
        ContinuonError: it refused; what drove goes on.
    """
    from continuon.robot.client import RobotClient

    try:
        client = RobotClient.find(home)
    except HardwareError:
        return None
    return client.ask("/adapter/use", {}, timeout_s=_SWITCH_TIMEOUT_S)


def _battery() -> float | None:
    """Return the charge, None where no gauge answers or its reading is impossible."""
    from continuon.rig.pi import PiRig

    with PiRig() as rig:
        try:
            return None if rig.battery is None else rig.battery.read().fraction
        except HardwareError:
            return None


def _no_bundle(home: Home) -> UsageError:
    return UsageError(
        "E-PIPE-ADAPTER-001",
        "no bundle runs here whose policy an adapter could change",
        where=home.root,
        hint="continuon ota stage, activate and commit come first",
    )
