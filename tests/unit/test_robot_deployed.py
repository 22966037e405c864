"""After a reboot the robot drives with the committed bundle, in that bundle's limits."""

from __future__ import annotations

import attrs
import pytest

from continuon.bundle import build_bundle, generate_key, sign_bundle, verify_bundle
from continuon.bundle.safety import CAR_BASE_RULES
from continuon.home import Home
from continuon.ota import Updater
from continuon.ota.gate import GateReport
from continuon.robot.deployed import deployed_policy
from continuon.robot.service import ServiceSettings, _config

NAMES = ("speed_mps",)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def key(home):
    key = generate_key()
    home.keys.mkdir(parents=True)
    (home.keys / "release.pub.pem").write_bytes(key.public.pem)
    return key


def install(home, key, *, speed_mps=1.25, number=1):
    artifacts = home.root / f"artifacts-{number}"
    artifacts.mkdir(parents=True)
    (artifacts / "golden.json").write_text("{}")
    (artifacts / "policy.weights").write_bytes(bytes([number]) * 64)
    source = home.root / f"bundle-{number}"
    build_bundle(
        source,
        artifacts_dir=artifacts,
        model_name="m",
        version=f"0.{number}.0",
        release_counter=number,
        source="test",
        created_at_unix_ms=1,
        origins=["synthetic"],
        safety=attrs.evolve(CAR_BASE_RULES, max_speed_mps=speed_mps),
    )
    sign_bundle(source, [key])
    updater = Updater(home.model, [key.public])
    staged = updater.stage(source)
    updater.activate(staged.bundle)
    gate = verify_bundle(staged.directory, [key.public]).manifest.health_gate
    updater.commit(
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
    return staged


@pytest.mark.req("R-BOOT-02")
def test_a_new_robot_has_nothing_to_drive_with(home, key):
    assert deployed_policy(home, state_names=NAMES) is None
    assert not (home.model / "slots").exists()


@pytest.mark.req("R-BOOT-02")
def test_after_a_reboot_the_committed_bundle_runs_in_its_own_limits(home, key):
    staged = install(home, key)
    found = deployed_policy(home, state_names=NAMES)
    assert (found.bundle, found.directory) == (staged.bundle, staged.directory)
    assert found.backend == "numpy"
    assert found.limits.max_speed_mps == 1.25


@pytest.mark.req("R-BOOT-02")
def test_the_service_that_systemd_starts_takes_it_up(home, key):
    staged = install(home, key)

    class Body:
        rig = None

    config = _config(ServiceSettings(home=home, state_names=NAMES), Body)
    assert config.artifact_dir == str(staged.directory)
    assert (config.backend, config.limits.max_speed_mps) == ("numpy", 1.25)


@pytest.mark.req("R-BOOT-02")
def test_a_slot_that_was_changed_does_not_run(home, key):
    install(home, key)
    staged = install(home, key, number=2)
    path = staged.directory / "policy.weights"
    path.parent.chmod(0o755)
    path.chmod(0o644)
    path.write_bytes(b"\0" * 64)
    found = deployed_policy(home, state_names=NAMES)
    assert found is not None
    assert found.bundle != staged.bundle


@pytest.mark.req("R-BOOT-02")
def test_without_a_trusted_key_nothing_in_the_slots_runs(home, key):
    install(home, key)
    (home.keys / "release.pub.pem").unlink()
    assert deployed_policy(home, state_names=NAMES) is None
