"""The runner: receipts, freshness by content, and stopping at the first missed gate."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from continuon.errors import DataError, UsageError
from continuon.pipeline import runner
from continuon.pipeline.context import Context, workspace
from continuon.pipeline.digest import digest_path
from continuon.pipeline.gates import GateLine, PhaseGate, Verdict
from continuon.pipeline.phase import PHASES, load_phase
from continuon.pipeline.receipt import read_receipt

GATE = PhaseGate(
    number=4,
    name="sanity",
    title="t",
    lines=(GateLine(figure="f", op="<=", threshold=5.0, hint="do"),),
)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A phase of our own: reads `in`, writes `out`, and its worker is a function."""
    source = tmp_path / "in"
    source.write_text("one")
    context = Context(root=tmp_path / "home")
    result = {"f": 1.0}
    calls = []

    def worker(name, context, progress, lock=None):
        calls.append(name)
        progress(1, 1, name)
        out = context.root / "out"
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(source.read_text())
        return {
            "outcome": {
                "figures": dict(result),
                "outputs": [str(out)],
                "origin": "simulated",
                "peak_memory_bytes": 7,
            }
        }

    fake = SimpleNamespace(ROOMS=(), inputs=lambda context: {"in": source, "seed": "0"})
    monkeypatch.setattr(runner, "load_phase", lambda name: fake)
    monkeypatch.setattr(runner, "_run_worker", worker)
    monkeypatch.setattr(runner, "require_upstream", lambda *_: None)
    return SimpleNamespace(source=source, context=context, result=result, calls=calls)


@pytest.mark.req("R-RECEIPT-01")
def test_a_phase_leaves_a_receipt_with_digests_figures_and_verdict(bench):
    run = runner.run_phase(bench.context, GATE)
    assert run.exit_code == 0
    receipt = read_receipt(runner.receipt_path(bench.context, "sanity"))
    assert receipt == run.receipt
    assert receipt.verdict is Verdict.PASSED
    assert receipt.inputs["in"] == digest_path(bench.source)
    assert set(receipt.outputs) == {"out"}
    assert receipt.origin == "simulated"


@pytest.mark.req("R-RECEIPT-02")
def test_unchanged_inputs_and_outputs_are_up_to_date(bench):
    runner.run_phase(bench.context, GATE)
    run = runner.run_phase(bench.context, GATE)
    assert not run.fresh
    assert len(bench.calls) == 1


@pytest.mark.parametrize("change", ["input", "output", "lost output", "force"])
def test_a_changed_byte_runs_the_phase_again(bench, change):
    runner.run_phase(bench.context, GATE)
    out = bench.context.root / "out"
    if change == "input":
        bench.source.write_text("two")
    elif change == "output":
        out.write_text("tampered")
    elif change == "lost output":
        out.unlink()
    assert runner.run_phase(bench.context, GATE, force=change == "force").fresh
    assert len(bench.calls) == 2


@pytest.mark.req("R-GATE-04")
def test_a_missed_gate_is_exit_three_and_is_tried_again(bench):
    bench.result["f"] = 9.0
    run = runner.run_phase(bench.context, GATE)
    assert run.exit_code == 3
    assert run.receipt.missed[0].figure == "f"
    assert runner.run_phase(bench.context, GATE).fresh


def test_an_unknown_figure_is_exit_three(bench):
    bench.result["f"] = None
    run = runner.run_phase(bench.context, GATE)
    assert (run.receipt.verdict, run.exit_code) == (Verdict.UNKNOWN, 3)


def test_a_missing_input_refuses_the_phase_before_any_work(bench):
    bench.source.unlink()
    run = runner.run_phase(bench.context, GATE)
    assert run.receipt.verdict is Verdict.REFUSED
    assert run.receipt.error["code"] == "E-PIPE-DIGEST-001"
    assert run.exit_code == 1
    assert bench.calls == []


def test_the_pipeline_stops_at_the_first_phase_that_does_not_pass(bench):
    bench.result["f"] = 9.0
    runs = runner.run_pipeline(bench.context, phases=("sanity", "proof"))
    assert len(runs) == 1


@pytest.mark.req("R-RECEIPT-04")
def test_a_receipt_that_is_no_receipt_is_named(bench):
    path = runner.receipt_path(bench.context, "sanity")
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(DataError, match="E-PIPE-RECEIPT-001"):
        read_receipt(path)


@pytest.mark.req("R-RECEIPT-03")
def test_a_worker_that_dies_is_an_error_not_a_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(runner.sys, "executable", "/bin/false")
    message = runner._run_worker("sanity", Context(root=tmp_path), print)
    assert message["error"]["code"] == "E-PIPE-WORKER-001"


def test_an_unknown_phase_lists_the_ten():
    with pytest.raises(UsageError, match="validate"):
        load_phase("dance")


def test_runs_on_different_recordings_never_share_a_home(tmp_path):
    one, two = tmp_path / "a" / "tub", tmp_path / "b" / "tub"
    one.mkdir(parents=True)
    two.mkdir(parents=True)
    homes = {
        workspace(tmp_path, None),
        workspace(tmp_path, one),
        workspace(tmp_path, two),
    }
    assert len(homes) == 3
    with pytest.raises(UsageError, match="E-PIPE-SOURCE-001"):
        workspace(tmp_path, tmp_path / "missing")


def test_a_folder_s_digest_sees_names_and_contents_but_no_unfinished_file(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a").write_text("1")
    first = digest_path(folder)
    (folder / "b.part").write_text("half")
    assert digest_path(folder) == first
    (folder / "a").rename(folder / "c")
    assert digest_path(folder) != first


@pytest.mark.req("R-RECEIPT-02")
@pytest.mark.parametrize(
    "name",
    [
        "pipeline/drive.py",
        "pipeline/phases/sanity.py",
        "errors.py",
        "learn/sanity.py",
        "_specs/health/thresholds.toml",
    ],
)
def test_every_file_that_can_change_a_figure_is_an_input(name):
    sources = runner._sources(("learn",), "sanity")
    assert any(path.as_posix().endswith(f"continuon/{name}") for path in sources)


def test_another_phase_and_another_room_are_no_inputs():
    names = {path.as_posix() for path in runner._sources(("learn",), "sanity")}
    assert not any("/ota/" in name or "phases/train.py" in name for name in names)
    assert not any(name.endswith("gates.toml") for name in names)


@pytest.mark.req("R-RECEIPT-02")
@pytest.mark.parametrize("name", PHASES)
def test_a_phase_names_every_room_that_it_imports(name):
    package = Path(runner.__file__).parents[1]
    phase = load_phase(name)
    told = {
        path.relative_to(package).parts[0]
        for path in runner._sources(phase.ROOMS, name)
        if len(path.relative_to(package).parts) > 1
    }
    text = (package / "pipeline" / "phases" / f"{name}.py").read_text("utf-8")
    used = set(re.findall(r"continuon\.(\w+)", text))
    rooms = {room for room in used if (package / room).is_dir()} - {"pipeline"}
    assert rooms <= told


def test_a_library_s_chatter_is_kept_back_and_every_other_word_passed_on(capsys):
    chatter = [
        b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n",
        b"WARNING: All log messages before absl::InitializeLog() is called are ...\n",
        b"\rApplying Transformations to tensors::   0%|  | 0/679 [00:00<?, ?it/s]\n",
        b"I0000 00:00:1795667226.982304   13456 port.cc:153] oneDNN operations\n",
    ]
    said = [
        b"E0000 00:00:1795667226.982304   13456 a.cc:1] an error\n",
        b"W0000 00:00:1795667226.982304   13456 a.cc:1] a warning\n",
        b"In a traceback\n",
        b"\xff\n",
    ]
    runner._pass_on(iter([*chatter, *said]))
    assert capsys.readouterr().err.splitlines() == [
        line.decode("utf-8", "replace").strip() for line in said
    ]
