"""What goes wrong at the command line is one line with a code, and an exit status."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon.cli.program import run
from continuon.rlds.images import encode_jpeg

LINE = re.compile(r"^error: (E(?:-[A-Z0-9]+)+-\d{3}): .+$", re.MULTILINE)
START_MS = 1_650_000_000_000


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory of our own, a home below it, a clean environment."""
    for name in list(os.environ):
        if name.startswith("CONTINUON_") or name == "SOURCE_DATE_EPOCH":
            monkeypatch.delenv(name)
    monkeypatch.setenv("CONTINUON_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fails(capsys):
    """Run a command that must fail; returns its exit status and its one code."""

    def call(*argv):
        capsys.readouterr()
        status = run([str(word) for word in argv])
        captured = capsys.readouterr()
        codes = LINE.findall(captured.err)
        assert len(codes) == 1, captured.err
        assert "Traceback" not in captured.err
        return status, codes[0]

    return call


@pytest.fixture
def says(capsys):
    """Run a command that ends in results; returns its exit status and what it said."""

    def call(*argv):
        capsys.readouterr()
        status = run([str(word) for word in argv])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out

    return call


def row(index, **changes):
    return {
        "_index": index,
        "_session_id": "s0",
        "_timestamp_ms": START_MS + 50 * index,
        "cam/image_array": f"{index}_cam_image_array_.jpg",
        "user/angle": 0.25,
        "user/mode": "user",
        "user/throttle": 0.5,
        **changes,
    }


def tub(folder, rows, *, deleted=(), stale=()):
    """Write a Donkeycar tub with one catalog, and a stale one if rows are given."""
    (folder / "images").mkdir(parents=True)
    lines = [json.dumps(item) for item in rows]
    (folder / "catalog_0.catalog").write_text("\n".join(lines) + "\n")
    for item in rows:
        image = encode_jpeg(np.full((12, 16, 3), item["_index"] * 9, np.uint8))
        (folder / "images" / item["cam/image_array"]).write_bytes(image)
    if stale:
        lines = [json.dumps(item) for item in stale]
        (folder / "catalog_9.catalog").write_text("\n".join(lines) + "\n")
    table = {
        "paths": ["catalog_0.catalog"],
        "current_index": len(rows),
        "max_len": 1000,
        "deleted_indexes": list(deleted),
    }
    inputs = ["cam/image_array", "user/angle", "user/throttle", "user/mode"]
    types = ["image_array", "float", "float", "str"]
    facts = [inputs, types, {}, {"created_at": 1.0}, table]
    (folder / "manifest.json").write_text("\n".join(map(json.dumps, facts)) + "\n")
    return folder


def episodes(folder, count=1, draft=None):
    """Write small recordings."""
    folder.mkdir(exist_ok=True)
    draft = draft or legal_draft(8)
    for index in range(count):
        metadata = legal_metadata(
            episode_id=f"e{index}",
            start_wall_ns=1_700_000_000_000_000_000 + index * 10**9,
        )
        write_draft(attrs.evolve(draft, metadata=metadata), folder)
    return folder


def with_nan_action():
    draft = legal_draft(8)
    stamp, _ = draft.samples["action"][2]
    bad = (stamp, np.array([np.nan, 0.1], np.float32))
    actions = (*draft.samples["action"][:2], bad, *draft.samples["action"][3:])
    return attrs.evolve(draft, samples={**draft.samples, "action": actions})


# A recording to import.


def test_a_missing_image_is_a_named_loss_and_exit_3(tmp_path, says):
    source = tub(tmp_path / "tub", [row(i) for i in range(4)])
    (source / "images" / "1_cam_image_array_.jpg").unlink()
    status, out = says("import", source, "--output-dir", tmp_path / "out")
    assert status == 3
    assert "lost: 1 x rows whose image is missing (E-RLDS-TUB-016)" in out
    assert "3 steps" in out
    status, out = says("import", source, "--output-dir", tmp_path / "out", "--json")
    assert status == 3
    assert json.loads(out)["losses"][0]["code"] == "E-RLDS-TUB-016"


def test_a_stale_catalog_is_a_named_loss_and_exit_3(tmp_path, says):
    source = tub(tmp_path / "tub", [row(i) for i in range(3)], stale=[row(90)])
    status, out = says("import", source, "--output-dir", tmp_path / "out")
    assert status == 3
    assert "(stale): catalog_9.catalog (E-RLDS-TUB-011)" in out


def test_duplicate_indexes_are_a_named_loss_and_exit_3(tmp_path, says):
    twice = row(1, **{"user/angle": -1.0})
    source = tub(tmp_path / "tub", [row(0), row(1), twice, row(2)])
    status, out = says("import", source, "--output-dir", tmp_path / "out")
    assert status == 3
    assert "index used twice) (E-RLDS-TUB-013)" in out


def test_a_nan_action_in_a_tub_is_a_named_loss_and_exit_3(tmp_path, says):
    bad = row(1, **{"user/angle": float("nan")})
    source = tub(tmp_path / "tub", [row(0), bad, row(2)])
    status, out = says("import", source, "--output-dir", tmp_path / "out")
    assert status == 3
    assert "E-RLDS-TUB-015" in out


def test_a_tub_whose_records_are_all_deleted_is_refused(tmp_path, fails):
    source = tub(tmp_path / "tub", [row(0), row(1)], deleted=[0, 1])
    out = tmp_path / "out"
    assert fails("import", source, "--output-dir", out) == (1, "E-RLDS-IMPORT-008")
    assert not out.exists()


@pytest.mark.parametrize("content", [None, {}, {"readme.txt": "hello"}])
def test_a_folder_that_is_no_recording_is_refused(tmp_path, fails, content):
    source = tmp_path / "source"
    if content is not None:
        source.mkdir()
        for name, text in content.items():
            (source / name).write_text(text)
    refused = (1, "E-RLDS-IMPORT-001")
    assert fails("import", source, "--output-dir", tmp_path / "out") == refused


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_a_torn_manifest_is_refused(tmp_path, fails, content):
    (tmp_path / "manifest.json").write_bytes(content)
    refused = (1, "E-RLDS-TUB-001")
    assert fails("import", tmp_path, "--output-dir", tmp_path / "out") == refused


def test_an_output_folder_that_is_a_file_is_named(tmp_path, fails):
    source = tub(tmp_path / "tub", [row(0), row(1)])
    (tmp_path / "file").write_text("x")
    for target in ("file", "file/deeper"):
        refused = (1, "E-IO-KIND-005")
        assert fails("import", source, "--output-dir", tmp_path / target) == refused
    assert (tmp_path / "file").read_text() == "x"


# Recordings of our own.


@pytest.mark.parametrize("words", ["episodes list", "episodes validate"])
def test_a_folder_without_recordings_is_refused(tmp_path, fails, words):
    (tmp_path / "empty").mkdir()
    for name in ("none", "empty"):
        assert fails(*words.split(), tmp_path / name) == (1, "E-RLDS-EPISODES-001")


@pytest.mark.parametrize("words", ["convert --input-dir", "export --episodes-dir"])
def test_what_copies_refuses_a_folder_without_recordings(tmp_path, fails, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "readme.txt").write_text("x")
    for name in ("none", "empty", "text"):
        assert fails(*words.split(), tmp_path / name) == (1, "E-RLDS-STEPS-002")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["sanity --rlds-dir", "prove --rlds-dir", "train --data-path"]
)
def test_what_learns_refuses_a_folder_without_recordings(tmp_path, fails, words):
    pytest.importorskip("jax")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "readme.txt").write_text("x")
    for name in ("none", "text"):
        assert fails(*words.split(), tmp_path / name) == (1, "E-RLDS-STEPS-002")


def test_unfinished_recordings_point_to_recover(tmp_path, capsys):
    (tmp_path / "a.mcap.part").write_bytes(b"x")
    assert run(["episodes", "list", str(tmp_path)]) == 1
    assert "continuon episodes recover" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["episodes list", "episodes show"])
def test_a_file_that_is_no_recording_is_refused(tmp_path, fails, words):
    (tmp_path / "a.mcap").write_text("hello")
    code = (1, "E-RLDS-MCAP-001")
    assert fails(*words.split(), tmp_path / "a.mcap") == code


def test_showing_a_folder_is_a_usage_error(tmp_path, fails):
    assert fails("episodes", "show", tmp_path) == (2, "E-RLDS-EPISODES-002")


def test_one_torn_recording_does_not_hide_the_others(tmp_path, says):
    folder = episodes(tmp_path / "e", 2)
    torn = folder / "e1.mcap"
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    status, out = says("episodes", "list", folder)
    assert status == 3
    assert "e0  " in out
    assert "E-RLDS-RECORDING-005" in out
    status, out = says("episodes", "validate", folder)
    assert status == 3
    assert "1 of 2 episodes keep the contract" in out
    status, out = says("episodes", "recover", torn)
    assert status == 3
    assert "recovered" in out
    assert says("episodes", "list", folder)[0] == 0


def test_a_nan_action_in_a_recording_is_named_and_exit_3(tmp_path, says):
    folder = episodes(tmp_path / "e", draft=with_nan_action())
    status, out = says("episodes", "validate", folder)
    assert status == 3
    assert "E-EPISODE-ACTION-001" in out


def test_a_nan_action_never_leaves_the_robot(tmp_path, fails):
    folder = episodes(tmp_path / "e", draft=with_nan_action())
    status, _ = fails(
        "export", "--episodes-dir", folder, "--output-dir", tmp_path / "x"
    )
    assert status == 1
    assert not list((tmp_path / "x").glob("*.mcap"))


@pytest.mark.slow
def test_fewer_than_sixteen_episodes_are_too_few_to_train_on(tmp_path, fails):
    pytest.importorskip("jax")
    folder = episodes(tmp_path / "e", 3)
    few = (1, "E-LEARN-FEW-001")
    assert fails("train", "--data-path", folder, "--num-steps", "1") == few
    assert fails("sanity", "--rlds-dir", folder) == few
    assert fails("prove", "--rlds-dir", folder) == few
    assert not (tmp_path / "home" / "trainer").exists()


@pytest.mark.parametrize(
    "argv",
    [
        ("sanity", "--max-steps", "0"),
        ("sanity", "--batch-size", "-1"),
        ("prove", "--num-steps", "0"),
        ("train", "--num-steps", "0"),
    ],
    ids=" ".join,
)
def test_no_steps_at_all_is_refused_before_anything_is_compiled(fails, argv):
    assert fails(*argv) == (2, "E-CLI-COUNT-001")


@pytest.mark.slow
def test_fewer_than_sixteen_episodes_miss_the_gate_of_the_capture(tmp_path, capsys):
    source = tub(tmp_path / "tub", [row(i) for i in range(4)])
    argv = ["pipeline", "run", "--only", "capture", "--json"]
    status = run([*argv, "--episodes-from", str(source), "--home", str(tmp_path / "h")])
    captured = capsys.readouterr()
    assert status == 3
    assert LINE.findall(captured.err) == ["E-GATE-CAPTURE-003"]
    phase = json.loads(captured.out)["phases"][0]
    assert phase["verdict"] == "missed"
    assert phase["missed"][0]["figure"] == "episodes"


# The pipeline.


def test_a_recording_that_is_not_there_is_refused_before_any_phase(tmp_path, fails):
    argv = ("pipeline", "run", "--episodes-from", tmp_path / "none")
    assert fails(*argv) == (2, "E-PIPE-SOURCE-001")
    assert not (tmp_path / "home").exists()


def test_a_phase_whose_predecessor_has_not_run_says_which(tmp_path, capsys):
    home = tmp_path / "h"
    argv = ["pipeline", "run", "--only", "sanity", "--home", str(home), "--json"]
    assert run(argv) == 1
    captured = capsys.readouterr()
    assert LINE.findall(captured.err) == ["E-PIPE-UPSTREAM-001"]
    assert "--only capture" in captured.err
    error = json.loads(captured.out)["phases"][0]["error"]
    assert error["code"] == "E-PIPE-UPSTREAM-001"


@pytest.mark.parametrize("content", [b"{", b"\xff", b"", b"[]", b'{"schema": 1}'])
@pytest.mark.parametrize("verb", ["status", "report", "run"])
def test_a_corrupt_receipt_is_named_and_not_taken_for_one(
    tmp_path, fails, verb, content
):
    receipts = tmp_path / "home" / "reports" / "receipts"
    (tmp_path / "home" / "rlds" / "episodes").mkdir(parents=True)
    receipts.mkdir(parents=True)
    (receipts / "03-capture.json").write_bytes(content)
    more = ["--only", "sanity"] if verb == "run" else []
    assert fails("pipeline", verb, *more) == (1, "E-PIPE-RECEIPT-001")
    assert (receipts / "03-capture.json").read_bytes() == content


def test_a_report_of_nothing_is_refused(tmp_path, fails):
    assert fails("pipeline", "report", "--home", tmp_path) == (1, "E-PIPE-REPORT-001")


def test_a_home_that_is_a_file_is_named(tmp_path, fails):
    (tmp_path / "file").write_text("x")
    home = ("--home", tmp_path / "file")
    assert fails("pipeline", "status", *home) == (1, "E-IO-KIND-005")


CHILD = """
import sys
from continuon.pipeline.context import Context
from continuon.pipeline.runner import run_pipeline
context = Context(root=sys.argv[1], episodes=2, episode_s=0.5, workers=1)
run = run_pipeline(context, phases=("capture",))[0]
print(run.receipt.figures["episodes"], run.receipt.figures["invalid_episodes"])
"""


@pytest.mark.slow
def test_a_killed_capture_is_not_taken_for_whole_and_runs_again(tmp_path, says):
    home = tmp_path / "h"
    command = [sys.executable, "-c", CHILD, str(home)]
    # A session of its own, so that the kill reaches the workers as a power cut would.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        while child.poll() is None:
            if list((home / "rlds").glob("*/*.mcap*")):
                break
        assert child.poll() is None
        os.killpg(child.pid, signal.SIGKILL)
    assert not (home / "rlds" / "episodes").exists()
    status, out = says("pipeline", "status", "--home", home)
    assert status == 0
    assert "3 capture   not run" in out
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout.split()[0] == "2"
    names = sorted(path.name for path in (home / "rlds" / "episodes").iterdir())
    assert len(names) == 2
    assert all(name.endswith(".mcap") for name in names)
    assert not (home / "rlds" / "episodes.part").exists()


# A full disk.


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB; skipped where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if not done or done.returncode:
        pytest.skip("this user may not mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def noisy_tub(folder, count=24):
    tub(folder, [row(i) for i in range(count)])
    noise = np.random.default_rng(0)
    for path in (folder / "images").iterdir():
        image = noise.integers(0, 255, (120, 160, 3), dtype=np.uint8)
        path.write_bytes(encode_jpeg(image))
    return folder


def test_importing_onto_a_full_disk_says_so_and_leaves_only_what_was_whole(
    tmp_path, small_disk, fails, says
):
    source = noisy_tub(tmp_path / "tub")
    argv = ("import", source, "--output-dir", small_disk / "o", "--episode-steps", 9)
    assert fails(*argv) == (1, "E-RLDS-IMPORT-006")
    _, out = says("episodes", "list", small_disk / "o")
    assert all(line.endswith("slice") for line in out.splitlines())


@pytest.mark.parametrize(
    "words", ["convert --input-dir", "export --episodes-dir"], ids=["convert", "export"]
)
def test_writing_a_copy_onto_a_full_disk_publishes_nothing(
    tmp_path, small_disk, fails, says, words
):
    source = noisy_tub(tmp_path / "tub")
    says("import", source, "--output-dir", tmp_path / "e", "--episode-steps", "4")
    target = small_disk / "o"
    argv = (*words.split(), tmp_path / "e", "--output-dir", target)
    assert fails(*argv) == (1, "E-IO-FULL-001")
    published = [*target.glob("*.mcap"), *target.rglob("manifest.json")]
    assert published == []


@pytest.mark.parametrize("free", [0, 4096], ids=["no room", "room for one file"])
def test_a_key_on_a_full_disk_is_no_key_and_half_a_pair_is_not_left(
    small_disk, fails, free
):
    """A tmpfs gives a file room a page at a time."""
    (small_disk / "keys").mkdir()
    (small_disk / "filler").write_bytes(bytes(256 * 1024 - free))
    argv = ("keys", "new", small_disk / "keys" / "k.pem")
    assert fails(*argv) == (1, "E-IO-FULL-001")
    assert list((small_disk / "keys").iterdir()) == []


@pytest.mark.slow
def test_a_pipeline_on_a_full_disk_stops_with_one_line(tmp_path, small_disk, fails):
    source = noisy_tub(tmp_path / "tub")
    argv = ("pipeline", "run", "--only", "capture", "--episodes-from", source)
    status, code = fails(*argv, "--home", small_disk)
    assert status == 1
    # The second one, where not even the receipt of the failure has room.
    assert code in ("E-RLDS-IMPORT-006", "E-IO-FULL-001")
    assert not (small_disk / "rlds" / "episodes").exists()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "E-IO-FULL-001"),
        (errno.EROFS, "E-IO-READONLY-002"),
        (errno.EACCES, "E-IO-DENIED-003"),
        (errno.EIO, "E-IO-OTHER-006"),
    ],
)
def test_what_a_disk_refuses_is_one_line(tmp_path, fails, monkeypatch, number, code):
    def refuse(*_args, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("continuon.durable.os.fsync", refuse)
    assert fails("doctor", "--quick", "--json=log.json", "--quiet") == (1, code)
    assert list(tmp_path.iterdir()) == []


# Names that do not exist.


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("bogus", "E-CLI-COMMAND-001"),
        ("pipeline bogus", "E-CLI-COMMAND-001"),
        ("episodes", "E-CLI-COMMAND-002"),
        ("episodes --json", "E-CLI-COMMAND-002"),
        ("--bogus", "E-CLI-USAGE-001"),
        ("pipeline run --bogus", "E-CLI-USAGE-001"),
        ("pipeline run --seed one", "E-CLI-USAGE-001"),
        ("pipeline run --rig moon", "E-CLI-USAGE-001"),
        ("pipeline run --only dance", "E-PIPE-PHASE-001"),
        ("pipeline run --episodes 0", "E-CLI-COUNT-001"),
        ("pipeline run --num-steps 0", "E-CLI-COUNT-001"),
        ("record --count 0", "E-CLI-COUNT-001"),
        ("record --workers 0", "E-CLI-COUNT-001"),
        ("record --duration-s nan", "E-CLI-DURATION-001"),
        ("record --duration-s -1", "E-CLI-DURATION-001"),
        ("record --duration-s inf", "E-CLI-DURATION-001"),
        ("train --trainer torch", "E-CLI-USAGE-001"),
        ("keys new --algorithm rsa", "E-CLI-USAGE-001"),
        ("bundle verify", "E-CLI-USAGE-001"),
        ("ota check", "E-CLI-OTA-001"),
        ("grant subscribe robot-7 --days nan", "E-CLI-GRANT-004"),
        ("grant subscribe robot-7 --days -1", "E-CLI-GRANT-004"),
    ],
)
def test_a_usage_mistake_is_one_line_and_exit_2(fails, tmp_path, words, code):
    assert fails(*words.split()) == (2, code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("ota check --repository there", "E-CLI-OTA-002"),
        ("ota check --repository there --root nowhere", "E-CLI-OTA-002"),
        ("bundle verify there --key nowhere", "E-BUNDLE-KEY-006"),
    ],
)
def test_without_what_trust_starts_from_it_is_a_refusal_and_exit_5(fails, words, code):
    assert fails(*words.split()) == (5, code)


@pytest.mark.slow
def test_an_unknown_preset_lists_the_ones_there_are(tmp_path, capsys):
    pytest.importorskip("jax")
    folder = episodes(tmp_path / "e", 2)
    argv = ["sanity", "--rlds-dir", str(folder), "--arch-preset", "huge"]
    argv += ["--minimum-episodes", "2"]
    assert run(argv) == 2
    err = capsys.readouterr().err
    assert LINE.findall(err) == ["E-HOPE-PRESET-001"]
    assert "pi5" in err


@pytest.mark.parametrize("content", [None, "x =", "[pipeline.run]\nseeds = 1\n"])
def test_a_configuration_that_cannot_be_read_is_named(
    tmp_path, fails, monkeypatch, content
):
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("CONTINUON_CONFIG", str(path))
    status, code = fails("pipeline", "run")
    assert status == 2
    assert code.startswith("E-CLI-CONFIG-")


@pytest.mark.parametrize(
    "content",
    [
        "pipeline = 3",
        "[pipeline]\nrun = 3",
        "[pipeline]\nseed = 3",
        "[pipeline.rum]\nseed = 3",
        "[train]\nlaunch = 3",
        "[pipeline.run.home]\na = 1",
        "[train.lanch]\nname = 'a'",
        "[[pipeline.run]]\nseed = 3",
    ],
)
@pytest.mark.parametrize("argv", ["pipeline status", "doctor"])
def test_nothing_in_the_configuration_is_passed_over(tmp_path, fails, content, argv):
    (tmp_path / "continuon.toml").write_text(content)
    assert fails(*argv.split(), "--show-config") == (2, "E-CLI-CONFIG-005")


def test_a_configuration_may_speak_to_other_commands(tmp_path, says):
    (tmp_path / "continuon.toml").write_text(
        "[train]\nseed = 3\n[train.launch]\nname = 'a'\n[pipeline.run]\nseed = 1\n"
    )
    assert says("train", "--show-config")[0] == 0


# Bundles and keys.


@pytest.fixture
def bundle(tmp_path, says):
    """A signed bundle of made-up artifacts, and the key beside it."""
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    for name in ("policy.tflite", "policy.weights", "spec.json", "golden.json"):
        (artifacts / name).write_bytes(name.encode() * 9)
    (artifacts / "spec.json").write_text("{}")
    folder, key = tmp_path / "bundle", tmp_path / "k.pem"
    facts = ["--version", "1.0.0", "--release-counter", "1", "--origins", "simulated"]
    place = ("--artifacts-dir", artifacts, "--output-dir", folder)
    assert says("keys", "new", key)[0] == 0
    assert says("bundle", "build", *place, *facts)[0] == 0
    assert says("bundle", "sign", folder, "--key", key)[0] == 0
    return folder


def test_one_flipped_bit_in_any_file_is_exit_5_with_its_code(bundle, tmp_path, fails):
    key = tmp_path / "k.pub.pem"
    for path in sorted(item for item in bundle.rglob("*") if item.is_file()):
        whole = path.read_bytes()
        torn = bytearray(whole)
        torn[len(torn) // 2] ^= 1
        path.write_bytes(torn)
        status, code = fails("bundle", "verify", bundle, "--key", key)
        assert status == 5, path
        assert code.startswith(("E-BUNDLE-SET-", "E-BUNDLE-SIG-"))
        path.write_bytes(whole)


def test_a_refused_bundle_s_code_is_in_the_json_too(bundle, tmp_path, capsys):
    capsys.readouterr()
    (bundle / "policy.weights").write_bytes(b"other")
    key = str(tmp_path / "k.pub.pem")
    assert run(["bundle", "verify", str(bundle), "--key", key, "--json"]) == 5
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert error["code"] == LINE.findall(captured.err)[0]
    assert error["exit_code"] == 5


@pytest.mark.parametrize("target", ["unsigned", "empty", "none", "file"])
def test_what_is_no_signed_bundle_is_refused(bundle, tmp_path, fails, target):
    folder = tmp_path / target
    if target == "unsigned":
        shutil.copytree(bundle, folder)
        (folder / "model.sig").unlink()
    elif target == "empty":
        folder.mkdir()
    elif target == "file":
        folder.write_text("x")
    status, code = fails("bundle", "verify", folder, "--key", tmp_path / "k.pub.pem")
    assert status == 5
    assert code in ("E-BUNDLE-SIG-001", "E-BUNDLE-SET-012")


@pytest.mark.parametrize(("verb", "status"), [("verify", 5), ("sign", 2)])
def test_a_key_file_that_is_not_there_is_named(bundle, tmp_path, fails, verb, status):
    """Nothing is trusted without a key, which is a refusal; to sign without is a slip."""
    missing = tmp_path / "none.pem"
    answer = (status, "E-BUNDLE-KEY-006")
    assert fails("bundle", verb, bundle, "--key", missing) == answer
    assert fails("bundle", verb, bundle) == answer
    assert fails("bundle", verb, bundle, "--key", tmp_path) == answer


def test_status_is_five_lines_also_where_the_key_is_missing(says, tmp_path):
    status, text = says("ota", "status")
    assert (status, len(text.splitlines())) == (0, 5)
    assert "release.pub.pem" in text.splitlines()[4]
    assert not (tmp_path / "home").exists()


def test_a_file_that_is_no_key_verifies_nothing(bundle, tmp_path, fails):
    (tmp_path / "text.pem").write_text("no key")
    argv = ("bundle", "verify", bundle, "--key", tmp_path / "text.pem")
    assert fails(*argv) == (5, "E-BUNDLE-KEY-002")


def test_a_key_is_never_written_over(tmp_path, fails, bundle):
    before = (tmp_path / "k.pem").read_bytes()
    assert fails("keys", "new", tmp_path / "k.pem") == (2, "E-BUNDLE-KEY-004")
    assert (tmp_path / "k.pem").read_bytes() == before


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        ("bundle show none", "E-IO-MISSING-004"),
        ("bundle show k.pem", "E-IO-KIND-005"),
        ("keys new k.pem/deeper.pem", "E-IO-KIND-005"),
        ("ota commit none --key k.pub.pem", "E-IO-MISSING-004"),
        ("ota commit k.pem --key k.pub.pem", "E-CLI-OTA-003"),
        ("infer --model-path artifacts", "E-EDGE-SPEC-002"),
        ("infer --model-path home", "E-EDGE-SPEC-001"),
    ],
)
def test_a_file_that_is_missing_or_of_another_kind_is_one_line(
    bundle, fails, argv, code
):
    assert fails(*argv.split()) == (1, code)


@pytest.mark.slow
def test_what_is_no_checkpoint_is_not_compiled(tmp_path, fails):
    pytest.importorskip("jax")
    (tmp_path / "text.hope").write_text("x")
    assert fails("compile", "none.hope") == (1, "E-TENSOR-FILE-001")
    assert fails("compile", "text.hope") == (1, "E-TENSOR-HEAD-002")
    assert fails("compile", tmp_path) == (1, "E-IO-KIND-005")


def test_an_epoch_that_is_no_number_is_a_usage_error(
    bundle, tmp_path, fails, monkeypatch
):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    facts = ["--version", "1.0.1", "--release-counter", "2", "--origins", "simulated"]
    place = ("--artifacts-dir", tmp_path / "artifacts", "--output-dir", tmp_path / "b2")
    assert fails("bundle", "build", *place, *facts) == (2, "E-CLI-EPOCH-001")


# Where the words go.


def test_an_error_as_json_is_one_object_and_the_line_stays_on_the_other_stream(
    tmp_path, capsys
):
    argv = ["episodes", "validate", str(tmp_path / "none"), "--json"]
    assert run(argv) == 1
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert error["code"] == "E-RLDS-EPISODES-001"
    assert error["where"] == str(tmp_path / "none")
    assert captured.err.count("\n") == 1
    assert run([*argv[:-1], "--json=e.json"]) == 1
    assert json.loads(Path("e.json").read_text())["error"] == error


def test_json_that_cannot_be_written_is_still_one_error_line(tmp_path, fails):
    (tmp_path / "file").write_text("x")
    refused = (1, "E-RLDS-EPISODES-001")
    assert fails("episodes", "list", "none", "--json=file/e.json") == refused
    refused = (1, "E-IO-KIND-005")
    assert fails("pipeline", "status", "--json=file/e.json", "--quiet") == refused


def test_a_person_who_debugs_gets_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError):
        run(["bundle", "show", str(tmp_path / "none"), "--debug"])


def program(*argv, **options):
    code = "import sys; from continuon.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.mark.slow
def test_the_program_itself_keeps_status_and_streams(tmp_path):
    done = program("bundle", "show", tmp_path / "none", "--json")
    assert done.returncode == 1
    assert LINE.findall(done.stderr) == ["E-IO-MISSING-004"]
    assert done.stderr.count("\n") == 1
    assert json.loads(done.stdout)["error"]["code"] == "E-IO-MISSING-004"


@pytest.mark.slow
def test_a_reader_that_leaves_early_causes_no_traceback():
    code = "import sys; from continuon.cli import main; sys.exit(main())"
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-c", code, "--help"],
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b""
