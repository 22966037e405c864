"""Each backend is held to its own golden tolerance, as the signed manifest has it."""

from __future__ import annotations

from types import SimpleNamespace

import attrs
import pytest

from continuon.bundle.build import DEFAULT_HEALTH_GATE
from continuon.bundle.manifest import Backend
from continuon.ota.gate import GateReport, gate_of, judge

REPORT = GateReport(
    bundle="b",
    golden_max_error=0.01,
    latency_p99_ms=1.0,
    ticks=999,
    veto_fraction=0.0,
    non_finite=0,
    missed_periods=0,
    elapsed_s=1.0,
)


def backend(name, tolerance):
    return Backend(
        name=name,
        artifact="p",
        golden="g",
        tolerance=tolerance,
        latency_budget_ms=20.0,
    )


MANIFEST = SimpleNamespace(
    health_gate=DEFAULT_HEALTH_GATE,
    backends=(
        backend("litert", 1e-3),
        backend("litert-fp16", 2e-3),
        backend("litert-int8", 0.02),
    ),
)


@pytest.mark.req("R-GATE-04")
@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("litert", False),
        ("litert-fp16", False),
        ("litert-int8", True),
        ("another", False),
        (None, False),
    ],
)
def test_an_error_of_a_hundredth_is_judged_by_the_backend_that_made_it(name, passes):
    report = attrs.evolve(REPORT, backend=name)
    assert (not judge(gate_of(MANIFEST, name), report)) is passes


def test_only_the_golden_bound_is_the_backend_s_own():
    changed = gate_of(MANIFEST, "litert-int8")
    assert attrs.evolve(changed, golden_max_error=1e-3) == DEFAULT_HEALTH_GATE
