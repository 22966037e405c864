"""Backends that agree, remember between ticks, and refuse what they cannot trust."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import attrs
import numpy as np
import pytest

from continuon import edge
from continuon._specs.edge.examples import compiled, compiled_blind
from continuon.cli.program import run
from continuon.edge import choice, golden, latency
from continuon.edge.aina import AinaHead
from continuon.edge.codebook import Tokeniser
from continuon.edge.convolution import Convolution
from continuon.edge.network import NumpyEngine
from continuon.errors import ContractError, DataError, MissingPackageError, UsageError
from continuon.tensorfile import write_tensors

pytestmark = pytest.mark.slow
BACKENDS = ["litert", "numpy"]
IMAGE = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
PROPRIO = np.array([0.5], np.float32)


@pytest.fixture
def directory(tmp_path):
    return shutil.copytree(compiled().directory, tmp_path / "policy")


@pytest.mark.req("R-EDGE-01")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("make", [compiled, compiled_blind])
def test_each_backend_meets_the_golden_ticks(backend, make):
    directory = make().directory
    report = edge.check_golden(edge.load_policy(directory, backend=backend), directory)
    assert report.ok
    assert (report.backend, report.ticks) == (backend, 40)
    assert report.max_abs_error < report.tolerance / 10


@pytest.mark.req("R-EDGE-01")
def test_backends_agree_far_beyond_the_golden_ticks():
    policies = [edge.load_policy(compiled().directory, backend=b) for b in BACKENDS]
    rng = np.random.default_rng(0)
    for _ in range(150):
        image = rng.integers(0, 256, IMAGE.shape, np.uint8)
        left, right = (policy.step(image, PROPRIO) for policy in policies)
        np.testing.assert_allclose(left.action, right.action, atol=2e-5)
        assert left.action.dtype == right.action.dtype == np.float32


@pytest.mark.req("R-EDGE-02")
@pytest.mark.parametrize("backend", BACKENDS)
def test_state_is_carried_until_reset_brings_back_the_first_tick(backend):
    policy = edge.load_policy(compiled().directory, backend=backend)
    first, second = policy.step(IMAGE, PROPRIO), policy.step(IMAGE, PROPRIO)
    policy.reset()
    again = policy.step(IMAGE, PROPRIO)
    assert np.array_equal(first.action, again.action)
    assert not np.array_equal(first.action, second.action)
    assert (first.surprise, again.surprise) == (0.0, 0.0)
    assert second.surprise > 0.0


@pytest.mark.req("R-EDGE-02")
def test_two_policies_of_one_process_share_no_buffer():
    first, second, alone = (
        edge.load_policy(compiled().directory, backend="numpy") for _ in range(3)
    )
    for tick in range(20):
        image = np.roll(IMAGE, tick)
        kept = first.step(image, PROPRIO).action
        copy = kept.copy()
        second.step(255 - image, -PROPRIO)
        assert np.array_equal(kept, copy)
        assert np.array_equal(kept, alone.step(image, PROPRIO).action)


@pytest.mark.req("R-EDGE-02")
def test_an_output_is_not_a_view_of_what_the_next_tick_overwrites():
    policy = edge.load_policy(compiled().directory, backend="litert")
    first = policy.step(IMAGE, PROPRIO)
    kept = first.action.copy()
    policy.step(255 - IMAGE, PROPRIO)
    assert np.array_equal(first.action, kept)


@pytest.mark.req("R-EDGE-03")
@pytest.mark.parametrize(
    ("image", "proprio", "code"),
    [
        (None, PROPRIO, "E-EDGE-INPUT-001"),
        (IMAGE[:4], PROPRIO, "E-EDGE-INPUT-001"),
        (IMAGE.astype(np.float32), PROPRIO, "E-EDGE-INPUT-001"),
        (IMAGE, None, "E-EDGE-INPUT-001"),
        (IMAGE, np.zeros(2, np.float32), "E-EDGE-INPUT-001"),
        (IMAGE, np.array([np.nan]), "E-EDGE-INPUT-002"),
        (IMAGE, np.array([np.inf]), "E-EDGE-INPUT-002"),
    ],
)
def test_a_wrong_input_is_refused_and_leaves_the_state(image, proprio, code):
    policy, untouched = (edge.load_policy(compiled().directory) for _ in range(2))
    for each in (policy, untouched):
        each.step(IMAGE, PROPRIO)
    with pytest.raises(ContractError) as caught:
        policy.step(image, proprio)
    assert caught.value.code == code
    expected = untouched.step(IMAGE, PROPRIO).action
    assert np.array_equal(policy.step(IMAGE, PROPRIO).action, expected)


@pytest.mark.req("R-EDGE-03")
def test_an_input_that_the_network_does_not_have_is_refused():
    policy = edge.load_policy(compiled_blind().directory)
    with pytest.raises(ContractError, match="no image"):
        policy.step(IMAGE, PROPRIO)
    assert policy.step(None, PROPRIO).action.shape == (2,)


def test_the_applied_action_may_replace_the_policys_own():
    own, told = (edge.load_policy(compiled_blind().directory) for _ in range(2))
    last = own.step(None, PROPRIO).action
    told.step(None, PROPRIO)
    expected = own.step(None, PROPRIO).action
    seen = told.step(None, PROPRIO, previous_action=last).action
    assert np.array_equal(seen, expected)
    other = told.step(None, PROPRIO, previous_action=-last).action
    assert not np.array_equal(other, own.step(None, PROPRIO).action)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_done_to_an_output_is_not_what_the_policy_gave(backend):
    own, other = (
        edge.load_policy(compiled_blind().directory, backend=backend) for _ in range(2)
    )
    own.step(None, PROPRIO)
    other.step(None, PROPRIO).action[:] = 0.0
    seen = [p.step(None, PROPRIO).action for p in (own, other)]
    assert np.array_equal(*seen)


@pytest.mark.req("R-EDGE-04")
@pytest.mark.parametrize("name", ["policy.tflite", "policy.weights"])
@pytest.mark.parametrize("damage", ["alter", "cut", "remove"])
def test_a_damaged_artifact_is_refused(directory, name, damage):
    path = directory / name
    data = bytearray(path.read_bytes())
    if damage == "alter":
        data[len(data) // 2] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data if damage == "alter" else data[:-1])
    backend = "litert" if name.endswith("tflite") else "numpy"
    with pytest.raises(DataError) as caught:
        edge.load_policy(directory, backend=backend)
    code = "E-EDGE-ARTIFACT-003" if damage == "remove" else "E-EDGE-ARTIFACT-002"
    assert caught.value.code == code


@pytest.mark.req("R-EDGE-04")
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "E-EDGE-SPEC-001"),
        (b"", "E-EDGE-SPEC-002"),
        (b'{"name": "hope"}', "E-EDGE-SPEC-002"),
    ],
)
def test_a_directory_without_a_sound_spec_is_no_policy(directory, content, code):
    if content is None:
        (directory / "spec.json").unlink()
    else:
        (directory / "spec.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        edge.read_spec(directory)
    assert caught.value.code == code


@pytest.mark.req("R-EDGE-04")
def test_a_spec_of_another_version_is_refused(directory):
    record = json.loads((directory / "spec.json").read_bytes()) | {"version": 2}
    (directory / "spec.json").write_text(json.dumps(record))
    with pytest.raises(DataError) as caught:
        edge.load_policy(directory)
    assert caught.value.code == "E-EDGE-SPEC-003"


@pytest.mark.req("R-EDGE-04")
@pytest.mark.parametrize("content", [None, b"{}", b"altered"])
def test_golden_ticks_that_are_not_the_specs_are_refused(directory, content):
    policy = edge.load_policy(directory, backend="numpy")
    path = directory / "golden.json"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if content == b"{}" else path.read_bytes() + b" ")
    with pytest.raises(DataError) as caught:
        edge.check_golden(policy, directory)
    assert caught.value.code.startswith("E-EDGE-GOLDEN-")


@pytest.mark.req("R-EXPORT-03")
@pytest.mark.parametrize("backend", ["hailo", "stablehlo", "tflite"])
def test_no_backend_loads_a_placeholder_or_an_unknown_artifact(backend):
    with pytest.raises(UsageError) as caught:
        edge.load_policy(compiled().directory, backend=backend)
    assert caught.value.code == "E-EDGE-BACKEND-001"


@pytest.mark.req("R-EXPORT-03")
def test_a_spec_does_not_hand_out_its_placeholder():
    directory = compiled().directory
    with pytest.raises(DataError) as caught:
        edge.read_spec(directory).artifact(directory, "hailo")
    assert caught.value.code == "E-EDGE-ARTIFACT-001"


@pytest.mark.req("R-EDGE-05")
def test_a_number_that_is_not_finite_is_raised_not_returned():
    policy = edge.load_policy(compiled().directory, backend="numpy")
    policy._engine._bias = np.full(2, np.nan, np.float32)
    with pytest.raises(DataError) as caught:
        policy.step(IMAGE, PROPRIO)
    assert caught.value.code == "E-EDGE-OUTPUT-001"


@pytest.mark.req("R-EDGE-06")
def test_the_room_loads_nothing_that_trains():
    code = (
        "import sys; from pathlib import Path; from continuon import edge;"
        "p = edge.load_policy(Path(sys.argv[1])); p.reset();"
        "heavy = {'jax', 'tensorflow', 'flax', 'continuon.hope', 'continuon.learn'};"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", code, str(compiled().directory)]
    assert subprocess.run(arguments, check=False).returncode == 0


@pytest.mark.req("R-EDGE-07")
def test_smoke_inference_reports_golden_ticks_and_latency():
    directory = compiled().directory
    report = edge.infer(directory, obs_dim=193, action_dim=2, ticks=30)
    assert report.ok
    assert report.backend == "litert"
    assert 0 < report.latency["p50_ms"] <= report.latency["p99_ms"]
    assert report.as_dict()["golden"]["ok"] is True
    chosen = edge.infer(directory / "policy.weights", ticks=5)
    assert chosen.backend == "numpy"


@pytest.mark.req("R-EDGE-04")
@pytest.mark.parametrize(
    ("read", "kind", "code"),
    [
        (NumpyEngine, "hope-checkpoint", "E-EDGE-WEIGHTS-001"),
        (Tokeniser, "hope-codebook", "E-EDGE-VQ-001"),
        (AinaHead, "hope-aina", "E-EDGE-AINA-001"),
    ],
)
def test_a_file_of_a_later_version_is_not_read_as_if_it_were_known(
    tmp_path, read, kind, code
):
    path = tmp_path / "later"
    write_tensors(path, {}, {"kind": kind, "version": 2, "config": {}})
    with pytest.raises(DataError) as caught:
        read.from_file(path)
    assert caught.value.code == code


@pytest.mark.req("R-EDGE-11")
def test_the_makers_order_decides_and_what_is_passed_over_is_said(monkeypatch, capsys):
    directory = compiled().directory
    assert edge.infer(directory, ticks=2).backend == "litert"
    for absent in ("hailo", "onnxruntime"):
        found = edge.infer(directory, order=[absent, "numpy"], ticks=2)
        assert (found.backend, found.passed_over) == ("numpy", ())
    monkeypatch.setattr(
        choice, "find_spec", lambda name: None if name == "ai_edge_litert" else name
    )
    report = edge.infer(directory, ticks=2)
    assert report.backend == "numpy"
    assert report.passed_over == ("litert: ai_edge_litert is not installed",)
    assert run(["infer", "--model-path", str(directory), "--ticks", "2"]) == 0
    assert "not used: litert: ai_edge_litert is not" in capsys.readouterr().out


@pytest.mark.req("R-EDGE-11")
def test_a_backend_that_misses_its_golden_ticks_is_passed_over_and_an_altered_never(
    directory, monkeypatch
):
    def fails(*names):
        def checked(policy, folder):
            report = edge.check_golden(policy, folder)
            return attrs.evolve(report, ok=policy.backend not in names)

        monkeypatch.setattr(choice, "check_golden", checked)

    fails("litert")
    chosen = edge.choose_backend(directory)
    assert chosen.policy.backend == "numpy"
    assert "litert: golden ticks missed" in chosen.passed_over[0]
    fails("litert", "numpy")
    with pytest.raises(DataError, match="E-EDGE-BACKEND-002") as caught:
        edge.choose_backend(directory)
    assert "numpy: golden ticks missed" in caught.value.seen
    (directory / "policy.tflite").write_bytes(b"altered")
    with pytest.raises(DataError, match="E-EDGE-ARTIFACT-002"):
        edge.choose_backend(directory)


@pytest.mark.req("R-EDGE-11")
def test_a_backend_whose_answer_is_not_finite_is_passed_over(directory, monkeypatch):
    def load(folder, *, backend):
        policy = edge.load_policy(folder, backend=backend)
        if backend == "litert":
            engine, advance = policy._engine, policy._engine.advance
            monkeypatch.setattr(
                engine, "advance", lambda given: (advance(given)[0], float("nan"))
            )
        return policy

    monkeypatch.setattr(choice, "load_policy", load)
    chosen = edge.choose_backend(directory)
    assert chosen.policy.backend == "numpy"
    assert "litert: golden ticks missed, error nan" in chosen.passed_over[0]


@pytest.mark.req("R-EDGE-08")
def test_golden_ticks_are_missed_by_what_is_not_finite_and_it_is_forgotten(directory):
    policy = edge.load_policy(directory, backend="numpy")
    bias = policy._engine._bias
    policy._engine._bias = np.full_like(bias, np.nan)
    report = edge.check_golden(policy, directory)
    assert not report.ok
    assert np.isnan(report.max_abs_error)
    policy._engine._bias = bias
    assert np.isfinite(policy.step(IMAGE, PROPRIO).action).all()


@pytest.mark.req("R-EDGE-07")
@pytest.mark.parametrize("sizes", [{"obs_dim": 10}, {"action_dim": 3}])
def test_smoke_inference_names_the_wrong_size(sizes):
    with pytest.raises(UsageError, match=next(iter(sizes)).replace("_", "-")):
        edge.infer(compiled().directory, **sizes)


@pytest.mark.req("R-EDGE-08")
def test_golden_ticks_tell_other_weights_apart(directory):
    policy = edge.load_policy(directory, backend="numpy")
    policy._engine._heads[:, :2] += np.float32(1e-2)
    report = edge.check_golden(policy, directory)
    assert not report.ok
    assert report.max_abs_error > report.tolerance


@pytest.mark.req("R-EDGE-08")
@pytest.mark.parametrize("share", [1.01, float("nan"), float("inf")])
def test_golden_ticks_are_met_up_to_the_tolerance_and_not_beyond(monkeypatch, share):
    directory = compiled().directory
    policy = edge.load_policy(directory, backend="numpy")
    tolerance = edge.check_golden(policy, directory).tolerance
    for error, ok in ((tolerance, True), (share * tolerance, False)):
        monkeypatch.setattr(golden, "_replay_error", lambda *_, e=error: (e, 40))
        assert edge.check_golden(policy, directory).ok is ok


def test_latency_is_told_by_rank(monkeypatch):
    clock = iter(
        now
        for took in range(1000)
        for now in (10**9 * took, 10**9 * took + 1000 * took)
    )
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: next(clock))
    policy = edge.load_policy(compiled().directory, backend="numpy")
    told = latency.measure_latency(policy, ticks=1000, warmup=0)
    seen = [told[name] for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms")]
    assert seen == pytest.approx([0.4995, 0.98901, 0.998001, 0.999])


def test_a_missing_interpreter_names_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingPackageError, match=r"continuon\[pi\]"):
        edge.load_policy(compiled().directory)


@pytest.mark.parametrize("size", [(8, 8), (15, 7), (30, 40)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_the_convolution_is_the_plain_sum(size, kernel):
    rng = np.random.default_rng(0)
    image = rng.standard_normal((*size, 2)).astype(np.float32)
    weights = rng.standard_normal((kernel, kernel, 2, 3)).astype(np.float32)
    bias = rng.standard_normal(3).astype(np.float32)
    seen = Convolution(weights, bias)(image)
    rows, columns = -(-size[0] // 2), -(-size[1] // 2)
    assert seen.shape == (rows, columns, 3)
    starts = [
        -(max((n - 1) * 2 + kernel - full, 0) // 2)
        for n, full in ((rows, size[0]), (columns, size[1]))
    ]
    row, column = rows - 1, 0
    expected = bias.astype(np.float64).copy()
    for i in range(kernel):
        for j in range(kernel):
            y, x = starts[0] + 2 * row + i, starts[1] + 2 * column + j
            if 0 <= y < size[0] and 0 <= x < size[1]:
                expected += image[y, x] @ weights[i, j]
    np.testing.assert_allclose(seen[row, column], expected, atol=1e-5)
