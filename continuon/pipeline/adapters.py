"""From a promoted adapter to the policy that drives: compile it, tell the service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from continuon.errors import HardwareError, UsageError
from continuon.home import Home

if TYPE_CHECKING:
    from continuon.export.adapted import AdaptedReport
    from continuon.robot.deployed import Deployed

__all__ = ["active_bundle", "base_weights", "compile_adapter", "switch_running"]

WEIGHTS = "policy.weights"
_SWITCH_TIMEOUT_S = 120.0


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


def compile_adapter(home: Home) -> AdaptedReport:
    """Merge the adapter in use into the active bundle's policy, beside its slot.

    Raises:
        UsageError: E-PIPE-ADAPTER-001, no bundle runs here.
        ContinuonError: what `continuon.export.adapted.derive_policy` refuses.
    """
    from continuon.export.adapted import derive_policy

    active = active_bundle(home)
    if active is None:
        raise UsageError(
            "E-PIPE-ADAPTER-001",
            "no bundle runs here whose policy an adapter could change",
            where=home.root,
            hint="continuon ota stage, activate and commit come first",
        )
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
