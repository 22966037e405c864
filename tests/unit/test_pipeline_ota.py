"""Phase 9: a trial that only missed periods is tried once more, and no other is."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from continuon.bundle import build_bundle, generate_key, sign_bundle, verify_bundle
from continuon.errors import TrustError, UsageError
from continuon.ota import Updater
from continuon.ota.gate import GateReport, Miss
from continuon.pipeline.context import Context
from continuon.pipeline.gates import Verdict, load_gates
from continuon.pipeline.phases import ota

ROBOT = SimpleNamespace(control=None, guard=None, state_names=("speed_mps",))


def _report(*figures):
    misses = tuple(Miss(figure, 1.0, "at most 0") for figure in figures)
    return SimpleNamespace(
        committed=not misses, health=SimpleNamespace(misses=misses, passed=not misses)
    )


@pytest.fixture
def swap(monkeypatch):
    calls, answers = [], []

    def fake(control, guard, updater, **more):
        calls.append(more)
        return answers.pop(0)

    monkeypatch.setattr(ota, "hot_swap_update", fake)
    return SimpleNamespace(calls=calls, answers=answers)


def _update(notes):
    return ota._update(ROBOT, None, notes, again=Path("bundle"))


def test_a_trial_that_passes_is_not_repeated(swap):
    swap.answers.append(_report())
    assert _update([]).committed
    assert len(swap.calls) == 1


def test_missed_periods_alone_are_tried_once_more_and_said(swap):
    swap.answers += [_report("missed_periods"), _report()]
    notes = []
    assert _update(notes).committed
    assert swap.calls[1]["retry"] is True
    assert "tried once more" in notes[0]


def test_a_second_miss_is_final(swap):
    swap.answers += [_report("missed_periods"), _report("missed_periods")]
    assert not _update([]).committed
    assert len(swap.calls) == 2


@pytest.mark.parametrize("figures", [("latency_p99_ms",), ("missed_periods", "ticks")])
def test_any_other_miss_is_final_at_once(swap, figures):
    swap.answers.append(_report(*figures))
    assert not _update([]).committed
    assert len(swap.calls) == 1


@pytest.mark.req("R-OTA-PHASE-03")
def test_a_repository_that_offers_another_bundle_is_no_update():
    ota._require_same("aa", "aa")
    with pytest.raises(TrustError, match="E-PIPE-OTA-002"):
        ota._require_same("bb", "aa")


@pytest.mark.req("R-OTA-PHASE-02")
def test_a_bundle_that_failed_here_is_refused_with_the_way_to_try_it_again(
    tmp_path, monkeypatch
):
    def fail(*_):
        raise UsageError("E-OTA-STATE-004", "this bundle was tried here", exit_code=5)

    monkeypatch.setattr(ota, "_run", fail)
    with pytest.raises(UsageError, match=r"E-OTA-STATE-004.*--only ota --force"):
        ota.run(Context(root=tmp_path), lambda *_: None)


@pytest.mark.req("R-OTA-PHASE-02")
@pytest.mark.parametrize("retry", [False, True])
def test_only_who_asks_for_it_retries_what_failed(swap, retry):
    swap.answers.append(_report())
    ota._update(ROBOT, None, [], again=Path("bundle"), retry=retry)
    assert swap.calls[0]["retry"] is retry


# The robot has the bundle already.

FIGURES = SimpleNamespace(
    missed_periods=0,
    golden_max_error=1e-6,
    latency_p99_ms=3.0,
    veto_fraction=0.0,
    ticks=150,
)
HEALTH = SimpleNamespace(
    passed=True,
    report=FIGURES,
    timing=SimpleNamespace(lateness_ms=SimpleNamespace(p99=0.1, max=0.2)),
)


class Loop:
    """Counts ticks; a swap takes one."""

    def __init__(self):
        self.log = SimpleNamespace(count=10)
        self.swapped = []

    def start_executing(self):
        """Let it run."""

    def stop_executing(self):
        """Let it stand."""

    def swap(self, directory, backend, *, limits):
        self.swapped.append((directory, backend, limits))
        return SimpleNamespace(tick=self.log.count + 1)


@pytest.fixture
def robot():
    guard = SimpleNamespace(report=lambda: SimpleNamespace(trips=0))
    return SimpleNamespace(
        control=Loop(), guard=guard, state_names=(), run_for=lambda seconds: (0, 1)
    )


@pytest.fixture
def device(tmp_path):
    """Two bundles committed one after the other, as real slots."""
    key = generate_key()
    updater = Updater(tmp_path / "model", [key.public])
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    (artifacts / "golden.json").write_text("{}")
    for number in (1, 2):
        (artifacts / "policy.weights").write_bytes(bytes([number]) * 9)
        source = tmp_path / f"bundle-{number}"
        build_bundle(
            source,
            artifacts_dir=artifacts,
            model_name="m",
            version=f"0.{number}.0",
            release_counter=number,
            source="test",
            created_at_unix_ms=1,
            origins=["synthetic"],
        )
        sign_bundle(source, [key])
        staged = updater.stage(source)
        updater.activate(staged.bundle)
        offered = verify_bundle(source, [key.public])
        gate = offered.manifest.health_gate
        figures = GateReport(
            bundle=staged.bundle,
            golden_max_error=0.0,
            latency_p99_ms=1.0,
            ticks=gate.soak_ticks,
            veto_fraction=0.0,
            non_finite=0,
            missed_periods=0,
            elapsed_s=1.0,
        )
        updater.commit(figures)
    return SimpleNamespace(updater=updater, offered=offered)


def _again(robot, device, monkeypatch, health=HEALTH):
    monkeypatch.setattr(ota, "watch_trial", lambda *_args, **_more: health)
    figures = ota._again(robot, device.updater, device.offered)
    gate = next(gate for gate in load_gates() if gate.name == "ota")
    return figures, gate.check(figures, origin="simulated")[0]


@pytest.mark.req("R-OTA-PHASE-01")
def test_a_bundle_that_runs_already_is_swapped_in_again_and_measured(
    robot, device, monkeypatch
):
    figures, verdict = _again(robot, device, monkeypatch)
    assert verdict is Verdict.PASSED
    assert figures["committed"]
    ((directory, backend, limits),) = robot.control.swapped
    assert directory == device.updater.active_slot()
    assert (backend, limits is None) == ("numpy", False)


@pytest.mark.req("R-OTA-PHASE-01")
@pytest.mark.parametrize("damage", ["changed", "lost"])
def test_a_destroyed_way_back_is_never_assumed_to_be_whole(
    robot, device, monkeypatch, damage
):
    previous = device.updater.status().previous.directory
    if damage == "lost":
        shutil.rmtree(previous)
    else:
        path = previous / "policy.weights"
        path.chmod(0o644)
        path.write_bytes(b"x")
    figures, verdict = _again(robot, device, monkeypatch)
    assert figures["previous_bundle_verifies"] is False
    assert verdict is Verdict.MISSED


@pytest.mark.req("R-OTA-PHASE-01")
def test_a_trial_that_misses_its_gate_again_is_a_miss(robot, device, monkeypatch):
    late = SimpleNamespace(**{**vars(HEALTH), "passed": False})
    figures, verdict = _again(robot, device, monkeypatch, late)
    assert figures["health_gate"] == "missed"
    assert verdict is Verdict.MISSED


@pytest.mark.req("R-OTA-PHASE-01")
def test_a_damaged_slot_is_not_swapped_in(robot, device, monkeypatch):
    path = device.updater.active_slot() / "policy.weights"
    path.chmod(0o644)
    path.write_bytes(b"x")
    with pytest.raises(TrustError):
        _again(robot, device, monkeypatch)
    assert robot.control.swapped == []
