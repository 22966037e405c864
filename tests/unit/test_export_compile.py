"""A checkpoint becomes artifacts that answer as JAX does, and says how nearly."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest

from continuon import export, hope
from continuon._specs.edge.examples import CONFIG, compiled, compiled_blind
from continuon._specs.hope.examples import RICH, observations, parameters
from continuon.edge import load_policy
from continuon.errors import ContractError, DataError, MissingPackageError
from continuon.export.compile import TOLERANCE
from continuon.export.observations import golden_inputs
from continuon.robot.policies import load_checked, load_edge_policy

SCHEMA = Path(hope.__file__).parents[1] / "_specs" / "edge" / "files.schema.json"


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-01")
@pytest.mark.parametrize("make", [compiled, compiled_blind])
def test_every_runnable_artifact_answers_as_jax_does(make):
    report = make()
    errors = {info.backend: info.max_abs_error for info in report.artifacts}
    assert errors.pop("hailo") is None
    assert sorted(errors) == ["litert", "numpy", "stablehlo"]
    assert max(errors.values()) < TOLERANCE / 10
    assert report.parity_ok
    for info in report.artifacts:
        assert info.path.stat().st_size == info.bytes
    assert json.loads(json.dumps(report.as_dict()))["parity_ok"] is True


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-01")
@pytest.mark.parametrize("error", [2 * TOLERANCE, float("nan"), float("inf")])
def test_an_error_beyond_the_tolerance_or_unknown_is_no_parity(error):
    report = compiled()
    first = attrs.evolve(report.artifacts[0], max_abs_error=error)
    broken = attrs.evolve(report, artifacts=(first, *report.artifacts[1:]))
    assert not broken.parity_ok


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-02")
def test_golden_ticks_are_labelled_and_long_enough():
    report = compiled()
    golden = json.loads((report.directory / "golden.json").read_bytes())
    assert golden["origin"] == report.golden_origin == "synthetic"
    assert golden["outputs"]["action"]["shape"] == [report.golden_ticks, 2]
    assert report.golden_ticks > max(CONFIG.periods)


@pytest.mark.req("R-EXPORT-02")
def test_given_observations_are_cut_and_checked():
    wanted = ("image", "proprio")
    given = {n: observations(CONFIG, batch=1, ticks=60)[n][0] for n in wanted}
    assert {n: len(v) for n, v in golden_inputs(CONFIG, given).items()} == {
        "image": 40,
        "proprio": 40,
    }
    few = {name: value[:15] for name, value in given.items()}
    for bad, code in (
        ({"image": given["image"]}, "E-EXPORT-GOLDEN-001"),
        (given | {"proprio": given["proprio"][:, :0]}, "E-EXPORT-GOLDEN-002"),
        (given | {"image": given["image"] / 255}, "E-EXPORT-GOLDEN-002"),
        (few, "E-EXPORT-GOLDEN-003"),
    ):
        with pytest.raises(ContractError) as caught:
            golden_inputs(CONFIG, bad)
        assert caught.value.code == code


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-03")
def test_the_placeholder_says_so_and_holds_nothing():
    directory = compiled().directory
    placeholder = json.loads((directory / "policy.hef.json").read_bytes())
    assert placeholder["placeholder"] is True
    assert placeholder["loadable"] is False
    assert placeholder["compiler_found"] is False
    spec = json.loads((directory / "spec.json").read_bytes())
    labels = {entry["backend"]: entry["is_placeholder"] for entry in spec["artifacts"]}
    assert labels == {
        "litert": False,
        "numpy": False,
        "stablehlo": False,
        "hailo": True,
    }


@pytest.mark.req("R-EXPORT-03")
def test_the_placeholder_tells_whether_a_compiler_was_looked_for_and_found(
    tmp_path, monkeypatch
):
    from continuon.export.records import HAILO_COMPILER, placeholder_record

    hope.save_checkpoint(tmp_path / "c.hope", CONFIG, parameters(CONFIG), metadata={})
    loaded = hope.load_checkpoint(tmp_path / "c.hope")
    assert placeholder_record(loaded)["reason"].startswith("no Hailo compiler was")
    (tmp_path / f"{HAILO_COMPILER}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    found = placeholder_record(loaded)
    assert found["compiler_found"] is True
    assert found["loadable"] is False
    assert found["reason"].startswith("a Hailo compiler is present")


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-04")
def test_a_failed_compilation_leaves_no_spec(tmp_path, monkeypatch):
    checkpoint = tmp_path / "c.hope"
    hope.save_checkpoint(checkpoint, CONFIG, parameters(CONFIG), metadata={})
    target = tmp_path / "policy"
    target.mkdir()
    (target / "spec.json").write_text("{}")

    def full_disk(*_args, **_options):
        raise OSError(28, "No space left on device")

    for name in ("rollout", "to_litert", "to_stablehlo"):
        quick = {"action": np.zeros((16, 2)), "surprise": np.zeros(16)}
        given = {"rollout": quick, "to_litert": b"", "to_stablehlo": b""}[name]
        monkeypatch.setattr(
            f"continuon.export.compile.{name}", lambda *_, given=given: given
        )
    monkeypatch.setattr("continuon.export.compile.save_checkpoint", full_disk)
    with pytest.raises(OSError, match="No space"):
        export.compile_checkpoint(checkpoint, target, control_rate_hz=30.0)
    assert not (target / "spec.json").exists()


@pytest.mark.req("R-EXPORT-05")
def test_a_missing_converter_names_the_line_that_installs_it(monkeypatch):
    from continuon.export.litert import to_litert

    monkeypatch.setitem(sys.modules, "litert_converter", None)
    with pytest.raises(MissingPackageError, match=r"continuon\[export\]"):
        to_litert(None)


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-06")
def test_inputs_that_the_network_does_not_use_keep_their_names():
    from ai_edge_litert.interpreter import Interpreter

    from continuon.export.litert import to_litert
    from continuon.export.lowering import Lowered

    zeros = np.zeros((1, 2), np.float32)
    inputs = {"unused": zeros, "image": np.zeros((1, 2), np.uint8), "used": zeros}
    data = to_litert(Lowered(lambda a, b, c: (2.0 * c,), inputs, ("action",)))
    runner = Interpreter(model_content=data).get_signature_runner("step")
    assert set(runner.get_input_details()) == set(inputs)
    given = {**inputs, "used": np.array([[1.0, -3.0]], np.float32)}
    assert np.array_equal(runner(**given)["action"], [[2.0, -6.0]])


@pytest.mark.slow
def test_a_network_without_memory_writes_compiles_to_fewer_tensors(tmp_path):
    config = attrs.evolve(CONFIG, online=False, self_modifying=False)
    checkpoint = tmp_path / "c.hope"
    hope.save_checkpoint(checkpoint, config, parameters(config), metadata={})
    report = export.compile_checkpoint(checkpoint, tmp_path / "p", control_rate_hz=9.0)
    assert report.parity_ok
    state = json.loads((report.directory / "spec.json").read_bytes())["state"]
    assert "blocks/0/slow" not in state
    assert "tick" in state


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-14")
def test_depth_and_instruction_reach_every_artifact_and_are_not_left_out(tmp_path):
    pytest.importorskip("onnx")
    config = attrs.evolve(RICH, chunk=16, periods=(16, 32), action_levels=())
    checkpoint = tmp_path / "c.hope"
    hope.save_checkpoint(
        checkpoint, config, parameters(config, spread=0.02), metadata={}
    )
    report = export.compile_checkpoint(
        checkpoint, tmp_path / "p", control_rate_hz=9.0, variants=("onnx",)
    )
    assert report.parity_ok, report.artifacts
    rng = np.random.default_rng(3)
    for backend in ("litert", "onnxruntime", "numpy"):
        policy = load_policy(report.directory, backend=backend)
        assert set(policy.spec.senses) == {"image", "proprio", "depth", "instruction"}
        seen = {
            "image": rng.integers(0, 256, (8, 8, 3), np.uint8),
            "proprio": np.array([0.5], np.float32),
            "depth": rng.uniform(0.5, 2.0, (6, 8)).astype(np.float32),
            "instruction": rng.uniform(-0.5, 0.5, 8).astype(np.float32),
        }
        told = {}
        gone = np.full((6, 8), np.nan, np.float32)
        for name, change in {
            "as it is": {},
            "nearer": {"depth": seen["depth"] / 2},
            "unknown": {"depth": gone},
            "zero": {"depth": np.zeros_like(gone)},
            "endless": {"depth": np.full_like(gone, np.inf)},
            "below zero": {"depth": np.full_like(gone, -1.0)},
            "other words": {"instruction": -seen["instruction"]},
        }.items():
            policy.reset()
            told[name] = policy.step(**(seen | change)).action
        for name in ("zero", "endless", "below zero"):
            assert np.array_equal(told["unknown"], told[name]), name
        for name in ("nearer", "unknown", "other words"):
            assert np.abs(told[name] - told["as it is"]).max() > 1e-3, name
        for name in ("depth", "instruction"):
            with pytest.raises(ContractError, match="E-EDGE-INPUT-001") as caught:
                policy.step(**(seen | {name: None}))
            assert caught.value.where == name
    taken = load_checked(
        load_edge_policy,
        str(report.directory),
        "numpy",
        serial=1,
        action_count=len(config.action),
    )
    assert set(taken.policy.spec.senses) == {"image", "proprio", "depth", "instruction"}
    plain = load_policy(compiled().directory, backend="numpy")
    with pytest.raises(ContractError, match="E-EDGE-INPUT-001"):
        plain.step(
            np.zeros((8, 8, 3), np.uint8), np.zeros(1, np.float32), depth=seen["depth"]
        )


@pytest.mark.slow
@pytest.mark.req("R-EXPORT-14")
def test_every_artifact_of_a_chunked_network_tells_the_first_action(tmp_path):
    pytest.importorskip("onnx")
    config = attrs.evolve(
        CONFIG,
        action_chunk=4,
        unit_keys=True,
        mid_turns=True,
        action_levels=("steering",),
    )
    checkpoint = tmp_path / "c.hope"
    hope.save_checkpoint(checkpoint, config, parameters(config), metadata={})
    report = export.compile_checkpoint(
        checkpoint, tmp_path / "p", control_rate_hz=9.0, variants=("onnx",)
    )
    assert report.parity_ok
    policy = load_policy(report.directory, backend="numpy")
    assert len(policy.spec.action) == 2


def test_a_damaged_checkpoint_is_refused_before_anything_is_written(tmp_path):
    checkpoint = tmp_path / "c.hope"
    checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(DataError):
        export.compile_checkpoint(checkpoint, tmp_path / "p", control_rate_hz=30.0)
    assert not (tmp_path / "p").exists()


@pytest.mark.slow
def test_both_files_follow_the_written_schema():
    schema = json.loads(SCHEMA.read_text())["$defs"]
    for name in ("spec", "golden"):
        record = json.loads((compiled().directory / f"{name}.json").read_bytes())
        assert set(record) == set(schema[name]["properties"])
        assert set(schema[name]["required"]) <= set(record)
