"""Releases, the export secret, the manager, figures of a capture, replayed frames."""

from __future__ import annotations

import json
import shlex
import stat

import numpy as np
import pytest

from continuon.cli.program import run
from continuon.errors import DataError, TrustError, UsageError
from continuon.home import Home
from continuon.pipeline.context import Context
from continuon.pipeline.gates import ABSENT
from continuon.pipeline.manage import take_inventory
from continuon.pipeline.phase import load_phase
from continuon.pipeline.places import seed_bundle_dir
from continuon.pipeline.recording import archive
from continuon.pipeline.releases import SEED_COUNTER, release_counter
from continuon.pipeline.secret import export_secret
from continuon.pipeline.worker import decode_context

ROW = {
    "steps": 240,
    "duration_s": 8.0,
    "rgb_rate_hz": 30.0,
    "state_rate_hz": 100.0,
    "action_rate_hz": 50.0,
    "rgb_size": [640, 480],
    "depth_size": [640, 480],
    "skew_ms": {"rgb-depth": {"p50": 1.0, "p99": 2.0, "max": 3.0}},
}


def _summarise(rows):
    from continuon.pipeline.phases.capture import summarise

    return summarise(rows)


@pytest.mark.req("R-OTA-PHASE-03")
def test_a_release_counter_only_goes_up_and_stays_with_the_newest_contents(tmp_path):
    path = tmp_path / "releases.json"
    first = release_counter(path, "aa")
    assert release_counter(path, "aa") == first
    second = release_counter(path, "bb")
    assert SEED_COUNTER < first < second
    assert release_counter(path, "bb") == second


@pytest.mark.req("R-OTA-PHASE-03")
def test_contents_that_come_back_after_others_are_a_new_release(tmp_path):
    path = tmp_path / "releases.json"
    counters = [release_counter(path, name) for name in ("aa", "bb", "aa", "aa")]
    assert counters == [2, 3, 4, 4]


def test_a_damaged_record_of_releases_is_not_guessed_around(tmp_path):
    path = tmp_path / "releases.json"
    path.write_text('{"aa": ')
    with pytest.raises(DataError, match="E-PIPE-RELEASE-001"):
        release_counter(path, "bb")


def test_the_export_secret_is_made_once_and_is_private(tmp_path):
    home = Home(tmp_path)
    secret = export_secret(home)
    assert len(secret) == 32
    assert export_secret(home) == secret
    path = home.keys / "export-secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_secret_that_others_can_read_is_refused(tmp_path):
    home = Home(tmp_path)
    export_secret(home)
    (home.keys / "export-secret").chmod(0o644)
    with pytest.raises(TrustError, match="E-KEY-SECRET-001"):
        export_secret(home)


def test_an_empty_home_misses_everything_and_names_each_command(tmp_path):
    inventory = take_inventory(Home(tmp_path))
    assert inventory.episodes == 0
    assert [step.name for step in inventory.steps if not step.done] == [
        *("record", "prove", "convert", "export", "train", "compile"),
        *("bundle", "deploy", "validate"),
    ]
    assert list(tmp_path.iterdir()) == []


def test_each_next_command_is_one_that_the_program_takes_as_it_stands(tmp_path, capsys):
    home = Home(tmp_path / "a home")
    home.episodes.mkdir(parents=True)
    (home.episodes / "x.mcap.part").touch()
    for command in take_inventory(home).next_commands:
        program, *words = shlex.split(command)
        assert program == "continuon"
        assert run([*words, "--dry-run", "--quiet"]) == 0, command
        assert str(home.root) in command
    capsys.readouterr()


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ([], 16),
        (["sim-s0-8s-0000"], 16),
        (["tub-a-0000", "tub-a-0001"], 14),
        (["sim-s0-8s-0000", "tub-a-0000"], 15),
    ],
)
def test_the_manager_asks_for_as_many_episodes_as_are_missing(tmp_path, names, count):
    home = Home(tmp_path)
    home.episodes.mkdir(parents=True)
    for name in names:
        (home.episodes / f"{name}.mcap").touch()
    (command,) = (s for s in take_inventory(home).steps if s.name == "record")
    assert command.commands[0].endswith(f"--count {count}")


def test_the_manager_asks_for_the_seed_that_validation_drives_beside_the_new_policy(
    tmp_path,
):
    home = Home(tmp_path)

    def bundle():
        (step,) = (s for s in take_inventory(home).steps if s.name == "bundle")
        return step

    asked = " ; ".join(take_inventory(home).next_commands)
    for words in ("seed.hope", "--release-counter 1", "--release-counter 2"):
        assert words in asked
    trained = tmp_path / "bundles" / "trained"
    trained.mkdir(parents=True)
    (trained / "model.sig").touch()
    assert not bundle().done
    assert not any(str(trained) in command for command in bundle().commands)
    seed_bundle_dir(Context(root=tmp_path)).mkdir()
    (seed_bundle_dir(Context(root=tmp_path)) / "model.sig").touch()
    assert bundle().done


def test_the_origins_in_a_build_command_are_those_of_the_converted_episodes(tmp_path):
    home = Home(tmp_path)
    folder = home.tfrecord / "continuon" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"splits": []}')
    (folder / "manifest.json").write_text('{"origins": ["imported"]}')
    commands = take_inventory(home).next_commands
    assert any("--origins imported" in command for command in commands)


@pytest.mark.parametrize(("verdict", "done"), [("PASSED", True), ("FAILED", False)])
def test_a_proof_that_failed_proves_nothing_to_the_manager(tmp_path, verdict, done):
    proof = {"verdict": verdict}
    (tmp_path / "proof_of_learning.json").write_text(json.dumps(proof))
    (step,) = (s for s in take_inventory(Home(tmp_path)).steps if s.name == "prove")
    assert step.done is done


@pytest.mark.parametrize("name", ["sanity", "proof", "train"])
def test_a_phase_that_trains_heeds_the_wish_for_another_trainer(
    tmp_path, monkeypatch, name
):
    pytest.importorskip("jax")
    monkeypatch.setenv("CONTINUON_PREFER_JAX", "0")
    with pytest.raises(UsageError, match="E-ENV-JAX-002"):
        load_phase(name).run(Context(root=tmp_path), lambda *_: None)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"splits": [{}]}', "null"])
def test_a_damaged_data_set_is_named_by_the_manager(tmp_path, content):
    home = Home(tmp_path)
    home.tfrecord.mkdir(parents=True)
    (home.tfrecord / "dataset_info.json").write_text(content)
    with pytest.raises(DataError, match="E-PIPE-MANAGE-001"):
        take_inventory(home)


def test_a_file_is_no_home(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(UsageError, match="E-PIPE-MANAGE-002"):
        take_inventory(Home(path))


def test_the_manager_counts_recordings_and_converted_episodes(tmp_path):
    home = Home(tmp_path)
    home.episodes.mkdir(parents=True)
    for index in range(16):
        (home.episodes / f"{index}.mcap").touch()
    (home.episodes / "x.mcap.part").touch()
    folder = home.tfrecord / "continuon" / "1.0.0"
    folder.mkdir(parents=True)
    info = {"splits": [{"name": "train", "shardLengths": ["10", "6"]}]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    inventory = take_inventory(home)
    assert (inventory.episodes, inventory.unfinished) == (16, 1)
    assert inventory.tfrecord_episodes == 16
    steps = {step.name: step.done for step in inventory.steps}
    assert steps["record"]
    assert steps["convert"]
    assert not steps["recover"]


def test_the_worst_episode_decides_the_skew_of_a_capture():
    worse = {**ROW, "skew_ms": {"rgb-depth": {"p99": 6.5}}}
    assert _summarise([ROW, worse])["skew_p99_ms"] == 6.5


def test_what_no_episode_has_is_absent_and_what_differs_is_unknown():
    tub = {**ROW, "state_rate_hz": None, "depth_size": None, "skew_ms": {}}
    figures = _summarise([tub, tub])
    assert figures["depth_size"] == ABSENT
    assert figures["state_rate_hz"] == ABSENT
    assert figures["skew_p99_ms"] == ABSENT
    mixed = _summarise([ROW, {**ROW, "rgb_size": [320, 240]}])
    assert mixed["rgb_size"] is None


@pytest.mark.req("R-GATE-01")
def test_one_episode_without_a_figure_makes_it_unknown_for_all():
    figures = _summarise(
        [ROW, {**ROW, "state_rate_hz": None, "depth_size": None, "skew_ms": {}}]
    )
    for name in ("state_rate_hz", "state_rate_min_hz", "depth_size", "skew_p99_ms"):
        assert figures[name] is None


@pytest.mark.req("R-GATE-01")
def test_an_episode_of_one_step_has_no_rate_and_does_not_hide_that_of_the_others():
    alone = {**ROW, "steps": 1, "action_rate_hz": None}
    figures = _summarise([ROW, ROW, alone])
    assert figures["action_rate_hz"] == ROW["action_rate_hz"]
    assert figures["action_rate_min_hz"] is None
    assert figures["action_rate_max_hz"] is None
    assert _summarise([alone])["action_rate_hz"] == ABSENT


def test_the_slowest_and_the_fastest_episode_decide_the_rates():
    figures = _summarise([ROW, {**ROW, "action_rate_hz": 12.0}, ROW])
    assert figures["action_rate_min_hz"] == 12.0
    assert (figures["action_rate_hz"], figures["action_rate_max_hz"]) == (50.0, 50.0)


def test_recordings_of_other_settings_are_moved_and_never_deleted(tmp_path):
    target = tmp_path / "episodes"
    for round_number in (1, 2):
        target.mkdir()
        (target / "a.mcap").write_text(str(round_number))
        archive(target)
        assert not target.exists()
    kept = sorted((tmp_path / "archive").rglob("a.mcap"))
    assert [path.read_text() for path in kept] == ["1", "2"]


def test_a_context_survives_the_way_to_its_worker(tmp_path):
    import msgspec

    context = Context(root=tmp_path, episodes_from=tmp_path / "tub", seed=3)
    assert decode_context(msgspec.json.encode(context, enc_hook=str)) == context


def test_the_short_form_changes_only_settings_that_exist():
    assert Context(root=".", **Context.SHORT).episodes == 16


def test_places_to_drive_are_on_tracks_that_no_recording_uses():
    from continuon.pipeline.drive import held_out_places
    from continuon.pipeline.recording import TRACK_SEED

    places = held_out_places(0, 10)
    assert len({place.track_seed for place in places}) == 5
    recorded = {TRACK_SEED + 1000 * seed + k for seed in range(50) for k in range(8)}
    assert not recorded & {place.track_seed for place in places}


def test_the_ratio_of_distances_is_finite_even_for_a_seed_that_goes_nowhere():
    from continuon.pipeline.drive import DriveReport, Place, Run

    def run(distance_m):
        return Run(
            place=Place(1, 0.0),
            distance_m=distance_m,
            lateral_rms_m=0.0,
            stayed=False,
            path=(),
        )

    report = DriveReport(before=(run(0.0),), after=(run(3.0), run(5.0)))
    assert report.distance_ratio == pytest.approx(40.0)
    assert np.isfinite(report.distance_ratio)


class NoSlot:
    """An updater of a robot that has no bundle yet."""

    def active_slot(self):
        return None


@pytest.mark.parametrize(("rig", "waived"), [("pi", False), ("sim", True)])
def test_only_recorded_frames_that_are_shown_again_need_no_gauge(
    tmp_path, monkeypatch, rig, waived
):
    """A policy drives on no battery that is not known, and frames have none."""
    from contextlib import nullcontext

    from continuon.pipeline import bench_robot

    configs = []
    monkeypatch.setattr(bench_robot, "learns_from_import", lambda _: rig == "sim")
    monkeypatch.setattr(bench_robot, "held_out_ids", lambda _: ["a"])
    monkeypatch.setattr(bench_robot, "active_policy", lambda *_, **__: None)
    monkeypatch.setattr(bench_robot, "GuardHandle", nullcontext)
    monkeypatch.setattr(
        bench_robot,
        "ControlHandle",
        lambda config, _: nullcontext(configs.append(config)),
    )
    with bench_robot.live_robot(Context(root=tmp_path, rig=rig), updater=NoSlot()):
        assert [config.without_gauge for config in configs] == [waived]
