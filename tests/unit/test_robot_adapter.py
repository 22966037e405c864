"""A promoted adapter reaches the policy that drives, on its own bundle and no other."""

from __future__ import annotations

import hashlib
import json
import shutil

import attrs
import numpy as np
import pytest

pytest.importorskip("jax")

from continuon import hope
from continuon._specs.edge.examples import compiled
from continuon._specs.hope.examples import parameters
from continuon.adapter_record import mark_trial, read_record, roll_back_adapter
from continuon.bundle import build_bundle, generate_key, sign_bundle, verify_bundle
from continuon.bundle.safety import CAR_BASE_RULES
from continuon.clock import ManualClock
from continuon.edge import check_golden, load_policy
from continuon.edge.derived import DERIVED_FILE
from continuon.errors import ContractError, DataError, TrustError, UsageError
from continuon.export.adapted import derive_policy
from continuon.home import Home
from continuon.hope.adapter_store import promote_candidate, put_candidate
from continuon.ota import Updater
from continuon.ota.gate import GateReport
from continuon.robot.control import SwapResult
from continuon.robot.deployed import deployed_policy
from continuon.robot.software import Software

NAMES = ("speed_mps",)
NOT_COMPILED = shutil.ignore_patterns(
    "edge_manifest.json", "model.sig", "safety.json", "evidence"
)
pytestmark = pytest.mark.slow


class Loop:
    """A control process that takes what it is given, or refuses it."""

    def __init__(self, running):
        self.running, self.previous = str(running), None
        self.limits, self.refuses, self.swaps = None, None, 0

    def status(self):
        return {"active": {"artifact_dir": self.running}}

    def is_resident(self, directory):
        return str(directory) == self.previous

    def swap(self, directory, backend, *, limits, shadow=None):
        if self.refuses:
            raise self.refuses
        policy = load_policy(directory, backend=backend)
        assert check_golden(policy, directory).ok
        self.previous, self.running, self.limits = self.running, str(directory), limits
        self.swaps += 1
        return SwapResult(tick=self.swaps, model={}, previous={})


class Robot:
    """A home with a trusted key, on which bundles are installed."""

    def __init__(self, folder, key=None):
        self.home = Home(folder / "home")
        self.key = key or generate_key()
        self.home.keys.mkdir(parents=True, exist_ok=True)
        (self.home.keys / "release.pub.pem").write_bytes(self.key.public.pem)
        self.updater = Updater(self.home.model, [self.key.public])
        self.software = Software(self.home, NAMES, clock=ManualClock())

    def install(self, number=1, artifacts=None):
        source = self.home.root / f"bundle-{number}"
        build_bundle(
            source,
            artifacts_dir=artifacts or compiled().directory,
            model_name="m",
            version=f"0.{number}.0",
            release_counter=number,
            source="test",
            created_at_unix_ms=1,
            origins=["synthetic"],
            safety=attrs.evolve(CAR_BASE_RULES, max_speed_mps=1.25),
        )
        sign_bundle(source, [self.key])
        staged = self.updater.stage(source)
        self.updater.activate(staged.bundle)
        gate = verify_bundle(staged.directory, [self.key.public]).manifest.health_gate
        self.updater.commit(
            GateReport(
                bundle=staged.bundle,
                ticks=gate.soak_ticks,
                elapsed_s=1.0,
                golden_max_error=0.0,
                latency_p99_ms=1.0,
                veto_fraction=0.0,
                non_finite=0,
                missed_periods=0,
            )
        )
        self.staged = staged
        return staged

    def promote(self, slot, *, size=0.1, seed=0, base_sha256=None, origin=None):
        base = hope.load_checkpoint(slot / "policy.weights")
        rng = np.random.default_rng(seed)
        adapter = {
            path: {
                k: np.asarray(v + size * rng.standard_normal(v.shape), np.float32)
                for k, v in parts.items()
            }
            for path, parts in hope.init_adapter(seed, base.params, rank=2).items()
        }
        if not size:
            for parts in adapter.values():
                parts["up"] = np.zeros_like(parts["up"])
        store, told = self.home.adapters, base_sha256 or base.sha256
        sha256 = put_candidate(
            store, base.config, adapter, base_sha256=told, origin=origin
        )
        promote_candidate(store, sha256=sha256, base_sha256=told, wall_ns=1)
        return sha256

    @property
    def derived(self):
        (folder,) = (self.home.adapters / "compiled").iterdir()
        return folder

    def derive(self, staged):
        return derive_policy(staged.directory, self.home.adapters, bundle=staged.bundle)

    def found(self):
        return deployed_policy(self.home, state_names=NAMES)


@pytest.fixture(scope="module")
def equipped(tmp_path_factory):
    """A robot whose bundle runs with an adapter: made once, and copied."""
    folder = tmp_path_factory.mktemp("equipped")
    robot = Robot(folder)
    robot.promote(robot.install().directory)
    robot.derive(robot.staged)
    mark_trial(robot.home.adapters, 1, "passed")
    return folder, robot


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    robot = Robot(folder)
    robot.install()
    return folder, robot


def copy_of(made, tmp_path):
    folder, robot = made
    shutil.copytree(folder / "home", tmp_path / "home")
    copy = Robot(tmp_path, robot.key)
    copy.staged = attrs.evolve(robot.staged, directory=copy.updater.active_slot())
    return copy


@pytest.fixture
def robot(plain, tmp_path):
    return copy_of(plain, tmp_path)


@pytest.fixture
def able(equipped, tmp_path):
    return copy_of(equipped, tmp_path)


def actions(directory, backend="numpy"):
    policy = load_policy(directory, backend=backend)
    spec = policy.spec
    shape = (spec.image_height, spec.image_width, 3)
    image = np.random.default_rng(0).integers(0, 255, (8, *shape), np.uint8)
    proprio = np.zeros(len(spec.proprio), np.float32)
    return np.stack([policy.step(frame, proprio).action for frame in image])


@pytest.mark.req("R-ADAPTER-01")
def test_a_promoted_adapter_is_merged_beside_the_slot_and_provably_active(robot):
    staged = robot.staged
    before = {p: p.read_bytes() for p in staged.directory.rglob("*") if p.is_file()}
    robot.promote(staged.directory, origin="simulated+real")
    report = robot.derive(staged)
    weights = hope.load_checkpoint(report.directory / "policy.weights")
    assert weights.metadata["origin"] == "real+simulated"
    assert {p: p.read_bytes() for p in staged.directory.rglob("*") if p.is_file()} == (
        before
    )
    assert robot.home.adapters in report.directory.parents
    assert set(report.errors) >= {"numpy"}
    assert report.activity > 1e-3
    moved = np.abs(actions(report.directory) - actions(staged.directory)).max()
    assert moved > 1e-3
    for backend in report.errors:
        assert np.allclose(
            actions(report.directory), actions(report.directory, backend), atol=1e-4
        )


@pytest.mark.req("R-ADAPTER-01")
def test_an_adapter_that_changes_nothing_is_refused(robot):
    staged = robot.staged
    robot.promote(staged.directory, size=0.0)
    with pytest.raises(DataError, match="E-EXPORT-ADAPTER-003"):
        robot.derive(staged)
    assert not list((robot.home.adapters / "compiled").iterdir())


@pytest.mark.req("R-ADAPTER-02")
def test_an_adapter_of_another_base_is_refused_and_nothing_is_dropped(robot):
    staged = robot.staged
    robot.promote(staged.directory, base_sha256="0" * 64)
    with pytest.raises(ContractError, match="E-EDGE-ADAPTER-001"):
        robot.derive(staged)
    with pytest.raises(UsageError, match="E-ROBOT-ADAPTER-002"):
        robot.software.take_adapter(Loop(staged.directory))
    found = robot.found()
    assert found.chosen.artifact_dir == staged.directory
    assert "another base" in found.chosen.why


@pytest.mark.req("R-ADAPTER-02")
def test_an_adapter_of_the_checkpoint_that_was_compiled_fits_its_bundle(robot):
    staged = robot.staged
    spec = json.loads((staged.directory / "spec.json").read_bytes())
    robot.promote(staged.directory, base_sha256=spec["checkpoint_sha256"])
    assert "mid use" in robot.found().chosen.why


@pytest.mark.req("R-ADAPTER-03")
def test_the_loop_takes_it_over_in_the_bundle_s_limits_and_rolls_back(able):
    slot, one, store = able.staged.directory, able.derived, able.home.adapters
    loop = Loop(slot)
    first = read_record(store).use.sha256
    told = able.software.take_adapter(loop)
    assert (told["adapter"], loop.running) == (1, str(one))
    assert loop.limits.max_speed_mps == 1.25
    able.promote(slot, seed=5)
    two = able.derive(able.staged)
    assert able.software.take_adapter(loop)["adapter"] == 2
    assert loop.running == str(two.directory)
    roll_back_adapter(store, reason="worse", wall_ns=2)
    assert able.software.take_adapter(loop)["adapter"] == 1
    assert loop.running == str(one)
    assert read_record(store).use.sha256 == first
    roll_back_adapter(store, reason="worse", wall_ns=3)
    assert able.software.take_adapter(loop)["adapter"] is None
    assert loop.running == str(slot)
    assert able.software.take_adapter(loop)["swap"] is None
    assert (loop.swaps, loop.limits.max_speed_mps) == (4, 1.25)


@pytest.mark.req("R-ADAPTER-03")
def test_one_that_may_not_take_over_is_not_taken_up_by_a_restart_either(able):
    loop = Loop(able.staged.directory)
    loop.refuses = TrustError("E-ROBOT-SWAP-001", "it differs")
    with pytest.raises(TrustError):
        able.software.take_adapter(loop)
    record = read_record(able.home.adapters)
    assert record.use.adapter is None
    assert record.trail[-1].reason == "refused: E-ROBOT-SWAP-001"
    assert able.found().chosen.adapter is None


@pytest.mark.req("R-ADAPTER-03")
def test_a_loop_that_runs_something_else_is_left_alone(able, tmp_path):
    for running in (tmp_path, able.home.adapters / "compiled" / "ffff-0000"):
        with pytest.raises(UsageError, match="E-ROBOT-ADAPTER-001"):
            able.software.take_adapter(Loop(running))


@pytest.mark.req("R-ADAPTER-04")
def test_after_a_reboot_the_adapter_drives_in_the_bundle_s_limits(able):
    found = able.found()
    assert (found.chosen.adapter, found.directory) == (1, able.staged.directory)
    assert found.chosen.artifact_dir == able.derived
    assert found.limits.max_speed_mps == 1.25


@pytest.mark.req("R-ADAPTER-06")
def test_what_has_not_passed_its_trial_does_not_drive_after_a_reboot(able):
    for trial in ("due", "begun"):
        mark_trial(able.home.adapters, 1, trial)
        chosen = able.found().chosen
        assert (chosen.adapter, chosen.artifact_dir) == (None, able.staged.directory)
        assert "trial" in chosen.why
    loop = Loop(able.staged.directory)
    assert able.software.take_adapter(loop)["adapter"] == 1
    assert read_record(able.home.adapters).use.trial == "begun"


@pytest.mark.req("R-ADAPTER-04")
def test_an_adapter_that_is_not_compiled_yet_says_what_to_do(robot):
    robot.promote(robot.staged.directory)
    assert "mid use" in robot.found().chosen.why


def relabelled(path, **change):
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps(record | (change or {"bundle": "f" * 64})))


@pytest.mark.req("R-ADAPTER-04")
@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda d: (d / "policy.weights").write_bytes(b"x"), "E-EDGE-ADAPTER-004"),
        (lambda d: (d / "golden.json").unlink(), "E-EDGE-ADAPTER-004"),
        (lambda d: (d / "more").write_bytes(b""), "E-EDGE-ADAPTER-004"),
        (lambda d: relabelled(d / DERIVED_FILE), "E-EDGE-ADAPTER-004"),
        (lambda d: relabelled(d / DERIVED_FILE, activity=0.0), "E-EDGE-ADAPTER-004"),
        (lambda d: relabelled(d / DERIVED_FILE, adapter_sha256="0"), "ADAPTER-004"),
        (lambda d: (d / DERIVED_FILE).unlink(), "E-EDGE-ADAPTER-002"),
        (lambda d: (d / DERIVED_FILE).write_text("{"), "E-EDGE-ADAPTER-003"),
    ],
)
def test_a_derived_policy_that_is_not_whole_leaves_the_bundle_alone(able, harm, code):
    harm(able.derived)
    chosen = able.found().chosen
    assert (chosen.adapter, chosen.artifact_dir) == (None, able.staged.directory)
    assert code in chosen.why


@pytest.mark.req("R-ADAPTER-05")
def test_an_update_drops_the_adapter_and_the_way_back_brings_it_again(able, tmp_path):
    first, derived = able.staged, able.derived
    artifacts = tmp_path / "other"
    shutil.copytree(first.directory, artifacts, ignore=NOT_COMPILED)
    other = hope.load_checkpoint(artifacts / "policy.weights")
    weights = artifacts / "policy.weights"
    weights.chmod(0o644)
    moved = parameters(other.config, seed=9)
    hope.save_checkpoint(weights, other.config, moved, metadata={})
    spec = json.loads((artifacts / "spec.json").read_bytes())
    spec["checkpoint_sha256"] = "9" * 64
    for artifact in spec["artifacts"]:
        if artifact["backend"] == "numpy":
            artifact["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (artifacts / "spec.json").chmod(0o644)
    (artifacts / "spec.json").write_text(json.dumps(spec))
    second = able.install(2, artifacts)
    chosen = able.found().chosen
    assert (chosen.adapter, chosen.artifact_dir) == (None, second.directory)
    assert "another base" in chosen.why
    with pytest.raises(ContractError, match="E-EDGE-ADAPTER-001"):
        able.derive(second)
    loop = Loop(second.directory)
    told = able.software.roll_back(loop, "it cuts corners")
    assert told["active"] == first.bundle
    assert loop.running == str(derived)
