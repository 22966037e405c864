"""From a promoted adapter to the policy that drives: compile it, tell the service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from continuon.clock import SystemClock
from continuon.edge.derived import DERIVED_FILE
from continuon.errors import ContinuonError, HardwareError, UsageError
from continuon.home import Home

if TYPE_CHECKING:
    from continuon.clock import Clock
    from continuon.export.adapted import AdaptedReport
    from continuon.learn.mid_gate import ActionBounds
    from continuon.learn.mid_guard import MidGuard, MidLimits
    from continuon.robot.client import RobotClient
    from continuon.robot.deployed import Deployed

__all__ = [
    "active_bundle",
    "base_weights",
    "bases_here",
    "battery_here",
    "car_bounds",
    "compile_adapter",
    "compile_or_drop",
    "finish_promotion",
    "guard_here",
    "measured_without",
    "require_base_weights",
    "switch_running",
]

WEIGHTS = "policy.weights"
_SWITCH_TIMEOUT_S = 120.0
_TRIAL_TIMEOUT_S = 180.0
_LOOK_NS = 200_000_000
_BATTERY_AGE_NS = 10_000_000_000


def active_bundle(home: Home, *, adapters: bool = False) -> Deployed | None:
    """Return the bundle that runs on this home, verified; None where there is none.

    With `adapters` its `chosen` says which of them drives, and why.
    """
    from continuon.bundle import load_public_key
    from continuon.ota import Updater
    from continuon.robot.deployed import TRUSTED_KEY, active_policy

    key = home.keys / TRUSTED_KEY
    if not key.exists():
        return None
    return active_policy(
        Updater(home.model, [load_public_key(key)]),
        state_names=(),
        adapters=home.adapters if adapters else None,
    )


def bases_here(home: Home) -> frozenset[str] | None:
    """Return the names of the parameters that drive here; None without a bundle."""
    from continuon.edge.derived import base_digests

    active = active_bundle(home)
    return None if active is None else base_digests(active.directory)


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
    limits: MidLimits,
    *,
    clock: Clock,
    without: tuple[str, ...] = (),
    root: Path = Path("/"),
) -> MidGuard:
    """Return a guard over this machine, its battery's gauge looked at now and then.

    `root` is where the machine's own files stand, `proc` and `sys`.

    Raises:
        UsageError: E-LEARN-MID-002, a waived name is no sensor.
    """
    from continuon.learn.mid_guard import MidGuard

    home = Home.from_environment()
    held: list[tuple[int, float | None]] = []

    def battery() -> float | None:
        now_ns = clock.monotonic_ns()
        if not held or now_ns - held[-1][0] > _BATTERY_AGE_NS:
            held[:] = [(now_ns, battery_here(home))]
        return held[-1][1]

    return MidGuard.of(limits, clock=clock, battery=battery, waived=without, root=root)


def car_bounds() -> ActionBounds:
    """Return the base rules of the car as bounds of actions."""
    from continuon.bundle.safety import CAR_BASE_RULES
    from continuon.learn.mid_gate import ActionBounds

    rules = CAR_BASE_RULES.channels
    return ActionBounds(
        names=tuple(rule.name for rule in rules),
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


def measured_without(home: Home) -> str:
    """Say that a phase measured the bundle alone, and what became of the adapter.

    A bundle is proven by what was signed; an adapter is proven beside it, by its own
    gate and trial. An update changes no byte of the store of adapters.
    """
    from continuon.adapter_record import read_record

    try:
        use = read_record(home.adapters).use
        active = None if use.adapter is None else active_bundle(home, adapters=True)
        chosen = None if active is None else active.chosen
    except ContinuonError as error:
        return f"measured without an adapter; the record of adapters: {error}"
    if use.adapter is None:
        return "measured without an adapter: this home has none"
    name = f"adapter {use.adapter} ({str(use.sha256)[:12]})"
    if chosen is None:
        return f"measured without an adapter; {name} stays where it is"
    if chosen.adapter is None:
        return f"measured without an adapter; {chosen.why}"
    return (
        f"measured without an adapter; adapter {chosen.adapter} stays in use beside it"
    )


def compile_or_drop(home: Home) -> AdaptedReport:
    """Compile the adapter that was just promoted; one that cannot be is rolled back.

    Raises:
        ContinuonError: as `compile_adapter`; the record names it no more.
    """
    from continuon.adapter_record import roll_back_adapter
    from continuon.edge.derived import base_digests

    try:
        return compile_adapter(home)
    except ContinuonError as error:
        active = active_bundle(home)
        if active is not None:
            roll_back_adapter(
                home.adapters,
                reason=f"not compiled: {error.code}",
                wall_ns=SystemClock().wall_ns(),
                bases=base_digests(active.directory),
            )
        raise


def finish_promotion(home: Home) -> bool:
    """Compile what an earlier run promoted and did not come to compile.

    Raises:
        ContinuonError: as `compile_or_drop`.
    """
    from continuon.adapter_record import fitting, read_record
    from continuon.edge.derived import base_digests, derived_folder

    active = active_bundle(home)
    if active is None:
        return False
    use = fitting(read_record(home.adapters), base_digests(active.directory))
    if use.sha256 is None:
        return False
    folder = derived_folder(
        home.adapters, bundle=active.bundle, adapter_sha256=use.sha256
    )
    if (folder / DERIVED_FILE).exists():
        return False
    compile_or_drop(home)
    return True


def switch_running(home: Home) -> dict[str, Any] | None:
    """Let the service on this home drive with what the record says; None if none runs.

    An adapter drives on trial at first, and this waits for the verdict: `trial` is
    `passed` or `missed` then, `begun` where none came, None where none was due.

    Raises:
        ContinuonError: it refused; what drove goes on.
    """
    from continuon.robot.client import RobotClient

    try:
        client = RobotClient.find(home)
    except HardwareError:
        return None
    told: dict[str, Any] = client.ask("/adapter/use", {}, timeout_s=_SWITCH_TIMEOUT_S)
    return told if told["trial"] is None else told | _verdict(client, told["adapter"])


def _verdict(client: RobotClient, adapter: int) -> dict[str, Any]:
    clock = SystemClock()
    until_ns = clock.monotonic_ns() + round(_TRIAL_TIMEOUT_S * 1e9)
    while clock.monotonic_ns() < until_ns:
        last = client.ask("/status")["adapter"].get("last_trial")
        if last is not None and last.get("adapter") == adapter:
            return {"trial": last["verdict"], "misses": last["misses"]}
        clock.sleep_until_ns(clock.monotonic_ns() + _LOOK_NS)
    return {"trial": "begun"}


def battery_here(home: Home) -> float | None:
    """Return the charge in 0..1, None where no gauge answers or its reading is wrong.

    A gauge shares its bus with the servo board. Where a service runs on this home, its
    guard alone may use the bus, and is asked.
    """
    from continuon.rig.pi import PiRig
    from continuon.robot.client import RobotClient

    try:
        client = RobotClient.find(home)
    except HardwareError:
        client = None
    if client is not None:
        try:
            return _charge_told(client.ask("/health"))
        except HardwareError:
            return None
    with PiRig() as rig:
        try:
            return None if rig.battery is None else rig.battery.read().fraction
        except HardwareError:
            return None


def _charge_told(report: dict[str, Any]) -> float | None:
    """Return the charge in a service's report, None where it is not known now."""
    for check in report["checks"]:
        if check["name"] == "battery" and check["level"] not in ("UNKNOWN", "STALE"):
            charge = check["figures"].get("battery_fraction")
            return None if charge is None else float(charge)
    return None


def _no_bundle(home: Home) -> UsageError:
    return UsageError(
        "E-PIPE-ADAPTER-001",
        "no bundle runs here whose policy an adapter could change",
        where=home.root,
        hint="continuon ota stage, activate and commit come first",
    )
