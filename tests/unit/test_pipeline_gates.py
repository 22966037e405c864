"""Gates fail closed: what is missing, unknown or not a number is not OK."""

from __future__ import annotations

import math

import pytest

from continuon.errors import ContractError
from continuon.pipeline.gates import ABSENT, GateLine, PhaseGate, Verdict, load_gates
from continuon.pipeline.phase import PHASES


def _line(op, threshold, **more):
    return GateLine(figure="f", op=op, threshold=threshold, hint="do", **more)


def test_there_is_one_gate_for_each_of_the_ten_phases_in_order():
    gates = load_gates()
    assert [gate.name for gate in gates] == list(PHASES)
    assert [gate.number for gate in gates] == list(range(1, 11))


@pytest.mark.parametrize(
    ("op", "threshold", "good", "bad"),
    [
        ("==", True, True, False),
        ("==", 0, 0, 1),
        ("!=", 0, 1, 0),
        ("<", 1.0, 0.9, 1.0),
        ("<=", 5.0, 5.0, 5.01),
        (">", 0.0, 1e-12, 0.0),
        (">=", 16, 16, 15),
        ("between", [20.0, 50.0], 20.0, 50.1),
        ("==", [640, 480], [640, 480], [480, 640]),
    ],
)
def test_each_operator_passes_and_misses(op, threshold, good, bad):
    line = _line(op, threshold)
    assert line.check({"f": good}, origin="real").verdict is Verdict.PASSED
    assert line.check({"f": bad}, origin="real").verdict is Verdict.MISSED


@pytest.mark.parametrize("value", [None, math.nan, math.inf, [1.0, math.nan]])
def test_what_is_not_a_number_is_unknown_and_unknown_is_not_a_pass(value):
    check = _line("<=", 5.0).check({"f": value}, origin="real")
    assert check.verdict is Verdict.UNKNOWN
    assert not check.ok


@pytest.mark.req("R-GATE-01")
def test_a_missing_figure_is_unknown():
    assert _line("<=", 5.0).check({}, origin="real").verdict is Verdict.UNKNOWN


def test_a_figure_of_the_wrong_kind_is_unknown_not_an_exception():
    assert _line("<=", 5.0).check({"f": "OK"}, origin="real").verdict is Verdict.UNKNOWN
    assert _line("<=", 5.0).check({"f": True}, origin="real").verdict is Verdict.UNKNOWN


def test_one_is_not_true():
    assert _line("==", True).check({"f": 1}, origin="real").verdict is Verdict.MISSED


@pytest.mark.req("R-GATE-02")
def test_absent_passes_only_for_the_origin_that_may_lack_it():
    line = _line("<=", 5.0, absent_ok=["imported"])
    assert line.check({"f": ABSENT}, origin="imported").ok
    assert not line.check({"f": ABSENT}, origin="real").ok


@pytest.mark.req("R-GATE-05")
def test_a_line_spares_the_origins_that_it_names_and_no_other():
    line = _line("==", True, not_for=["imported"])
    assert line.check({"f": False}, origin="imported").verdict is Verdict.SKIPPED
    for origin in ("real", "simulated", "synthetic", "replayed", "unknown", "new"):
        assert line.check({"f": False}, origin=origin).verdict is Verdict.MISSED


@pytest.mark.req("R-GATE-03")
def test_the_worst_line_is_the_verdict_and_names_margin_and_next_step():
    gate = PhaseGate(
        number=1, name="health", title="t", lines=(_line("<=", 5.0), _line("<", 9.0))
    )
    verdict, checks = gate.check({"f": 7.5}, origin="real")
    assert verdict is Verdict.MISSED
    assert "off by 2.5" in checks[0].sentence()
    assert "next: do" in checks[0].sentence()


def test_a_gate_table_of_another_version_is_refused():
    with pytest.raises(ContractError, match="E-GATE-VERSION-001"):
        load_gates("version = 2\nphase = []")


def test_a_misspelt_key_in_the_gate_table_is_refused():
    text = (
        'version = 1\n[[phase]]\nnumber = 1\nname = "x"\ntitle = "x"\n'
        'gates = [{figure = "f", op = "=<", threshold = 1, hint = "h"}]'
    )
    with pytest.raises(ContractError, match="E-GATE-TABLE-002"):
        load_gates(text)
