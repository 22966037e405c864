"""Phase 10: a missed gate rolls the bundle back and keeps it with its figures."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

pytest.importorskip("simplejpeg")

from continuon.pipeline.context import Context
from continuon.pipeline.phases import validate

GOOD = {
    "loop_tick_p99_ms": 3.0,
    "loop_rate_hz": 50.0,
    "missed_periods_fraction": 0.0,
    "smoke_inference_ok": True,
    "policy_log_valid": True,
    "teleop_run_ok": True,
    "autonomous_run_ok": True,
    "distance_ratio": 12.0,
}


class _Updater:
    """Remembers what it was asked; its triage folder holds one file."""

    def __init__(self, triage):
        self.calls = []
        self._triage = triage
        triage.mkdir()
        (triage / "edge_manifest.json").write_text("{}")

    def rollback(self, reason, *, code, evidence):
        self.calls.append((reason, code, evidence))
        return SimpleNamespace(active="seed", triage=self._triage)


@pytest.fixture
def updater(tmp_path):
    return _Updater(tmp_path / "triage")


def _judge(tmp_path, updater, origin="simulated", **figures):
    context = Context(root=tmp_path)
    return validate._roll_back_if_missed(context, updater, GOOD | figures, origin)


def test_a_bundle_that_passes_stays(tmp_path, updater):
    assert _judge(tmp_path, updater) == []
    assert updater.calls == []


@pytest.mark.parametrize(
    "figures",
    [
        {"distance_ratio": 4.9},
        {"distance_ratio": None},
        {"distance_ratio": float("nan")},
        {"loop_tick_p99_ms": 100.1},
        {"smoke_inference_ok": False},
        {"distance_ratio": "absent"},
    ],
)
def test_a_missed_or_unknown_figure_rolls_back_and_keeps_the_evidence(
    tmp_path, updater, figures
):
    notes = _judge(tmp_path, updater, **figures)
    assert "rolled back to seed" in notes[0]
    reason, code, evidence = updater.calls[0]
    assert next(iter(figures)) in reason
    assert code == "E-PIPE-VALIDATE-001"
    assert json.loads(evidence["figures.json"])["loop_rate_hz"] == 50.0
    assert (Context(root=tmp_path).home.reports / "failed").is_dir()


def test_replayed_frames_have_no_distance_and_that_is_no_miss(tmp_path, updater):
    notes = _judge(tmp_path, updater, "replayed", distance_ratio="absent")
    assert notes == []
