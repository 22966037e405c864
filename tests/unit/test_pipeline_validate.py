"""Phase 10: a missed gate rolls the bundle back and keeps it with its figures."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("simplejpeg")

from continuon.errors import HardwareError, UsageError
from continuon.ota.gate import GateReport
from continuon.pipeline.context import Context
from continuon.pipeline.gates import Verdict
from continuon.pipeline.phase import Outcome
from continuon.pipeline.phases import validate
from continuon.pipeline.receipt import Receipt, write_receipt
from continuon.pipeline.upstream import receipt_path

GOOD = {
    "bundle": "aa",
    "loop_tick_p99_ms": 3.0,
    "loop_rate_hz": 50.0,
    "missed_periods_fraction": 0.0,
    "smoke_inference_ok": True,
    "policy_log_valid": True,
    "teleop_run_ok": True,
    "autonomous_run_ok": True,
    "distance_ratio": 12.0,
    "deployed_distance_m_mean": 30.0,
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
        {"deployed_distance_m_mean": 4.9},
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
    notes = _judge(
        tmp_path,
        updater,
        "replayed",
        **dict.fromkeys(validate.DISTANCES, "absent"),
    )
    assert notes == []


# The measurement itself fails.


class _Device:
    """An updater whose active slot is `aa`."""

    def __init__(self, slot=Path("slots/aa")):
        self.calls = []
        self._slot = slot

    def recover(self):
        self.calls.append("recover")

    def active_slot(self):
        return self._slot

    def rollback(self, reason, *, code):
        self.calls.append(code)


@pytest.fixture
def device(monkeypatch):
    device = _Device()
    monkeypatch.setattr(validate, "make_updater", lambda *_: device)

    def fail(*_):
        raise HardwareError("E-RIG-CAM-001", "the camera is gone")

    monkeypatch.setattr(validate, "_measure", fail)
    return device


def _run(tmp_path):
    return validate.run(Context(root=tmp_path), lambda *_: None)


@pytest.mark.req("R-VALIDATE-01")
def test_a_validation_that_breaks_off_rolls_an_unproven_bundle_back(tmp_path, device):
    with pytest.raises(HardwareError, match="E-RIG-CAM-001"):
        _run(tmp_path)
    assert device.calls == ["recover", "E-PIPE-VALIDATE-003"]


@pytest.mark.req("R-VALIDATE-01")
@pytest.mark.parametrize(
    ("bundle", "verdict", "rig", "stays"),
    [
        ("aa", Verdict.PASSED, "sim", True),
        ("bb", Verdict.PASSED, "sim", False),
        ("aa", Verdict.MISSED, "sim", False),
        ("aa", Verdict.PASSED, "pi", False),
    ],
)
def test_only_a_bundle_that_passed_before_outlives_a_broken_measurement(
    tmp_path, device, bundle, verdict, rig, stays
):
    context = Context(root=tmp_path, rig=rig)
    before = Receipt(
        phase=10,
        name="validate",
        verdict=verdict,
        origin="simulated",
        inputs={},
        outputs={},
        figures={"bundle": bundle},
        checks=(),
        host={},
        started_unix_ms=1,
        duration_s=1.0,
        peak_memory_bytes=1,
    )
    write_receipt(receipt_path(context, "validate"), before)
    with pytest.raises(HardwareError):
        validate.run(context, lambda *_: None)
    assert ("E-PIPE-VALIDATE-003" not in device.calls) is stays


@pytest.mark.req("R-VALIDATE-01")
@pytest.mark.parametrize(
    ("figures", "stays"), [({}, True), ({"loop_tick_p99_ms": 100.1}, False)]
)
def test_a_pass_outlives_the_receipt_of_a_measurement_that_broke_off(
    tmp_path, device, updater, figures, stays
):
    _judge(tmp_path, updater)
    _judge(tmp_path, updater, **figures)
    for _ in range(2):
        with pytest.raises(HardwareError):
            _run(tmp_path)
    assert ("E-PIPE-VALIDATE-003" not in device.calls) is stays


@pytest.mark.req("R-VALIDATE-01")
def test_a_record_of_passes_that_is_damaged_vouches_for_nothing(tmp_path, device):
    record = validate._record(Context(root=tmp_path))
    record.parent.mkdir(parents=True)
    record.write_bytes(b'{"sim": ')
    with pytest.raises(HardwareError):
        _run(tmp_path)
    assert "E-PIPE-VALIDATE-003" in device.calls


@pytest.mark.req("R-VALIDATE-01")
def test_nothing_deployed_is_a_usage_error_and_no_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "make_updater", lambda *_: _Device(slot=None))
    with pytest.raises(UsageError, match="E-PIPE-VALIDATE-002"):
        _run(tmp_path)


@pytest.mark.parametrize(
    ("commanded", "reached"),
    [((0.1, 0.2), True), ((0.0, 0.2), False), ((float("nan"), 0.2), False)],
)
def test_a_teleop_run_counts_only_where_the_command_went_out(commanded, reached):
    assert validate._reached(commanded) is reached


# A bundle that a person put on trial.


class _OnTrial(_Device):
    """One whose active slot is on trial until it is committed."""

    def __init__(self, *, on_trial):
        super().__init__()
        self.on_trial = on_trial

    def status(self):
        return SimpleNamespace(on_trial=self.on_trial)

    def commit(self, report):
        self.calls.append(report)
        return SimpleNamespace(version="0.2.0")


@pytest.mark.req("R-VALIDATE-02")
@pytest.mark.parametrize("on_trial", [True, False])
@pytest.mark.parametrize("good", [True, False])
def test_a_pass_is_the_trial_of_a_bundle_that_was_activated_by_hand(
    tmp_path, monkeypatch, on_trial, good
):
    device = _OnTrial(on_trial=on_trial)
    measured = GOOD | {
        "golden_max_abs_error": 0.0,
        "policy_p99_ms": 1.0,
        "autonomous_ticks": 300,
        "veto_fraction": 0.0,
        "non_finite": 0,
        "missed_periods": 0,
        "smoke_inference_ok": good,
    }
    monkeypatch.setattr(validate, "make_updater", lambda *_: device)
    monkeypatch.setattr(
        validate,
        "_measure",
        lambda *_: Outcome(figures=measured, outputs=(), origin="simulated"),
    )
    monkeypatch.setattr(
        validate, "_roll_back_if_missed", lambda *_: [] if good else ["no"]
    )
    outcome = _run(tmp_path)
    reports = [call for call in device.calls if isinstance(call, GateReport)]
    assert bool(reports) is (on_trial and good)
    if reports:
        assert (reports[0].bundle, reports[0].ticks) == ("aa", 300)
        assert "good one now" in outcome.notes[-1]
