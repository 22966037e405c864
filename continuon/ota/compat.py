"""Whether a bundle fits this device: library, board, contracts, control rate."""

from __future__ import annotations

import attrs

from continuon.bundle.manifest import Compat, Manifest
from continuon.bundle.safety import CAR_BASE_RULES, SafetyManifest
from continuon.bundle.semver import parse_version
from continuon.errors import ContractError, TrustError

__all__ = ["Device", "check_fit"]


@attrs.frozen(kw_only=True)
class Device:
    """What a bundle must fit. None means that this is not asked for.

    Attributes:
        library_version: the installed continuon version.
        board: board name, such as `raspberry-pi-5`.
        observation_sha256: digest of the observation contract in force.
        action_sha256: digest of the action contract in force.
        control_rate_hz: rate of the control loop.
        senses: what the robot can give a policy.
        base_rules: the immutable safety limits of the device.
    """

    library_version: str
    board: str | None = None
    observation_sha256: str | None = None
    action_sha256: str | None = None
    control_rate_hz: float | None = None
    senses: tuple[str, ...] | None = None
    base_rules: SafetyManifest = CAR_BASE_RULES


def check_fit(manifest: Manifest, device: Device, *, installed: frozenset[str]) -> None:
    """Return if the bundle may run here; `installed` are the ids of intact slots.

    Raises:
        ContractError: E-OTA-COMPAT-001 library, -002 board, -003 a contract's digest,
            -004 control rate, -005 the base bundle of an adapter, -006 a sense.
        TrustError: E-BUNDLE-SAFE-002, the base rules here are too old.
    """
    compat = manifest.compat
    _check_library(compat, device.library_version)
    if device.board and compat.boards and device.board not in compat.boards:
        raise _misfit("002", "another board", device.board, ", ".join(compat.boards))
    for name in ("observation_sha256", "action_sha256"):
        made_for, here = getattr(compat, name), getattr(device, name)
        if made_for is not None and here is not None and made_for != here:
            what = f"another {name.removesuffix('_sha256')} contract"
            raise _misfit("003", what, here, made_for)
    rate_hz = device.control_rate_hz
    if compat.control_rate_hz and rate_hz and compat.control_rate_hz != rate_hz:
        raise _misfit("004", "another control rate", rate_hz, compat.control_rate_hz)
    has = compat.senses if device.senses is None else device.senses
    lacks = sorted(set(compat.senses) - set(has))
    if lacks:
        here = ", ".join(has) or "none"
        raise _misfit(
            "006", f"a robot with {', '.join(lacks)}", here, ", ".join(compat.senses)
        )
    if compat.base_bundle is not None and compat.base_bundle not in installed:
        raise _misfit("005", "a base bundle", "not installed", compat.base_bundle)
    needed = manifest.safety.min_base_rule_version
    if needed > device.base_rules.base_rule_version:
        raise TrustError(
            "E-BUNDLE-SAFE-002",
            "the bundle needs newer base rules than this device has",
            seen=needed,
            allowed=f"at most {device.base_rules.base_rule_version}",
            hint="update the robot's continuon package first",
        )


def _check_library(compat: Compat, version: str) -> None:
    here = parse_version(version, where="installed continuon")
    below = compat.library_below
    if here < parse_version(compat.library_min) or (
        below is not None and not here < parse_version(below)
    ):
        span = f"from {compat.library_min}" + (f" to below {below}" if below else "")
        raise _misfit("001", "another continuon version", version, span)


def _misfit(number: str, what: str, seen: object, allowed: object) -> ContractError:
    return ContractError(
        f"E-OTA-COMPAT-{number}",
        f"the bundle was made for {what}",
        seen=seen,
        allowed=allowed,
        hint="nothing was changed; get the bundle that was made for this robot",
    )
