"""Importing the plan's episodes: every version and shape, nothing silently dropped."""

import json
import os
import sys

import numpy as np
import pytest

from continuon.errors import DataError, MissingPackageError
from continuon.rlds.episode import ActionSource, Origin, XrMode
from continuon.rlds.example import encode_example
from continuon.rlds.images import decode_colour, decode_depth_png, encode_jpeg
from continuon.rlds.importers.dispatch import import_recording
from continuon.rlds.importers.plan_types import stamp_of
from continuon.rlds.plan_record import plan_in
from continuon.rlds.recording import open_recording
from continuon.rlds.tfrecord import frame

T0 = 1_700_000_000 * 10**9
METADATA = {
    "xr_mode": "trainer",
    "control_role": "human_teleop",
    "environment_id": "lab",
    "tags": ["kitchen"],
    "software": {"xr_app": "1", "continuonbrain_os": "2", "glove_firmware": "3"},
    "schema_version": "1.1",
    "robot_id": "r1",
}


def step(i, **changes):
    facts = {
        "observation": {
            "robot_state": {
                "timestamp_nanos": T0 + i * 50_000_000,
                "joint_positions": [0.1 * i, 0.2],
                "frame_id": f"frame_{i}",
            },
            "video_frame_id": f"frame_{i}",
        },
        "action": {"command": [0.5, -0.25 * i], "source": "human_teleop_xr"},
        "reward": 0.0,
        "is_terminal": i == 2,
        "step_metadata": {"note": "ok", "depth_ok": True},
    }
    return {k: v for k, v in (facts | changes).items() if v is not None}


def losses(report):
    return {loss.code[-3:]: loss.count for loss in report.losses}


def directory(root, steps, metadata=METADATA):
    (root / "steps").mkdir(parents=True)
    (root / "metadata.json").write_text(json.dumps(metadata))
    lines = [s if isinstance(s, str) else json.dumps(s) for s in steps]
    (root / "steps" / "000000.jsonl").write_text("\n".join(lines) + "\n")
    return root


def single(root, steps, metadata=METADATA):
    root.write_text(json.dumps({"metadata": metadata, "steps": list(steps)}))
    return root


def lines(root, steps, metadata=METADATA):
    rows = [{"metadata": metadata}, *steps]
    root.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return root


def records(root, steps, metadata=METADATA):
    blobs = []
    for i, raw in enumerate(steps):
        example = encode_example(
            {
                "episode_id": [b"e1"],
                "step_index": np.array([i]),
                "observation": [json.dumps(raw["observation"]).encode()],
                "action": [json.dumps(raw["action"]).encode()],
                "action_command": np.empty(0, np.float32),
                "is_terminal": np.array([int(raw["is_terminal"])]),
            }
        )
        blobs.append(b"".join(frame([example.join()], example.size)))
    root.write_bytes(b"".join(blobs))
    return root


@pytest.mark.req("R-EPISODE-48")
@pytest.mark.parametrize("write", [directory, single, lines, records])
def test_every_shape_gives_the_same_steps(tmp_path, write):
    source = write(tmp_path / "some.thing", [step(i) for i in range(3)])
    report = import_recording(source, tmp_path / "out")
    assert (report.format, losses(report), report.steps) == ("continuon-json", {}, 3)
    recording = open_recording(report.episodes[0])
    plan = plan_in(recording)
    commands = [s.action.command for s in plan.steps]
    assert commands == [(0.5, 0.0), (0.5, -0.25), (0.5, -0.5)]
    assert [s.timestamp_ns for s in plan.steps] == [
        T0 + i * 50_000_000 for i in range(3)
    ]
    assert recording.streams["action"].vectors.shape == (3, 2)
    assert recording.streams["state"].vectors[1, 0] == np.float32(0.1)
    metadata = recording.metadata
    assert metadata.origin is Origin.IMPORTED
    assert metadata.provenance["stamp_source"] == "capture"
    if write is not records:
        assert (metadata.environment_id, metadata.robot_id) == ("lab", "r1")
        assert "kitchen" in metadata.tags
        assert metadata.software["xr_app"] == "1"
        assert plan.steps[0].step_metadata == {"note": "ok", "depth_ok": "true"}
    assert metadata.action_source is ActionSource.HUMAN_TELEOP_XR


@pytest.mark.req("R-EPISODE-48")
def test_what_the_contract_does_not_know_is_kept_as_text(tmp_path):
    odd = step(
        0,
        timestamp_micros=T0 // 1000,
        observation={
            "rgb_front": {"uri": "front.jpg", "width": 1280},
            "gaze": {"origin": [0, 0, 0], "direction": [0, 0, 1], "confidence": 1, "blink": True},
            "robot_state": {"pose": "somewhere"},
            "diagnostics": {"latency_ms": float("nan")},
        },
        action={"steering": 0.25, "throttle": 0.5},
        surprise=0.5,
    )  # fmt: skip
    metadata = {
        "episode_metadata": {
            "continuon": {"xr_mode": "mixed_reality", "control_role": "pilot"},
            "is_golden": True,
            "origin": "synthetic",
        }
    }
    source = directory(tmp_path / "old", [odd], metadata=metadata)
    report = import_recording(source, tmp_path / "out")
    recording = open_recording(report.episodes[0])
    first = plan_in(recording).steps[0]
    assert first.timestamp_ns == T0
    assert first.action.command == (0.25, 0.5)
    rest = {k: json.loads(v) for k, v in first.step_metadata.items() if k.startswith("source:") and v[0] in "{[0123456789NI"}  # fmt: skip
    assert rest["source:observation.rgb_front"]["width"] == 1280
    assert rest["source:observation.gaze"] == {"blink": True}
    assert rest["source:observation.robot_state"] == {"pose": "somewhere"}
    assert np.isnan(rest["source:observation.diagnostics"]["latency_ms"])
    assert rest["source:surprise"] == 0.5
    assert first.observation.gaze.direction == (0, 0, 1)
    assert first.observation.robot_state is None
    facts = recording.metadata.provenance
    assert facts["source:xr_mode"] == "mixed_reality"
    assert facts["source:control_role"] == "pilot"
    assert facts["source:is_golden"] == "true"
    assert facts["source_origin"] == "synthetic"
    assert "source-origin:synthetic" in recording.metadata.tags
    assert recording.metadata.xr_mode is XrMode.TRAINER


@pytest.mark.req("R-EPISODE-49")
def test_a_recorders_arrays_become_lossless_pictures(tmp_path):
    root = tmp_path / "arm"
    root.mkdir()
    (root / "episode.json").write_text(
        json.dumps({**METADATA, "steps": [step(i) for i in range(2)]})
    )
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (2, 6, 8, 3)).astype(np.uint8)
    depth = rng.integers(0, 9000, (2, 6, 8)).astype(np.uint16)
    for i in range(2):
        np.save(root / f"step_{i:04d}_rgb.npy", colour[i])
        np.save(root / f"step_{i:04d}_depth.npy", depth[i])
    report = import_recording(root, tmp_path / "out")
    assert losses(report) == {}
    streams = open_recording(report.episodes[0]).streams
    for i in range(2):
        np.testing.assert_array_equal(decode_colour(streams["rgb"].blob(i)), colour[i])
        np.testing.assert_array_equal(
            decode_depth_png(streams["depth"].blob(i)), depth[i]
        )
    again = import_recording(root, tmp_path / "out")
    assert again.episodes == report.episodes


@pytest.mark.req("R-EPISODE-48")
def test_blobs_are_found_below_the_episode_alone(tmp_path):
    def seen(i, uri):
        facts = step(i)["observation"]
        video = {"uri": uri, "timestamp_ns": T0 + i * 50_000_000, "encoding": "jpeg"}
        return step(i, observation=facts | {"video": video})

    root = directory(
        tmp_path / "e",
        [seen(0, "blobs/0.jpg"), seen(1, "blobs/1.jpg"), seen(2, "../secret.jpg")],
    )
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "blobs").mkdir()
    jpeg = encode_jpeg(np.zeros((6, 8, 3), np.uint8))
    for i in range(2):
        (root / "blobs" / f"{i}.jpg").write_bytes(jpeg)
    report = import_recording(root, tmp_path / "out")
    assert losses(report) == {"002": 1}
    assert b"secret" not in report.episodes[0].read_bytes().replace(b"secret.jpg", b"")


@pytest.mark.req("R-EPISODE-48")
def test_bad_lines_commands_and_times_are_named_and_cut(tmp_path):
    nan = json.dumps(step(3)).replace("0.5", "NaN")
    back = step(5)
    back["observation"]["robot_state"]["timestamp_nanos"] = T0
    steps = [step(0), step(1), "{torn", "[" * 200_000, nan, step(4), back, step(6)]
    report = import_recording(directory(tmp_path / "e", steps), tmp_path / "out")
    assert losses(report) == {"005": 1, "011": 1, "013": 2}
    lengths = [len(plan_in(open_recording(p)).steps) for p in report.episodes]
    assert lengths == [2, 1, 1]


def test_a_folder_of_episodes_gives_each_and_names_the_empty_one(tmp_path):
    directory(tmp_path / "in" / "a", [step(0), step(1)])
    directory(tmp_path / "in" / "b", [])
    directory(tmp_path / "in" / "c", [step(0)])
    report = import_recording(tmp_path / "in", tmp_path / "out")
    assert (losses(report), len(report.episodes)) == ({"004": 1}, 2)


@pytest.mark.parametrize(
    "content", ['{"metadata": {"xr_mode": "trainer"}, "steps": [', '{"metadata": {}, "steps": []}'],
)  # fmt: skip
def test_a_torn_or_empty_episode_is_refused(tmp_path, content):
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(DataError, match="E-RLDS-IMPORT-008"):
        import_recording(tmp_path / "e.json", tmp_path / "out")


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ({"timestamp_micros": 5}, 5000),
        ({"step_metadata": {"timestamp": "1.5"}}, 1_500_000_000),
        ({"step_metadata": {"timestamp": "2023-11-14T22:13:20+00:00"}}, T0),
        ({"observation": {"frame_timestamp_ns": 7}}, 7),
        ({"timestamp": float("nan")}, None),
        ({"timestamp_ns": 0}, None),
        ({"timestamp_ns": True}, None),
        ({"timestamp_ns": 10**30}, None),
        ({"step_metadata": {"timestamp": "yesterday"}}, None),
        ({}, None),
    ],
)
def test_a_steps_time_is_found_wherever_it_stood(raw, wanted):
    assert stamp_of(raw) == wanted


@pytest.mark.parametrize(
    ("content", "module", "extra"),
    [
        (b"#ROSBAG V2.0\n", "rosbags", "ros"),
        (b"\x89MCAP0\r\n", "mcap.stream_reader", "ros"),
    ],
)
def test_a_format_whose_extra_is_absent_names_the_install_line(
    tmp_path, monkeypatch, content, module, extra
):
    for name in [n for n in sys.modules if n.split(".")[0] == module.split(".")[0]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module.split(".")[0], None)
    (tmp_path / "some").write_bytes(content)
    with pytest.raises(MissingPackageError, match=rf"continuon\[{extra}\]") as caught:
        import_recording(tmp_path / "some", tmp_path / "out")
    assert caught.value.exit_code == 2


def test_a_lerobot_set_without_its_extra_names_the_install_line(tmp_path, monkeypatch):
    meta = tmp_path / "set" / "meta"
    meta.mkdir(parents=True)
    info = {
        "codebase_version": "v2.1",
        "fps": 30,
        "features": {},
        "data_path": "data/{episode_index}.parquet",
    }
    (meta / "info.json").write_text(json.dumps(info))
    (meta / "episodes.jsonl").write_text('{"episode_index": 0, "length": 1}\n')
    (tmp_path / "set" / "data").mkdir()
    (tmp_path / "set" / "data" / "0.parquet").write_bytes(b"PAR1")
    for name in [n for n in sys.modules if n.startswith("pyarrow")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"continuon\[lerobot\]"):
        import_recording(tmp_path / "set", tmp_path / "out")


@pytest.mark.parametrize("odd", [None, 7, "x"])
def test_entries_of_an_episode_that_are_no_steps_are_named_where_they_stand(
    tmp_path, odd
):
    folder = tmp_path / "ep"
    folder.mkdir()
    facts = {"metadata": METADATA, "steps": [step(0), odd, step(1)]}
    (folder / "episode.json").write_text(json.dumps(facts))
    report = import_recording(folder, tmp_path / "out")
    assert (report.steps, report.exit_code) == (2, 3)
    (loss,) = [loss for loss in report.losses if loss.code == "E-RLDS-LOSS-013"]
    assert loss.count == 1
    assert "episode.json, steps[1]" in loss.text


@pytest.mark.parametrize("odd", [None, 7, {"a": 1}])
def test_steps_that_are_no_list_are_a_refusal(tmp_path, odd):
    path = tmp_path / "e.json"
    path.write_text(json.dumps({"metadata": METADATA, "steps": odd}))
    with pytest.raises(DataError) as caught:
        import_recording(path, tmp_path / "out")
    assert caught.value.code == "E-RLDS-IMPORT-008"


def test_a_damaged_line_is_named_by_its_number(tmp_path):
    path = directory(tmp_path / "ep", [step(0), '{"observation": ', step(1)])
    report = import_recording(path, tmp_path / "out")
    (loss,) = [loss for loss in report.losses if loss.code == "E-RLDS-LOSS-013"]
    assert "000000.jsonl:2 (" in loss.text


def test_half_a_character_is_spelt_out_and_named(tmp_path):
    """A lone surrogate is legal JSON and no Unicode; the rest is not lost with it."""
    odd = step(1, note="a\ud800b")
    odd["observation"] = {**odd["observation"], "video_frame_id": "\udfff"}
    metadata = METADATA | {"robot_id": "r\ud800", "note": {"\ud801": 1}}
    path = directory(tmp_path / "ep", [step(0), odd], metadata)
    report = import_recording(path, tmp_path / "out")
    assert losses(report) == {"019": 4}
    episode = plan_in(open_recording(report.episodes[0]))
    assert episode.metadata.robot_id == "r\\ud800"
    assert episode.steps[1].step_metadata["source:note"] == "a\\ud800b"
    assert episode.steps[1].observation.video_frame_id == "\\udfff"


@pytest.mark.parametrize(
    ("block", "field"), [("robot_state", "timestamp_nanos"), ("world_model", "x")]
)
def test_a_number_that_no_column_holds_is_kept_as_text(tmp_path, block, field):
    odd = step(1)
    table = {field: 2**70} if field != "x" else {"latent_tokens": [2**70]}
    odd["observation"][block] = table
    report = import_recording(
        single(tmp_path / "e.json", [step(0), odd]), tmp_path / "o"
    )
    (found,) = plan_in(open_recording(report.episodes[0])).steps[1:]
    assert getattr(found.observation, block) is None
    assert str(2**70) in found.step_metadata[f"source:observation.{block}"]


@pytest.mark.parametrize("odd", [[], {}, 1, ["real"]])
def test_an_origin_of_another_kind_is_kept_as_text(tmp_path, odd):
    path = single(tmp_path / "e.json", [step(0)], METADATA | {"origin": odd})
    report = import_recording(path, tmp_path / "out")
    found = open_recording(report.episodes[0]).metadata
    assert found.provenance["source:origin"] == json.dumps(odd)


def test_a_folder_in_the_place_of_steps_is_named(tmp_path):
    path = directory(tmp_path / "ep", [step(0)])
    (path / "steps" / "000001.jsonl").mkdir()
    report = import_recording(path, tmp_path / "out")
    assert losses(report) == {"003": 1}


def test_a_link_that_leads_back_is_not_followed(tmp_path):
    (tmp_path / "src").mkdir()
    for name in ("a", "b"):
        lines(tmp_path / "src" / f"{name}.jsonl", [step(0)])
    (tmp_path / "src" / "again").symlink_to(tmp_path, target_is_directory=True)
    report = import_recording(tmp_path / "src", tmp_path / "out")
    assert len(report.episodes) == 2


def test_a_source_whose_name_is_no_unicode_is_imported(tmp_path):
    folder = tmp_path / os.fsdecode(b"ep-\xff")
    folder.mkdir()
    path = directory(folder / "e", [step(0)])
    path.rename(folder / os.fsdecode(b"e-\xfe"))
    report = import_recording(folder, tmp_path / "out")
    found = open_recording(report.episodes[0]).metadata
    assert found.provenance["source_name"] == "e-\\udcfe"
