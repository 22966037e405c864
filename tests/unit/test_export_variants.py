"""Smaller and other artifacts: each is measured, gated, and runs by the one protocol."""

from __future__ import annotations

import sys

import attrs
import numpy as np
import pytest

from continuon import hope
from continuon._specs.edge.examples import CONFIG, compile_from
from continuon._specs.hope.examples import parameters
from continuon.cli.program import run
from continuon.edge import check_golden, infer, load_policy
from continuon.edge.spec import read_spec
from continuon.errors import DataError, MissingPackageError, UsageError
from continuon.export.variants import VARIANTS, chosen


@pytest.fixture(scope="module")
def report():
    for package in ("onnx", "onnxruntime", "ai_edge_quantizer"):
        pytest.importorskip(package)
    return compile_from(CONFIG, variants=("int8", "fp16", "onnx"))


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-07")
def test_each_artifact_is_within_its_own_bound_and_not_by_chance(report):
    made = {info.backend: info for info in report.artifacts}
    assert report.parity_ok
    for backend in ("litert", "onnxruntime", "numpy", "stablehlo"):
        assert made[backend].max_abs_error < made[backend].tolerance == 1e-5
    assert 1e-7 < made["litert-fp16"].max_abs_error < 2e-3
    assert 1e-5 < made["litert-int8"].max_abs_error < 0.02
    assert made["litert-int8"].measure == "action"
    sizes = [made[f"litert{kind}"].bytes for kind in ("", "-fp16", "-int8")]
    assert sizes[1] < sizes[0]
    assert made["litert-int8"].precision == "int8"


@pytest.mark.slow
@pytest.mark.req("R-EDGE-09")
def test_every_backend_meets_the_golden_ticks_twice_and_from_a_reset(report):
    for variant in VARIANTS:
        if variant.backend in ("stablehlo", "hailo"):
            continue
        policy = load_policy(report.directory, backend=variant.backend)
        first, again = (check_golden(policy, report.directory) for _ in range(2))
        assert first.ok
        assert first == again
        if variant.precision != "fp32":
            assert first.tolerance == variant.tolerance


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-08")
def test_the_state_stays_float(report):
    from ai_edge_litert.interpreter import Interpreter

    for kind in ("int8", "fp16"):
        path = report.directory / f"policy.{kind}.tflite"
        runner = Interpreter(model_path=str(path)).get_signature_runner("step")
        for details in (runner.get_input_details(), runner.get_output_details()):
            state = {n: d["dtype"] for n, d in details.items() if "state/" in n}
            assert set(state.values()) <= {np.float32, np.int32}
            assert state


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-11")
def test_only_the_layers_are_float16_and_what_meets_the_senses_stays_whole(report):
    from ai_edge_litert.interpreter import Interpreter

    from continuon.export.quantise import to_fp16

    model = Interpreter(model_path=str(report.directory / "policy.fp16.tflite"))
    halves = [
        tuple(detail["shape"].tolist())
        for detail in model.get_tensor_details()
        if detail["dtype"] == np.float16
    ]
    # four products of Fast and Mid and two of each level, no kernel among them
    assert len(halves) == CONFIG.layers * (4 + 2 * len(CONFIG.periods))
    assert {len(shape) for shape in halves} == {2}
    plain = (report.directory / "policy.tflite").read_bytes()
    with pytest.raises(DataError, match="E-EXPORT-FP16-001"):
        to_fp16(plain, [np.ones((3, 5), np.float32)])


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-13")
def test_int8_is_judged_by_what_it_makes_the_robot_do_on_held_out_episodes(report):
    from continuon.export.task import TaskEpisode, task_scores

    rng = np.random.default_rng(0)
    inputs = {
        "image": rng.integers(0, 256, (40, 8, 8, 3), np.uint8),
        "proprio": rng.standard_normal((40, 1)).astype(np.float32),
    }
    policy = load_policy(report.directory, backend="litert")
    teacher = np.stack(
        [policy.step(*pair).action for pair in zip(*inputs.values(), strict=True)]
    )
    valid = np.arange(40) >= 4

    def score(action, backend="litert-int8"):
        episode = TaskEpisode(inputs=inputs, action=action, valid=valid)
        (found,) = task_scores(report.directory, [backend], [episode, episode])
        return found

    near = score(teacher)
    assert near.error_fp32 == 0.0
    assert 0.0 < near.error < 0.02
    assert near.allowed == 0.005
    assert (near.episodes, near.ticks) == (2, 72)
    assert score(-teacher, "numpy").ok
    masked = np.where(valid[:, None], teacher, np.nan)
    assert score(masked).error == near.error
    worse = attrs.evolve(near, error=near.allowed + 1e-3)
    for bad in (worse, attrs.evolve(near, error=float("nan"))):
        assert not attrs.evolve(report, task=(bad,)).parity_ok
    assert attrs.evolve(report, task=(attrs.evolve(near, error=0.0),)).parity_ok
    assert task_scores(report.directory, ["litert-int8"], []) == ()


@pytest.mark.slow
@pytest.mark.req("R-EDGE-09")
def test_a_backend_without_an_artifact_is_refused(tmp_path, report):
    import shutil

    from continuon._specs.edge.examples import compiled

    with pytest.raises(DataError, match="E-EDGE-ARTIFACT-001"):
        load_policy(compiled().directory, backend="onnxruntime")
    with pytest.raises(UsageError, match="E-EDGE-BACKEND-001"):
        load_policy(report.directory, backend="hailo")
    folder = tmp_path / "policy"
    shutil.copytree(report.directory, folder)
    (folder / "policy.onnx").write_bytes(b"no model")
    with pytest.raises(DataError, match="E-EDGE-ARTIFACT-002"):
        load_policy(folder, backend="onnxruntime")


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-10")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"fold": "no base64!"}, "E-EDGE-ONNX-002"),
        ({"fold": "AAAA"}, "E-EDGE-ONNX-001"),
        ({}, "E-EDGE-LITERT-001"),
    ],
)
def test_an_onnx_model_whose_fold_is_broken_or_gone_is_refused(
    report, tmp_path, change, code
):
    import onnx

    from continuon.edge.onnx import OnnxEngine

    model = onnx.load(report.directory / "policy.onnx")
    assert [entry.key for entry in model.metadata_props] == ["fold"]
    onnx.helper.set_model_props(model, change)
    path = tmp_path / "policy.onnx"
    onnx.save(model, path)
    spec = read_spec(report.directory)
    with pytest.raises(DataError) as caught:
        OnnxEngine(path, spec, spec.entry("onnxruntime"))
    assert caught.value.code == code


@pytest.mark.slow
def test_a_file_names_its_backend_and_the_command_prints_three_quantiles(
    report, capsys
):
    found = infer(report.directory / "policy.onnx", ticks=5)
    assert found.backend == "onnxruntime"
    words = ["infer", "--model-path", str(report.directory), "--ticks", "5"]
    assert run([*words, "--backend", "litert-int8"]) == 0
    text = capsys.readouterr().out
    assert "p50" in text
    assert "p99.9" in text
    assert "litert-int8" in text


def test_what_was_not_asked_for_is_not_made_and_a_misspelt_variant_is_an_error():
    assert [v.name for v in chosen(())] == ["", "", "", ""]
    with pytest.raises(UsageError, match="E-EXPORT-VARIANT-001"):
        chosen(("int4",))


@pytest.mark.req("R-EXPORT-09")
def test_what_cannot_be_made_here_is_named_with_the_line_that_installs_it(monkeypatch):
    from continuon.export import variants

    here = {"onnx", "ai_edge_quantizer"}
    monkeypatch.setattr(variants, "find_spec", lambda name: name in here or None)
    names, missing = variants.available()
    assert names == ("int8",)
    assert "onnxruntime is not installed" in missing["onnx"]
    assert "continuon[onnx]" in missing["onnx"]


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-09")
def test_the_command_makes_what_it_can_and_names_the_rest(
    report, tmp_path, monkeypatch, capsys
):
    from continuon.export import variants

    checkpoint = report.directory.parent / "policy.hope"
    words = ["compile", str(checkpoint), "--output-dir", str(tmp_path / "out")]
    assert run(words) == 0
    text = capsys.readouterr().out
    for name in ("policy.tflite", "policy.onnx", "policy.int8.tflite", "policy.hef"):
        assert name in text
    monkeypatch.setattr(variants, "find_spec", lambda _name: None)
    assert run(words) == 0
    text = capsys.readouterr().out
    assert "onnx: not made" in text
    assert "policy.onnx" not in text
    assert not (tmp_path / "out" / "policy.onnx").exists()


@pytest.mark.req("R-EXPORT-05")
def test_a_missing_package_names_the_line_that_installs_it(monkeypatch):
    from continuon.export.onnx_graph import to_onnx
    from continuon.export.quantise import to_int8

    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer.quantizer", None)
    with pytest.raises(MissingPackageError, match=r"continuon\[onnx\]"):
        to_onnx(None)
    with pytest.raises(MissingPackageError, match=r"continuon\[export\]"):
        to_int8(b"")


@pytest.mark.slow
def test_a_network_without_image_or_memory_switches_compiles_to_onnx_too():
    pytest.importorskip("onnx")
    from continuon.export.onnx_graph import to_onnx

    config = attrs.evolve(
        CONFIG,
        image_height=0,
        image_width=0,
        motion_bands=0,
        self_modifying=False,
        online=False,
        use_previous_action=True,
    )
    loaded = hope.checkpoint.Checkpoint(config, parameters(config), {}, "")
    assert to_onnx(loaded)


def test_the_spec_names_precision_and_measure(report):
    spec = read_spec(report.directory)
    assert spec.entry("litert-int8").measure == "action"
    assert spec.entry("litert").tolerance is None
    assert spec.entry("hailo") is None
