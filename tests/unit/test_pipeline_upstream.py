"""What must have passed before a phase starts, one run at a time, whose data it was."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import attrs
import pytest

from continuon.bundle import build_bundle
from continuon.errors import BudgetError, DataError, GateMissedError
from continuon.pipeline import runner, upstream
from continuon.pipeline.bench_robot import held_out_ids
from continuon.pipeline.context import Context
from continuon.pipeline.digest import digest_path
from continuon.pipeline.gates import GateLine, PhaseGate, Verdict
from continuon.pipeline.lock import hold_home
from continuon.pipeline.origins import (
    agreed_origin,
    learns_from_import,
    learnt_origin,
)
from continuon.pipeline.phase import PHASES, load_phase
from continuon.pipeline.receipt import Receipt, write_receipt
from continuon.pipeline.upstream import (
    READS,
    REQUIRES,
    is_updated_by_hand,
    passed_receipt,
    receipt_path,
    stale_reasons,
)


def receipt(name, **changes):
    plain = Receipt(
        phase=PHASES.index(name) + 1,
        name=name,
        verdict=Verdict.PASSED,
        origin="simulated",
        inputs={},
        outputs={},
        figures={},
        checks=(),
        host={},
        started_unix_ms=1,
        duration_s=1.0,
        peak_memory_bytes=1,
    )
    return attrs.evolve(plain, **changes)


@pytest.fixture
def context(tmp_path):
    return Context(root=tmp_path / "home")


def leave(context, name, **changes):
    write_receipt(receipt_path(context, name), receipt(name, **changes))


def test_every_phase_that_reads_names_the_phase_that_writes():
    for name, needed in REQUIRES.items():
        assert all(PHASES.index(one) < PHASES.index(name) for one in needed)
    assert set(REQUIRES) == set(PHASES)


@pytest.mark.req("R-RECEIPT-05")
def test_a_phase_whose_predecessor_never_ran_is_refused(context):
    with pytest.raises(DataError, match="E-PIPE-UPSTREAM-001"):
        passed_receipt(context, "capture")


@pytest.mark.req("R-RECEIPT-05")
@pytest.mark.parametrize(
    "verdict", [v for v in Verdict if v is not Verdict.PASSED], ids=str
)
def test_a_phase_whose_predecessor_did_not_pass_is_refused(context, verdict):
    leave(context, "proof", verdict=verdict)
    with pytest.raises(GateMissedError, match="E-PIPE-UPSTREAM-002"):
        passed_receipt(context, "proof")


@pytest.mark.req("R-RECEIPT-05")
@pytest.mark.parametrize("damage", ["changed", "lost"])
def test_a_phase_whose_predecessor_left_something_else_is_refused(context, damage):
    kept = context.root / "rlds" / "episodes"
    kept.mkdir(parents=True)
    (kept / "a.mcap").write_text("one")
    leave(context, "capture", outputs={"rlds/episodes": digest_path(kept)})
    assert passed_receipt(context, "capture").name == "capture"
    if damage == "changed":
        (kept / "a.mcap").write_text("two")
    else:
        (kept / "a.mcap").unlink()
        kept.rmdir()
    with pytest.raises(DataError, match="E-PIPE-UPSTREAM-003"):
        passed_receipt(context, "capture")


@pytest.mark.req("R-RECEIPT-05")
def test_a_bundle_is_not_built_after_a_missed_proof(context, monkeypatch):
    def started(*_args):
        pytest.fail("the worker was started")

    monkeypatch.setattr(runner, "_run_worker", started)
    for name in REQUIRES["bundle"]:
        leave(context, name)
    leave(context, "proof", verdict=Verdict.MISSED)
    gate = PhaseGate(number=8, name="bundle", title="t", lines=())
    run = runner.run_phase(context, gate)
    assert (run.receipt.verdict, run.exit_code) == (Verdict.REFUSED, 3)
    assert run.receipt.error["code"] == "E-PIPE-UPSTREAM-002"


@pytest.mark.req("R-RECEIPT-06")
def test_two_runs_never_work_on_one_home(tmp_path):
    with (
        hold_home(tmp_path),
        pytest.raises(BudgetError, match="E-PIPE-BUSY-001"),
        hold_home(tmp_path),
    ):
        pass
    with hold_home(tmp_path):
        pass


@pytest.mark.slow
@pytest.mark.req("R-RECEIPT-06")
def test_a_worker_that_outlives_its_parent_keeps_the_home(tmp_path):
    """The parent dies by SIGKILL; the descriptor that the worker has is the lock."""
    read, write = os.pipe()
    with hold_home(tmp_path) as lock:
        worker = subprocess.Popen(
            [sys.executable, "-c", f"import os; os.read({read}, 1)"],
            pass_fds=(lock, read),
        )
    try:
        with pytest.raises(BudgetError, match="E-PIPE-BUSY-001"), hold_home(tmp_path):
            pass
    finally:
        os.close(write)
        os.close(read)
        worker.wait()
    with hold_home(tmp_path):
        pass


@pytest.mark.req("R-ORIGIN-01")
def test_the_origin_is_what_the_episodes_say(context):
    assert agreed_origin(["simulated", "simulated"], context) == "simulated"


@pytest.mark.req("R-ORIGIN-01")
@pytest.mark.parametrize("rig", ["sim", "pi"])
def test_no_flag_makes_an_imported_recording_real(tmp_path, rig):
    context = Context(root=tmp_path, rig=rig)
    with pytest.raises(DataError, match="E-PIPE-ORIGIN-002"):
        agreed_origin(["imported"], context)


@pytest.mark.req("R-ORIGIN-01")
def test_episodes_of_different_origins_are_not_mixed(context):
    with pytest.raises(DataError, match="E-PIPE-ORIGIN-001"):
        agreed_origin(["simulated", "imported"], context)


@pytest.mark.req("R-ORIGIN-02")
def test_what_was_learnt_from_a_recording_is_never_driven_in_the_simulator(context):
    assert not learns_from_import(context)
    leave(context, "train", origin="imported")
    assert learnt_origin(context) == "imported"
    assert learns_from_import(context)


@pytest.mark.req("R-ORIGIN-02")
def test_no_flag_shows_replayed_frames_to_what_learnt_in_the_simulator(context):
    """Gate 10 spares replayed frames the distance that the simulator would measure."""
    started = attrs.evolve(context, episodes_from=context.root)
    assert learns_from_import(started)
    leave(context, "train", origin="simulated")
    assert not learns_from_import(context)
    with pytest.raises(DataError, match="E-PIPE-ORIGIN-003"):
        learns_from_import(started)


@pytest.mark.req("R-ORIGIN-02")
def test_a_slot_that_was_put_here_by_hand_says_what_its_policy_learnt_from(context):
    artifacts = context.root / "artifacts"
    artifacts.mkdir(parents=True)
    (artifacts / "golden.json").write_text("{}")
    (artifacts / "policy.weights").write_bytes(b"w")
    for number, origin in enumerate(("simulated", "imported"), start=1):
        build_bundle(
            context.home.model / "slots" / origin,
            artifacts_dir=artifacts,
            model_name="m",
            version=f"0.{number}.0",
            release_counter=number,
            source="test",
            created_at_unix_ms=1,
            origins=[origin],
        )
        assert learns_from_import(context) is (origin == "imported")
    with pytest.raises(DataError, match="E-PIPE-REPLAY-001"):
        held_out_ids(context)


@pytest.mark.req("R-RECEIPT-05")
def test_what_was_deployed_by_hand_is_validated_without_a_receipt(context):
    assert not is_updated_by_hand(context, "validate")
    context.home.model.mkdir(parents=True)
    assert is_updated_by_hand(context, "validate")
    assert not is_updated_by_hand(context, "bundle")
    leave(context, "ota", verdict=Verdict.MISSED)
    assert not is_updated_by_hand(context, "validate")


@pytest.mark.req("R-RECEIPT-07")
def test_real_hardware_is_never_up_to_date(tmp_path):
    """Twice the same question to real hardware is two measurements."""
    from continuon.pipeline.rigs import rig_input

    pi = Context(root=tmp_path, rig="pi")
    assert rig_input(pi) != rig_input(pi)
    assert rig_input(pi) != rig_input(Context(root=tmp_path))
    assert rig_input(Context(root=tmp_path)) == rig_input(Context(root=tmp_path))


@pytest.mark.req("R-RECEIPT-07")
@pytest.mark.parametrize("name", ["health", "boot", "capture", "ota", "validate"])
def test_every_phase_that_touches_a_rig_has_it_among_its_inputs(tmp_path, name):
    pytest.importorskip("simplejpeg")
    phase = load_phase(name)
    sim, pi = (
        {
            key: str(value)
            for key, value in phase.inputs(Context(root=tmp_path, rig=rig)).items()
        }
        for rig in ("sim", "pi")
    )
    assert sim != pi


@pytest.mark.req("R-RECEIPT-08")
def test_a_worker_that_fails_after_its_outcome_has_not_passed(tmp_path, monkeypatch):
    program = tmp_path / "worker"
    program.write_text('#!/bin/sh\necho \'{"outcome": {"figures": {}}}\'\nexit 7\n')
    program.chmod(0o755)
    monkeypatch.setattr(runner, "sys", SimpleNamespace(executable=str(program)))
    message = runner._run_worker("sanity", Context(root=tmp_path), print)
    assert message["error"]["code"] == "E-PIPE-WORKER-001"
    assert "7" in message["error"]["seen"]


@pytest.mark.req("R-GATE-01")
def test_an_outcome_that_names_no_origin_is_of_unknown_origin(context):
    gate = PhaseGate(
        number=4,
        name="sanity",
        title="t",
        lines=(GateLine(figure="f", op="==", threshold=1, hint="h"),),
    )
    message = {"outcome": {"figures": {"f": "absent"}}}
    told = runner._judge(gate, context, {}, message, started=1, clock=0.0)
    assert told.origin == "unknown"
    assert told.verdict is not Verdict.PASSED


def whole(stop_at="validate"):
    """Receipts of a whole run, each output digest named after who left it."""
    receipts = {}
    for name in PHASES:
        outputs = {out: f"{name} left {out}" for _, src, out, _ in READS if src == name}
        inputs = {"settings": "s"} | {
            taken: f"{source} left {output}"
            for reader, source, output, taken in READS
            if reader == name
        }
        receipts[name] = receipt(name, outputs=outputs, inputs=inputs)
        if name == stop_at:
            break
    return receipts


@pytest.mark.req("R-RECEIPT-09")
def test_nothing_of_one_whole_run_is_stale():
    for name in PHASES:
        assert stale_reasons(whole(name)) == {}


@pytest.mark.req("R-RECEIPT-09")
def test_what_follows_from_other_episodes_is_stale_to_the_end():
    receipts = whole()
    again = {"rlds/episodes": "other episodes"}
    receipts["capture"] = attrs.evolve(receipts["capture"], outputs=again)
    assert set(stale_reasons(receipts)) == {name for name, *_ in READS}


@pytest.mark.req("R-RECEIPT-09")
def test_what_follows_a_phase_that_does_not_pass_any_more_is_stale():
    receipts = whole()
    receipts["train"] = attrs.evolve(receipts["train"], verdict=Verdict.MISSED)
    assert set(stale_reasons(receipts)) == {"bundle", "ota", "validate"}


@pytest.mark.req("R-RECEIPT-09")
def test_a_bundle_whose_proof_was_made_again_is_stale():
    receipts = whole()
    other = {"proof_of_learning.json": "another proof"}
    receipts["proof"] = attrs.evolve(receipts["proof"], outputs=other)
    assert set(stale_reasons(receipts)) == {"bundle", "ota", "validate"}


@pytest.mark.req("R-RECEIPT-09")
def test_a_stale_receipt_lets_no_phase_start(context, monkeypatch):
    def started(*_args):
        pytest.fail("the worker was started")

    monkeypatch.setattr(runner, "_run_worker", started)
    monkeypatch.setattr(upstream, "outputs_match", lambda *_: True)
    for name, there in whole("train").items():
        leave(context, name, inputs=there.inputs, outputs=there.outputs)
    again = {"rlds/episodes": "other episodes"}
    leave(context, "capture", inputs={"settings": "s"}, outputs=again)
    gate = PhaseGate(number=8, name="bundle", title="t", lines=())
    run = runner.run_phase(context, gate)
    assert (run.receipt.verdict, run.exit_code) == (Verdict.REFUSED, 3)
    assert run.receipt.error["code"] == "E-PIPE-UPSTREAM-004"


@pytest.mark.req("R-RECEIPT-09")
def test_each_input_that_is_compared_is_one_that_its_phase_has(tmp_path):
    pytest.importorskip("simplejpeg")
    for name, _, output, taken in READS:
        inputs = load_phase(name).inputs(Context(root=tmp_path))
        assert inputs[taken] == tmp_path / output
