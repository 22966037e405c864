"""What this robot drives with after a start: the slot that recovery decided on.

The envelope goes with the policy: limits that a bundle brought at its update are in
force after every reboot too.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from continuon.bundle import load_public_key
from continuon.bundle.verify import verify_bundle
from continuon.home import Home
from continuon.ota import Updater
from continuon.robot.envelope import car_limits
from continuon.robot.kernel import SafetyLimits
from continuon.robot.update import choose_backend

__all__ = ["Deployed", "active_policy", "deployed_policy"]

TRUSTED_KEY = "release.pub.pem"


@attrs.frozen(kw_only=True)
class Deployed:
    """The bundle that is to run, verified.

    Attributes:
        bundle: its id.
        directory: its slot.
        backend: the first of its backends that runs here.
        limits: the robot's base rules, tightened by the bundle's own.
    """

    bundle: str
    directory: Path
    backend: str
    limits: SafetyLimits


def deployed_policy(home: Home, *, state_names: tuple[str, ...]) -> Deployed | None:
    """Recover the slots of a home and return what is to run; None before a first one.

    A home without a trusted key runs nothing: what lies in its slots cannot be
    verified.

    Raises:
        DataError: E-OTA-RECORD-..., the record cannot be read; a person must act.
        TrustError: the slot that is to run does not verify.
    """
    key = home.keys / TRUSTED_KEY
    if not key.exists():
        return None
    updater = Updater(home.model, [load_public_key(key)])
    updater.recover()
    return active_policy(updater, state_names=state_names)


def active_policy(updater: Updater, *, state_names: tuple[str, ...]) -> Deployed | None:
    """Return the bundle that the record says is to run, verified from the medium.

    Raises:
        TrustError: it does not verify, or its limits leave no legal value.
        UsageError: E-ROBOT-UPDATE-001, it has no backend that runs here.
    """
    slot = updater.active_slot()
    if slot is None:
        return None
    bundle = verify_bundle(slot, updater.public_keys, threshold=updater.threshold)
    return Deployed(
        bundle=bundle.bundle_id,
        directory=slot,
        backend=choose_backend(bundle.manifest),
        limits=car_limits(manifest=bundle.safety, state_names=state_names),
    )
