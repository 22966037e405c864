"""Every command does its work on a tiny input and says what it did."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
from importlib import import_module

import attrs
import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon.cli.program import run
from continuon.cli.table import COMMANDS
from continuon.rlds.images import encode_jpeg
from continuon.tensorfile import write_tensors


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A working directory of our own, a home below it, a clean environment."""
    for name in list(os.environ):
        if name.startswith("CONTINUON_") or name == "SOURCE_DATE_EPOCH":
            monkeypatch.delenv(name)
    monkeypatch.setenv("CONTINUON_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def text(capsys):
    """Run a command; returns what it said, having checked its exit status."""

    def call(*argv, status=0):
        capsys.readouterr()
        code = run([str(word) for word in argv])
        captured = capsys.readouterr()
        assert code == status, captured.err
        return captured.out

    return call


@pytest.fixture
def data(text):
    """Run a command with --json; returns the one object that it wrote."""

    def call(*argv, status=0):
        return json.loads(text(*argv, "--json", status=status))

    return call


def tub(folder, count=6):
    (folder / "images").mkdir(parents=True)
    rows = []
    for index in range(count):
        name = f"{index}_cam_image_array_.jpg"
        image = np.full((12, 16, 3), index * 9, np.uint8)
        (folder / "images" / name).write_bytes(encode_jpeg(image))
        rows.append(
            {
                "_index": index,
                "_session_id": "s0",
                "_timestamp_ms": 1_650_000_000_000 + 50 * index,
                "cam/image_array": name,
                "user/angle": 0.25,
                "user/mode": "user",
                "user/throttle": 0.5,
            }
        )
    (folder / "catalog_0.catalog").write_text("\n".join(map(json.dumps, rows)) + "\n")
    inputs = ["cam/image_array", "user/angle", "user/throttle", "user/mode"]
    table = {"paths": ["catalog_0.catalog"], "deleted_indexes": []}
    types = ["image_array", "float", "float", "str"]
    facts = [inputs, types, {}, {"created_at": 1.0}, table | {"max_len": 1000}]
    (folder / "manifest.json").write_text("\n".join(map(json.dumps, facts)) + "\n")
    return folder


def episodes(folder, count=2):
    folder.mkdir(parents=True)
    for index in range(count):
        start = 1_700_000_000_000_000_000 + index * 10**9
        metadata = legal_metadata(episode_id=f"e{index}", start_wall_ns=start)
        write_draft(attrs.evolve(legal_draft(8), metadata=metadata), folder)
    return folder


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


# Episodes.


def test_import_turns_a_tub_into_episodes(tmp_path, data):
    source = tub(tmp_path / "tub")
    out = tmp_path / "out"
    report = data("import", source, "--output-dir", out, "--episode-steps", 4)
    assert report["steps"] == 6
    assert report["losses"] == []
    assert files(out) == [path.rsplit("/", 1)[1] for path in report["episodes"]]


def test_list_and_show_say_what_recordings_hold(tmp_path, text, data):
    folder = episodes(tmp_path / "e")
    assert text("episodes", "list", folder).count("simulated") == 2
    rows = data("episodes", "list", folder)
    assert [row["episode_id"] for row in rows] == ["e0", "e1"]
    assert rows[0]["samples"]["rgb"] == 8
    shown = data("episodes", "show", folder / "e0.mcap")
    assert shown["metadata"]["origin"] == "simulated"
    assert shown["streams"]["depth"]["samples"] == 8
    assert shown["figures"]["steps"] == 8


def test_commands_read_the_home_where_no_folder_is_named(home, data):
    episodes(home / "rlds" / "episodes")
    assert len(data("episodes", "list")) == 2


def test_validate_judges_and_recover_finds_nothing_to_save(tmp_path, text, data):
    folder = episodes(tmp_path / "e")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    said = text("episodes", "validate", folder)
    assert said.endswith("2 of 2 episodes keep the contract\n")
    assert data("episodes", "recover", folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_convert_reads_back_equal_and_is_up_to_date_the_next_time(tmp_path, data):
    folder, out = episodes(tmp_path / "e"), tmp_path / "tf"
    argv = ("convert", "--input-dir", folder, "--output-dir", out, "--compress")
    first = data(*argv)
    assert first["read_back_equal"]
    assert (first["episodes"], first["steps"], first["origins"]) == (
        2,
        16,
        ["simulated"],
    )
    assert first["is_fresh"]
    assert not data(*argv)["is_fresh"]


@pytest.mark.parametrize(
    ("to", "package", "name"),
    [
        ("lerobot", "pyarrow", "lerobot-v3"),
        ("rerun", "rerun", "rerun"),
        ("arrayrecord", "array_record", "tfds-array-record"),
    ],
)
def test_convert_writes_others_formats_and_says_what_stays_behind(
    tmp_path, data, to, package, name
):
    pytest.importorskip(package, reason=f"needs the extra for {to}")
    folder, out = episodes(tmp_path / "e"), tmp_path / "out"
    status = 3 if to == "lerobot" else 0
    argv = ("convert", "--input-dir", folder, "--output-dir", out, "--to", to)
    report = data(*argv, status=status)
    assert (report["format"], report["episodes"]) == (name, 2)
    assert bool(report["omitted"]) == (to == "lerobot")


def test_export_writes_anonymous_episodes_with_a_secret_made_once(tmp_path, home, data):
    folder = episodes(tmp_path / "e")
    one = data("export", "--episodes-dir", folder, "--output-dir", tmp_path / "x1")
    two = data("export", "--episodes-dir", folder, "--output-dir", tmp_path / "x2")
    assert len(one["episodes"]) == 2
    assert files(tmp_path / "x1") == files(tmp_path / "x2")
    assert one["package_id"] == two["package_id"]
    assert not any(name.startswith("e0") for name in files(tmp_path / "x1"))
    for name in ("export-secret", "export.pem"):
        assert (home / "keys" / name).stat().st_mode & 0o777 == 0o600
    assert one["is_signed"]
    assert data("episodes", "verify", tmp_path / "x1")["level"] == "training"
    (tmp_path / "x1" / "stray").write_bytes(b"x")
    data("episodes", "verify", tmp_path / "x1", status=5)
    argv = ("--episodes-dir", folder, "--output-dir", tmp_path / "x3")
    data("export", *argv, "--level", "public", status=1)


@pytest.mark.slow
def test_record_fills_a_folder_once(tmp_path, data):
    argv = ("record", "--output-dir", tmp_path / "r", "--count", 1, "--workers", 1)
    first = data(*argv, "--duration-s", 0.3)
    assert (first["recorded"], first["kept"], first["drops"]) == (1, 0, 0)
    again = data(*argv, "--duration-s", 0.3)
    assert (again["recorded"], again["kept"]) == (0, 1)


# Bundles, keys and updates.


@pytest.fixture
def artifacts(tmp_path):
    folder = tmp_path / "artifacts"
    folder.mkdir()
    for name in ("policy.tflite", "policy.weights", "spec.json", "golden.json"):
        (folder / name).write_bytes(name.encode() * 9)
    (folder / "spec.json").write_text("{}")
    return folder


@pytest.fixture
def release(tmp_path, artifacts, text):
    """Return what builds and signs a release with the home's key."""
    text("keys", "new")

    def build(number=1):
        folder = tmp_path / f"bundle-{number}"
        place = ("--artifacts-dir", artifacts, "--output-dir", folder)
        facts = ("--version", f"1.0.{number}", "--release-counter", number)
        text("bundle", "build", *place, *facts, "--origins", "simulated")
        text("bundle", "sign", folder)
        return folder

    return build


def test_a_new_key_is_private_and_its_fingerprint_is_shown(tmp_path, data):
    key = data("keys", "new", tmp_path / "k.pem", "--algorithm", "ed25519")
    assert (tmp_path / "k.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "k.pub.pem").is_file()
    assert len(key["fingerprint"]) == 64
    assert "PRIVATE" not in json.dumps(key)


def test_a_bundle_is_built_signed_verified_and_shown(release, artifacts, data, text):
    folder = release()
    verified = data("bundle", "verify", folder)
    assert verified["manifest"]["version"] == "1.0.1"
    assert len(verified["bundle_id"]) == 64
    assert text("bundle", "verify", folder).startswith("verified continuon-hope 1.0.1")
    shown = data("bundle", "show", folder)
    assert shown["origins"] == ["simulated"]
    assert data("bundle", "show", folder, "--legacy") != shown
    sizes = {path.name: path.stat().st_size for path in artifacts.iterdir()}
    assert all((folder / name).stat().st_size == size for name, size in sizes.items())


@pytest.mark.req("R-ORIGIN-01")
@pytest.mark.parametrize(("said", "status"), [("simulated", 5), ("real", 0), (None, 0)])
def test_no_flag_labels_a_policy_otherwise_than_its_training_data(
    artifacts, tmp_path, text, said, status
):
    weights = artifacts / "policy.weights"
    weights.unlink()
    write_tensors(weights, {"a": np.zeros(2)}, {"metadata": {"origin": said}})
    place = ("--artifacts-dir", artifacts, "--output-dir", tmp_path / "b")
    facts = ("--version", "1.0.0", "--release-counter", 1, "--origins", "real")
    text("bundle", "build", *place, *facts, status=status)
    assert (tmp_path / "b").exists() is (status == 0)


def test_the_same_inputs_and_epoch_build_the_same_bytes(
    artifacts, tmp_path, text, monkeypatch
):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    digests = set()
    for name in ("one", "two"):
        place = ("--artifacts-dir", artifacts, "--output-dir", tmp_path / name)
        facts = ("--version", "1.0.0", "--release-counter", 1, "--origins", "real")
        text("bundle", "build", *place, *facts)
        manifest = (tmp_path / name / "edge_manifest.json").read_bytes()
        digests.add(hashlib.sha256(manifest).hexdigest())
    assert len(digests) == 1


@pytest.mark.slow
def test_a_release_travels_from_publish_to_rollback(
    tmp_path, home, release, data, text
):
    repository = tmp_path / "repository"
    published = data("ota", "publish", release(), "--repository", repository)
    assert (published["version"], published["channel"]) == ("1.0.1", "stable")
    shutil.copy(repository / "metadata" / "1.root.json", home / "keys" / "root.json")
    remote = ("--repository", repository)
    assert text("ota", "check", *remote).startswith("newer: 1.0.1")
    assert data("ota", "fetch", *remote)["version"] == "1.0.1"
    staged = data("ota", "stage")
    assert staged["version"] == "1.0.1"
    status = data("ota", "status")
    assert status["staged"]["version"] == "1.0.1"
    assert status["active"] is None
    tried = data("ota", "activate")["bundle"]
    report = {
        "bundle": tried,
        "golden_max_error": 0.0,
        "latency_p99_ms": 5.0,
        "ticks": 250,
        "veto_fraction": 0.0,
        "non_finite": 0,
        "missed_periods": 0,
        "elapsed_s": 5.0,
    }
    (tmp_path / "gate.json").write_text(json.dumps(report))
    assert text("ota", "commit", tmp_path / "gate.json") == "committed 1.0.1\n"
    assert text("ota", "check", *remote).startswith("nothing to do")
    assert "no freeze protection" in text("ota", "stage", release(2))
    text("ota", "activate")
    assert text("ota", "rollback").strip() == f"runs again: {tried}"
    lines = text("ota", "status").splitlines()
    assert [line.split()[0] for line in lines] == [
        *("runs", "good", "staged", "failed", "next"),
    ]
    assert "1.0.1 (release 1" in lines[0]
    assert "freeze" not in lines[0]
    assert "E-OTA-PERSON-001, asked for by a person" in lines[3]
    assert "--retry" in lines[4]
    data("ota", "publish", tmp_path / "bundle-2", "--repository", repository)
    told = text("ota", "check", *remote)
    assert told.startswith("nothing to do: it failed here: E-OTA-PERSON-001")
    assert text("ota", "check", "--retry", *remote).startswith("newer: 1.0.2")
    text("ota", "fetch", *remote, status=5)
    assert data("ota", "fetch", "--retry", *remote)["version"] == "1.0.2"
    after = data("ota", "status")
    assert after["good"]["bundle"] == tried
    assert after["failed"][0]["code"] == "E-OTA-PERSON-001"
    assert data("ota", "recover")["rolled_back"] is None


@pytest.mark.slow
def test_patches_from_an_older_bundle_are_built_listed_and_published(
    tmp_path, home, artifacts, release, data
):
    weights = artifacts / "policy.weights"
    weights.write_bytes(os.urandom(50_000))
    old = release()
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    out = tmp_path / "bundle-2"
    facts = ("--version", "1.0.2", "--release-counter", 2, "--origins", "simulated")
    place = ("--artifacts-dir", artifacts, "--output-dir", out, *facts)
    built = data("bundle", "build", *place, "--delta-from", old)
    (delta,) = built["manifest"]["deltas"]
    assert (delta["path"], delta["bytes"] < 1000) == ("policy.weights", True)
    assert (tmp_path / "bundle-2-deltas" / delta["sha256"]).is_file()
    data("bundle", "sign", out)
    repository = ("--repository", tmp_path / "repository")
    data("ota", "publish", out, *repository, status=1)
    patches = ("--deltas-dir", tmp_path / "bundle-2-deltas")
    data("ota", "publish", out, *repository, *patches, "--rollout-percent", 0)
    payload = tmp_path / "repository" / "payload" / delta["sha256"][:2]
    assert (payload / delta["sha256"]).is_file()
    data("ota", "publish", out, *repository, "--rollout-percent", 101, status=2)
    root = tmp_path / "repository" / "metadata" / "1.root.json"
    shutil.copy(root, home / "keys" / "root.json")
    told = data("ota", "check", *repository)
    assert (told["newer"], told["why_not"]) == (False, "nothing is on offer")


# Hardware, robot and machine.


def test_doctor_looks_at_this_machine_and_changes_nothing(tmp_path, data, capsys):
    status = run(["doctor", "--quick", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert status in (0, 3, 4)
    assert {check["name"] for check in report["checks"]} >= {"python", "page size"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_health_and_rig_validate_are_labelled_simulated(tmp_path, capsys):
    log = tmp_path / "log.json"
    assert run(
        ["health", "--rig", "sim", "--quick", "--json", str(tmp_path / "h")]
    ) in (0, 3)
    report = json.loads((tmp_path / "h").read_text())
    assert report["origin"] == "simulated"
    assert "simulated" in capsys.readouterr().out
    assert run(["rig", "validate", "--log-json", str(log), "--quiet"]) in (0, 3)
    assert json.loads(log.read_text())["origin"] == "simulated"


def test_scan_names_each_kind_of_device_it_looked_for(data):
    report = data("rig", "scan", status=4)
    kinds = {found["kind"] for found in report["found"]}
    assert {"i2c", "camera", "hailo", "firmware", "thermal", "disk"} <= kinds
    assert report["missing"] == ["camera", "pca9685"]


def test_a_scan_of_the_simulated_rig_is_labelled(data, text):
    report = data("rig", "scan", "--rig", "sim")
    assert (report["origin"], report["missing"]) == ("simulated", [])
    assert "(simulated)" in text("rig", "scan", "--rig", "sim")


def test_health_is_watched_and_says_what_changes(text, tmp_path, capsys):
    said = text("health", "--rig", "sim", "--quick", "--watch-s", "0.5")
    assert said.count("verdict") == 1


class FakePi:
    """A Pi whose servo board hangs on a simulated bus."""

    def __init__(self, home, *, chip=None):
        from continuon.rig.pi import PiRig
        from continuon.sim.bus import SimulatedBus, connect

        self.chips = [] if chip is None else [chip]
        bus = SimulatedBus("/dev/i2c-test-cli", self.chips)
        self.rig = PiRig(bus=bus.path, connect=lambda _: connect(bus), home=home)


def test_a_measured_pulse_is_stored_and_used_from_then_on(
    tmp_path, monkeypatch, data, text
):
    from continuon.cli import hardware
    from continuon.home import Home
    from continuon.rig.calibration_record import load_calibration
    from continuon.sim.chips import Pca9685Chip

    chip = Pca9685Chip(oscillator_hz=26.2e6)
    held = []
    home = Home(tmp_path)
    monkeypatch.setattr(
        hardware, "_open", lambda name, home: FakePi(home, chip=chip).rig
    )
    monkeypatch.setattr(hardware, "_ask_consent", lambda: held.append("asked"))
    argv = ["rig", "calibrate", "--rig", "pi", "--home", tmp_path]
    seen = data(*argv, "--move", "--hold-s", "0")
    assert (seen["stored"], seen["moved"], held) == (None, True, ["asked"])
    assert set(chip.pulses_us().values()) == {0.0}
    seen = data(*argv, "--measured-us", seen["register_us"] * 25e6 / 26.2e6)
    assert load_calibration(home).oscillator_hz == pytest.approx(26.2e6, rel=1e-6)
    assert seen["stored"] == str(tmp_path / "state/calibration.json")
    monkeypatch.setattr(hardware, "_open", lambda name, home: FakePi(home).rig)
    text(*argv, "--measured-us", "1500", status=4)


def test_nothing_is_stored_of_a_simulated_board(tmp_path, data):
    argv = ["rig", "calibrate", "--home", tmp_path, "--measured-us", "1500"]
    seen = data(*argv)
    assert (seen["origin"], seen["stored"]) == ("simulated", None)
    assert files(tmp_path) == []


def test_install_writes_one_unit_and_leaves_the_rest_to_a_person(tmp_path, text):
    units = tmp_path / "units"
    would = text("robot", "install", "--unit", units, "--dry-run")
    assert "dry run" in would
    assert not units.exists()
    said = text("robot", "install", "--unit", units, "--rig", "sim", status=4)
    assert "systemctl enable --now continuon.service" in said
    assert files(units) == ["continuon.service"]
    assert "CONTINUON_HEADLESS=1" in (units / "continuon.service").read_text()


# The pipeline and its manager.


def test_status_of_a_new_home_is_ten_phases_not_run(tmp_path, data):
    rows = data("pipeline", "status", "--home", tmp_path / "none")
    assert [row["phase"] for row in rows] == list(range(1, 11))
    assert {row["verdict"] for row in rows} == {"not run"}
    assert list(tmp_path.iterdir()) == []


def test_the_manager_counts_names_the_next_commands_and_runs_nothing(home, data):
    episodes(home / "rlds" / "episodes")
    before = files(home)
    report = data("manage")
    assert report["dry_run"]
    assert report["inventory"]["episodes"] == 2
    assert any(line.startswith("continuon convert ") for line in report["next"])
    assert files(home) == before


def test_a_dry_run_of_the_manager_runs_no_step_and_says_what_is_missing(home, data):
    episodes(home / "rlds" / "episodes")
    before = files(home)
    report = data("manage", "--convert-tfrecord", "--export", "--dry-run")
    assert (report["dry_run"], report["ran"]) == (True, {})
    assert report["inventory"]["episodes"] == 2
    assert files(home) == before


def test_the_manager_keeps_what_its_steps_write_below_the_home_that_was_named(
    tmp_path, home, data
):
    other = tmp_path / "other"
    episodes(other / "rlds" / "episodes")
    assert data("manage", "--export", "--home", other)["ran"] == {"export": 0}
    assert (other / "keys" / "export-secret").is_file()
    assert not home.exists()
    assert os.environ["CONTINUON_HOME"] == str(home)


def test_the_manager_runs_the_flagged_steps_alone_and_writes_one_object(home, data):
    episodes(home / "rlds" / "episodes")
    report = data("manage", "--convert-tfrecord", "--export")
    assert report["ran"] == {"convert": 0, "export": 0}
    assert report["inventory"]["tfrecord_episodes"] == 2
    assert report["inventory"]["exported"] == 1
    assert report["inventory"]["checkpoints"] == 0


# What every command takes.

REQUIRED = {
    "rig validate": ["--log-json", "l.json"],
    "robot clear-estop": ["--reason", "r"],
    "robot instruct": ["turn left"],
    "import": ["tub", "--output-dir", "o"],
    "episodes show": ["p"],
    "episodes validate": ["p"],
    "episodes recover": ["p"],
    "episodes verify": ["p"],
    "episodes stats": ["p"],
    "episodes view": ["p"],
    "episodes split": ["p", "--output-dir", "o", "--every-s", "1"],
    "episodes trim": ["p", "--output-dir", "o"],
    "episodes merge": ["p", "q", "--output-dir", "o", "--episode-id", "e"],
    "episodes delete": ["p"],
    "infer": ["--model-path", "p"],
    "memory merge": ["p"],
    "memory rollback": ["1"],
    "train hand": ["p"],
    "train launch": [
        *("--name", "a", "--data-path", "gs://b", "--output-dir", "gs://b/o"),
    ],
    "bundle build": [
        *("--artifacts-dir", "a", "--output-dir", "o", "--version", "1.0.0"),
        *("--release-counter", "1", "--origins", "real"),
    ],
    "bundle sign": ["b"],
    "bundle verify": ["b"],
    "bundle show": ["b"],
    "ota publish": ["b", "--repository", "r"],
    "ota delegate": ["acme", "--repository", "r", "--publisher-key", "k"],
    "ota commit": ["report"],
    "grant request": ["--office", "http://127.0.0.1:9"],
    "grant claim": ["robot-1", "code", "--office", "http://127.0.0.1:9"],
    "grant transfer": ["robot-1", "bob", "--office", "http://127.0.0.1:9"],
    "grant owner": ["ada"],
    "grant subscribe": ["robot-1", "--days", "30"],
    "grant rollout": ["b"],
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_a_dry_run_writes_nothing_and_names_what_it_would_write(
    command, tmp_path, data
):
    argv = [*command.words.split(), *REQUIRED.get(command.words, [])]
    plan = data(*argv, "--dry-run")
    assert plan["done"] is False
    assert set(plan["would_write"]) == set(command.writes)
    assert "None" not in dict(plan["would_write"] or {}).values()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_the_configuration_is_shown_with_each_value_s_origin(command, tmp_path, data):
    argv = [*command.words.split(), *REQUIRED.get(command.words, [])]
    shown = data(*argv, "--show-config")
    origins = [value["origin"] for value in shown.values()]
    assert set(origins) <= {"flag", "default"}
    assert ("flag" in origins) == (command.words in REQUIRED)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_help_names_every_parameter(command, capsys):
    assert run([*command.words.split(), "--help"]) == 0
    out = capsys.readouterr().out
    module, _, name = command.target.partition(":")
    function = getattr(import_module(f"continuon.cli.{module}"), name)
    for parameter in inspect.signature(function).parameters:
        assert f"--{parameter.strip('_').replace('_', '-')}" in out
