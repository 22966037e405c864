"""What this robot drives with after a start: the slot that recovery decided on.

The envelope goes with the policy: limits that a bundle brought at its update are in
force after every reboot too.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from continuon.bundle import load_public_key
from continuon.bundle.manifest import HealthGate
from continuon.bundle.verify import verify_bundle
from continuon.home import Home
from continuon.ota import Updater
from continuon.ota.gate import gate_of
from continuon.robot.adapted import Chosen, choose_policy
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
        gate: the bundle's own bounds of a trial.
        chosen: what to hand to the loop: the slot, or its policy with an adapter.
    """

    bundle: str
    directory: Path
    backend: str
    limits: SafetyLimits
    gate: HealthGate
    chosen: Chosen


def deployed_policy(home: Home, *, state_names: tuple[str, ...]) -> Deployed | None:
    """Recover the slots of a home and return what is to run; None before a first one.

    The adapter in use is taken up where it was judged on this very bundle's policy,
    passed its trial, and every byte of what was derived is as recorded; else the bundle
    runs alone, and `chosen.why` says why. A home without a trusted key runs nothing:
    what lies in its slots cannot be verified.

    Raises:
        DataError: E-OTA-RECORD-..., the record cannot be read; a person must act.
        TrustError: the slot that is to run does not verify.
    """
    key = home.keys / TRUSTED_KEY
    if not key.exists():
        return None
    updater = Updater(home.model, [load_public_key(key)])
    updater.recover()
    return active_policy(
        updater, state_names=state_names, adapters=home.adapters, tried=True
    )


def active_policy(
    updater: Updater,
    *,
    state_names: tuple[str, ...],
    adapters: Path | None = None,
    tried: bool = False,
) -> Deployed | None:
    """Return the bundle that the record says is to run, verified from the medium.

    Args:
        updater: the slots.
        state_names: what the robot measures of itself.
        adapters: their store; None leaves the bundle alone.
        tried: leave out an adapter that has yet to pass its trial.

    Raises:
        TrustError: it does not verify, or its limits leave no legal value.
        UsageError: E-ROBOT-UPDATE-001, it has no backend that runs here.
    """
    slot = updater.active_slot()
    if slot is None:
        return None
    bundle = verify_bundle(slot, updater.public_keys, threshold=updater.threshold)
    backend = choose_backend(bundle.manifest)
    chosen = Chosen(artifact_dir=slot, backend=backend, adapter=None, why="not asked")
    if adapters is not None:
        chosen = choose_policy(
            adapters,
            slot=slot,
            bundle=bundle.bundle_id,
            backend=backend,
            tried=tried,
        )
    return Deployed(
        bundle=bundle.bundle_id,
        directory=slot,
        backend=backend,
        limits=car_limits(manifest=bundle.safety, state_names=state_names),
        gate=gate_of(bundle.manifest, chosen.backend),
        chosen=chosen,
    )
