"""The health gate: a trial's measured figures against the bundle's own bounds.

What was not measured was not met: a missing, infinite or NaN figure is a miss.
"""

from __future__ import annotations

import math
from typing import Any

import attrs

from continuon.bundle.manifest import HealthGate, Manifest

__all__ = ["GateReport", "Miss", "gate_of", "judge"]


@attrs.frozen(kw_only=True)
class GateReport:
    """What a trial measured. None stands for "not measured".

    Attributes:
        bundle: the bundle that was on trial.
        backend: what ran it; its own golden tolerance in the manifest is the bound.
        golden_max_error: largest absolute difference from the golden outputs.
        latency_p99_ms: 99th percentile of one policy step.
        ticks: control ticks that the new policy drove.
        veto_fraction: share of them on which the safety kernel stepped in.
        non_finite: actions that were NaN or infinite.
        missed_periods: control periods that were missed because of the swap.
        elapsed_s: how long the trial took.
    """

    bundle: str
    backend: str | None = None
    golden_max_error: float | None = None
    latency_p99_ms: float | None = None
    ticks: int = 0
    veto_fraction: float | None = None
    non_finite: int | None = None
    missed_periods: int | None = None
    elapsed_s: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for machines."""
        return attrs.asdict(self)


@attrs.frozen
class Miss:
    """One bound that was not kept."""

    figure: str
    seen: float | None
    allowed: str

    def __str__(self) -> str:
        seen = "not measured" if self.seen is None else f"{self.seen:g}"
        return f"{self.figure} {seen}, allowed {self.allowed}"


def gate_of(manifest: Manifest, backend: str | None) -> HealthGate:
    """Return the bounds of a trial of this bundle with this backend.

    Weights of 16 or 8 bits are another network, and the manifest says by how much each
    backend may differ: that, and not the one bound of the whole gate, is the golden
    bound where the backend is known. One that the manifest does not name is held to
    the gate's own.
    """
    for entry in manifest.backends:
        if entry.name == backend:
            return attrs.evolve(manifest.health_gate, golden_max_error=entry.tolerance)
    return manifest.health_gate


def judge(gate: HealthGate, report: GateReport) -> tuple[Miss, ...]:
    """Return the bounds that the trial missed; none means that it may be committed."""
    bounds: tuple[tuple[str, float | None, float], ...] = (
        ("golden_max_error", report.golden_max_error, gate.golden_max_error),
        ("latency_p99_ms", report.latency_p99_ms, gate.latency_p99_ms),
        ("veto_fraction", report.veto_fraction, gate.max_veto_fraction),
        ("non_finite", report.non_finite, 0),
        ("missed_periods", report.missed_periods, 0),
        ("elapsed_s", report.elapsed_s, gate.timeout_s),
    )
    misses = [
        Miss(name, seen, f"at most {bound:g}")
        for name, seen, bound in bounds
        if seen is None or not math.isfinite(seen) or not 0 <= seen <= bound
    ]
    if report.ticks < gate.soak_ticks:
        misses.append(Miss("ticks", report.ticks, f"at least {gate.soak_ticks}"))
    return tuple(misses)
