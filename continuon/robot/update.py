"""A new bundle under the running loop: stage, swap, soak, then commit or go back.

The record of what runs belongs to the updater, the running policy to the control loop.
This is the order in which the two change, and what happens when any step fails.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from continuon.bundle.manifest import Manifest
from continuon.bundle.verify import verify_bundle
from continuon.clock import Clock
from continuon.errors import ContinuonError, GateMissedError
from continuon.ota.gate import gate_of
from continuon.ota.updater import Updater
from continuon.robot.backends import first_runnable
from continuon.robot.control import ControlHandle, SwapResult
from continuon.robot.envelope import car_limits
from continuon.robot.guard_handle import GuardHandle
from continuon.robot.health_gate import HealthVerdict, watch_trial
from continuon.robot.kernel import SafetyLimits
from continuon.robot.shadow import ShadowRule
from continuon.robot.ticklog import ROW

__all__ = ["HotSwapReport", "choose_backend", "hot_swap_update"]

_EVIDENCE_TICKS = 1500


@attrs.frozen(kw_only=True)
class HotSwapReport:
    """What became of an update.

    Attributes:
        bundle: id of the new bundle.
        previous: id of the bundle that ran before; None for a first one.
        directory: slot of the new bundle.
        health: the trial's verdict; None if the policy never took over.
        error: why a step failed, as the error's own facts.
        swapped_back: where the previous policy took over again, after a failure.
        triage: folder with the evidence of a failure.
        previous_verifies: the bundle to go back to is whole and signed, seen after all
            was done; None where there is none.
    """

    bundle: str
    version: str
    backend: str
    previous: str | None
    directory: Path
    committed: bool
    health: HealthVerdict | None = None
    error: dict[str, Any] | None = None
    swapped_back: SwapResult | None = None
    triage: Path | None = None
    previous_verifies: bool | None = None

    @property
    def figures(self) -> dict[str, Any]:
        """The figures that the gate of the update phase asks for."""
        health = self.health
        report = health.report if health else None
        return {
            "staged": True,
            "swapped": health is not None,
            "committed": self.committed,
            "missed_periods_at_swap": report.missed_periods if report else None,
            "golden_max_abs_error": report.golden_max_error if report else None,
            "policy_latency_p99_ms": report.latency_p99_ms if report else None,
            "lateness_p99_ms": health.timing.lateness_ms.p99 if health else None,
            "lateness_max_ms": health.timing.lateness_ms.max if health else None,
            "veto_fraction": report.veto_fraction if report else None,
            "soak_ticks": report.ticks if report else 0,
            "health_gate": "passed" if self.committed else "missed",
            "previous_bundle_verifies": self.previous_verifies,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "bundle": self.bundle,
            "version": self.version,
            "backend": self.backend,
            "previous": self.previous,
            "directory": str(self.directory),
            "committed": self.committed,
            "health": self.health.as_dict() if self.health else None,
            "error": self.error,
            "swapped_back": self.swapped_back.as_dict() if self.swapped_back else None,
            "triage": str(self.triage) if self.triage else None,
            "figures": self.figures,
        }


def hot_swap_update(
    control: ControlHandle,
    guard: GuardHandle,
    updater: Updater,
    *,
    source: Path | None = None,
    backend: str | None = None,
    limits: SafetyLimits | None = None,
    state_names: tuple[str, ...] = ("speed_mps",),
    clock: Clock | None = None,
    retry: bool = False,
    shadow: ShadowRule | None = None,
) -> HotSwapReport:
    """Update the robot while its loop runs, and keep it only if it proves itself.

    Args:
        control: the running loop; whether it moves the robot is the caller's choice.
        guard: the guard of its outputs.
        updater: the device's slots.
        source: a bundle directory at hand; None takes what was fetched.
        backend: how to run it; None takes the bundle's first that runs here.
        limits: envelope for the new policy; None tightens the car's base rules by the
            bundle's own.
        state_names: what the robot measures.
        clock: bounds the waiting.
        retry: allow a bundle that failed here before.
        shadow: how long the new policy thinks along first, and how far it may differ;
            None takes the bound of the bundle's own health gate.

    Raises:
        ContinuonError: it was refused before anything changed: signature, contents,
            compatibility, a sense that this robot lacks, release, space.
    """
    senses = tuple(control.status()["senses"])
    updater.device = attrs.evolve(updater.device, senses=senses)
    staged = updater.stage(source, retry=retry)
    bundle = verify_bundle(
        staged.directory, updater.public_keys, threshold=updater.threshold
    )
    chosen = backend or choose_backend(bundle.manifest)
    envelope = limits or car_limits(manifest=bundle.safety, state_names=state_names)
    activated = updater.activate(staged.bundle, retry=retry)
    before = {
        "requested_tick": control.log.count,
        "trips_before": guard.report().trips,
    }
    report = HotSwapReport(
        bundle=staged.bundle,
        version=staged.version,
        backend=chosen,
        previous=activated.previous,
        directory=staged.directory,
        committed=False,
    )
    try:
        rule = shadow or ShadowRule.of(bundle.manifest.health_gate)
        swap = control.swap(staged.directory, chosen, limits=envelope, shadow=rule)
    except ContinuonError as error:
        report = attrs.evolve(report, error=error.as_dict())
        return _go_back(report, control, updater)
    health = watch_trial(
        control,
        guard,
        swap,
        bundle=staged.bundle,
        gate=gate_of(bundle.manifest, chosen),
        clock=clock,
        **before,
    )
    report = attrs.evolve(report, health=health)
    try:
        _require(health)
        updater.commit(health.report)
    except ContinuonError as error:
        report = attrs.evolve(report, error=error.as_dict())
        return _go_back(report, control, updater)
    return _look_at_previous(attrs.evolve(report, committed=True), updater)


def choose_backend(manifest: Manifest) -> str:
    """Return the bundle's first backend that this package runs.

    Raises:
        UsageError: E-ROBOT-UPDATE-001, it has none.
    """
    return first_runnable([backend.name for backend in manifest.backends])


def _require(health: HealthVerdict) -> None:
    if not health.passed:
        raise GateMissedError(
            "E-ROBOT-GATE-001",
            "the new policy missed its health gate",
            seen="; ".join(map(str, health.misses)),
            hint="the previous policy drives again; the evidence is in the triage",
        )


def _go_back(
    report: HotSwapReport, control: ControlHandle, updater: Updater
) -> HotSwapReport:
    """First the policy that drives, then the record, then the evidence's place."""
    back = None
    if report.health is not None and report.health.swap.previous and control.alive:
        back = control.swap_back()
    facts = report.error or {}
    rollback = updater.rollback(
        str(facts.get("what", "")) + ": " + str(facts.get("seen", "")),
        code=str(facts.get("code", "E-ROBOT-GATE-001")),
        evidence=_evidence(report, control),
    )
    report = attrs.evolve(report, swapped_back=back, triage=rollback.triage)
    return _look_at_previous(report, updater)


def _evidence(report: HotSwapReport, control: ControlHandle) -> dict[str, bytes]:
    ticks = control.log.rows(control.log.count - _EVIDENCE_TICKS).tolist()
    lines = [",".join(ROW.names or ())]
    lines += [",".join(map(str, row)) for row in ticks]
    return {
        "hot_swap.json": json.dumps(report.as_dict(), indent=1).encode(),
        "events.json": json.dumps(list(control.events), indent=1).encode(),
        "ticks.csv": "\n".join(lines).encode() + b"\n",
    }


def _look_at_previous(report: HotSwapReport, updater: Updater) -> HotSwapReport:
    """Verify again, from the medium, what there is to go back to."""
    status = updater.status()
    slot = status.previous if report.committed else status.good
    if slot is None:
        return report
    try:
        verify_bundle(slot.directory, updater.public_keys, threshold=updater.threshold)
    except ContinuonError as error:
        facts = report.error or error.as_dict()
        return attrs.evolve(report, previous_verifies=False, error=facts)
    return attrs.evolve(report, previous_verifies=True)
