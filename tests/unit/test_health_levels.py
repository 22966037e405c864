"""Levels, limits and verdicts."""

from __future__ import annotations

import math

import pytest

from continuon.errors import ContractError
from continuon.health import Check, HealthReport, Level, thresholds
from continuon.health.levels import Limits, grade, regrade, worst

HOT = Limits(warn=75.0, critical=82.0, above=True, hysteresis=2.0)
LOW = Limits(warn=3.6, critical=3.3, above=False)


@pytest.mark.parametrize(
    ("value", "limits", "level"),
    [
        (75.0, HOT, Level.OK),
        (75.1, HOT, Level.WARN),
        (82.1, HOT, Level.CRITICAL),
        (3.6, LOW, Level.OK),
        (3.5, LOW, Level.WARN),
        (3.2, LOW, Level.CRITICAL),
        (math.inf, HOT, Level.CRITICAL),
    ],
)
def test_a_figure_gets_the_level_of_its_side(value, limits, level):
    assert grade(value, limits) is level


@pytest.mark.req("R-HEALTH-01")
@pytest.mark.parametrize("value", [None, math.nan])
def test_no_number_is_unknown(value):
    assert grade(value, HOT) is Level.UNKNOWN
    assert regrade(value, HOT, before=Level.OK) is Level.UNKNOWN


@pytest.mark.req("R-HEALTH-06")
@pytest.mark.parametrize(
    ("value", "before", "after"),
    [
        (76.0, Level.OK, Level.WARN),
        (83.0, Level.OK, Level.CRITICAL),
        (74.0, Level.WARN, Level.WARN),
        (72.9, Level.WARN, Level.OK),
        (81.0, Level.CRITICAL, Level.CRITICAL),
        (79.0, Level.CRITICAL, Level.WARN),
        (60.0, Level.UNKNOWN, Level.OK),
        (74.0, Level.UNKNOWN, Level.OK),
        (74.0, Level.STALE, Level.OK),
        (74.0, None, Level.OK),
    ],
)
def test_a_better_level_is_reached_only_beyond_the_hysteresis(value, before, after):
    assert regrade(value, HOT, before=before) is after


@pytest.mark.req("R-HEALTH-01")
def test_nothing_at_all_is_unknown():
    assert worst([]) is Level.UNKNOWN


def report(*checks, origin="real"):
    made = tuple(
        Check(name=f"c{i}", level=level, text="t", origin=origin, required=required)
        for i, (level, required) in enumerate(checks)
    )
    return HealthReport(rig="r", origin=origin, checks=made, measured_wall_ns=1)


@pytest.mark.req("R-HEALTH-02")
@pytest.mark.req("R-HEALTH-03")
@pytest.mark.parametrize(
    ("checks", "verdict", "code"),
    [
        ([(Level.OK, True)], Level.OK, 0),
        ([(Level.OK, True), (Level.WARN, True)], Level.WARN, 0),
        ([(Level.OK, True), (Level.UNKNOWN, True)], Level.UNKNOWN, 3),
        ([(Level.OK, True), (Level.CRITICAL, False)], Level.WARN, 0),
        ([(Level.STALE, True), (Level.UNKNOWN, True)], Level.STALE, 3),
        ([(Level.CRITICAL, True), (Level.STALE, True)], Level.CRITICAL, 4),
        ([], Level.UNKNOWN, 3),
    ],
)
def test_the_verdict_is_the_worst_required_level(checks, verdict, code):
    made = report(*checks)
    assert made.verdict is verdict
    assert made.exit_code == code


@pytest.mark.req("R-HEALTH-04")
def test_a_simulated_rig_is_named_in_the_notes():
    assert report((Level.OK, True)).notes == ()
    assert "simulated" in report((Level.OK, True), origin="simulated").notes[0]
    facts = report((Level.WARN, True), origin="replayed").as_dict()
    assert facts["origin"] == "replayed"
    assert facts["checks"][0]["origin"] == "replayed"


def test_thresholds_of_another_version_are_refused(tmp_path, monkeypatch):
    (tmp_path / "_specs/health").mkdir(parents=True)
    (tmp_path / "_specs/health/thresholds.toml").write_text("version = 9\n")
    monkeypatch.setattr(thresholds.resources, "files", lambda package: tmp_path)
    thresholds.load_thresholds.cache_clear()
    with pytest.raises(ContractError):
        thresholds.load_thresholds()
