"""Exporting to LeRobot v3: its documented layout, our bytes, nothing hidden."""

import json

import attrs
import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon.errors import DataError
from continuon.rlds.episode import EndReason, Share
from continuon.rlds.importers.dispatch import import_recording
from continuon.rlds.recording import open_recording
from continuon.rlds.steps import read_steps

pq = pytest.importorskip("pyarrow.parquet", reason="needs continuon[lerobot]")

from continuon.rlds.exporters.lerobot import write_lerobot  # noqa: E402


def recordings(folder, *sizes, **changes):
    folder.mkdir()
    for number, steps in enumerate(sizes):
        draft = legal_draft(steps)
        metadata = attrs.evolve(
            draft.metadata, episode_id=f"e{number}", task=f"task {number % 2}"
        )
        write_draft(attrs.evolve(draft, metadata=metadata, **changes), folder)
    return folder


@pytest.mark.req("R-EPISODE-54")
def test_the_layout_is_that_of_lerobot_v3_and_pictures_keep_their_bytes(tmp_path):
    source = recordings(tmp_path / "in", 8, 5)
    report = write_lerobot(source, tmp_path / "out")
    assert (report.episodes, report.steps, report.skipped) == (2, 13, ())
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"]) == ("v3.0", 30)
    assert (info["total_episodes"], info["total_frames"]) == (2, 13)
    rows = pq.read_table(tmp_path / "out/data/chunk-000/file-000.parquet")
    assert set(rows.column_names) == set(info["features"])
    assert rows.column("index").to_pylist() == list(range(13))
    assert rows.column("frame_index").to_pylist() == [*range(8), *range(5)]
    assert rows.column("episode_index").to_pylist() == [0] * 8 + [1] * 5
    stamps = np.array(rows.column("timestamp").to_pylist(), np.float32)
    np.testing.assert_array_equal(stamps[:8], np.float32(np.arange(8) / 30))
    steps = list(read_steps(source))
    images = [r["bytes"] for r in rows.column("observation.images.main").to_pylist()]
    assert images == [*steps[0].image, *steps[1].image]
    truth = [at for episode in steps for at in episode.stamp_ns.tolist()]
    assert rows.column("capture_ns").to_pylist() == truth
    episodes = pq.read_table(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet")
    first, second = episodes.to_pylist()
    assert (first["dataset_from_index"], first["dataset_to_index"]) == (0, 8)
    assert (second["dataset_from_index"], second["dataset_to_index"]) == (8, 13)
    tasks = pq.read_table(tmp_path / "out/meta/tasks.parquet").to_pylist()
    assert tasks == [
        {"task_index": 0, "__index_level_0__": "task 0"},
        {"task_index": 1, "__index_level_0__": "task 1"},
    ]
    ours = json.loads((tmp_path / "out/meta/continuon.json").read_text())
    assert ours["episodes"][0]["metadata"]["origin"] == "simulated"


@pytest.mark.req("R-EPISODE-54")
def test_statistics_merge_exactly_to_those_of_all_rows(tmp_path):
    source = recordings(tmp_path / "in", 9, 4, 6)
    write_lerobot(source, tmp_path / "out")
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    valid = np.concatenate([s.state[s.valid] for s in read_steps(source)]).astype(float)
    state = stats["observation.state"]
    np.testing.assert_allclose(state["mean"], valid.mean(axis=0))
    np.testing.assert_allclose(state["std"], valid.std(axis=0))
    assert (state["min"], state["count"]) == (valid.min(axis=0).tolist(), [len(valid)])
    assert np.array(stats["observation.images.main"]["mean"]).shape == (3, 1, 1)


@pytest.mark.req("R-EPISODE-54")
def test_files_are_split_between_episodes(tmp_path):
    report = write_lerobot(
        recordings(tmp_path / "in", 5, 5, 5), tmp_path / "out", file_bytes=1
    )
    names = sorted(p.name for p in (tmp_path / "out/data/chunk-000").iterdir())
    assert names == [f"file-00{i}.parquet" for i in range(3)]
    assert report.episodes == 3


@pytest.mark.req("R-EPISODE-55")
def test_what_is_exported_and_imported_again_is_equal(tmp_path):
    source = recordings(tmp_path / "in", 8, 5)
    write_lerobot(source, tmp_path / "set")
    report = import_recording(tmp_path / "set", tmp_path / "again")
    assert {loss.code[-3:] for loss in report.losses} <= {"009"}
    before, after = list(read_steps(source)), list(read_steps(tmp_path / "again"))
    assert len(before) == len(after) == 2
    for one, two in zip(before, after, strict=True):
        assert list(one.image) == list(two.image)
        assert list(one.depth) == list(two.depth)
        np.testing.assert_array_equal(one.stamp_ns, two.stamp_ns)
        np.testing.assert_array_equal(one.state, two.state)
        np.testing.assert_array_equal(one.action, two.action)
        assert one.state_names == two.state_names
        assert one.metadata.task == two.metadata.task
    facts = open_recording(report.episodes[0]).metadata.provenance
    assert facts["stamp_source"] == "capture"


@pytest.mark.req("R-EPISODE-55")
def test_who_drove_and_what_was_simulated_comes_back(tmp_path):
    """An episode that a policy drove must not return as a person's demonstration."""
    draft = legal_draft(8)
    streams = tuple(
        attrs.evolve(spec, depth_unit_m=0.0005) if spec.name == "depth" else spec
        for spec in draft.streams
    )
    metadata = attrs.evolve(
        draft.metadata,
        origin="simulated",
        xr_mode="observer",
        control_role="human_supervisor",
        action_source="vla_policy",
        robot_id="car-7",
        tags=("night",),
        share=Share(pii_cleared=False, pending_review=True),
    )
    (tmp_path / "in").mkdir()
    made = attrs.evolve(
        draft, streams=streams, metadata=metadata, end_reason=EndReason.FAULT
    )
    write_draft(made, tmp_path / "in")
    write_lerobot(tmp_path / "in", tmp_path / "set")
    report = import_recording(tmp_path / "set", tmp_path / "again")
    again = open_recording(report.episodes[0])
    for name in ("control_role", "action_source", "robot_id", "share", "xr_mode"):
        assert getattr(again.metadata, name) == getattr(made.metadata, name), name
    assert again.metadata.origin == "imported"
    assert again.metadata.provenance["source_origin"] == "simulated"
    assert {"source-origin:simulated", "night"} <= set(again.metadata.tags)
    assert again.end_reason is made.end_reason
    assert again.streams["depth"].spec.depth_unit_m == 0.0005
    assert "depth does not state" not in " ".join(report.notes)


@pytest.mark.req("R-EPISODE-55")
def test_a_masked_step_is_cut_away_and_damaged_words_are_a_named_loss(tmp_path):
    draft = legal_draft(8)
    rows = draft.samples["action"]
    late = tuple((at, value) for at, value in rows if at > draft.samples["rgb"][1][0])
    made = attrs.evolve(draft, samples={**draft.samples, "action": late})
    (tmp_path / "in").mkdir()
    write_draft(made, tmp_path / "in")
    (before,) = read_steps(tmp_path / "in")
    assert not before.valid.all()
    write_lerobot(tmp_path / "in", tmp_path / "set")
    report = import_recording(tmp_path / "set", tmp_path / "again")
    (after,) = read_steps(tmp_path / "again")
    assert after.valid.all()
    np.testing.assert_array_equal(after.action, before.action[before.valid])
    np.testing.assert_array_equal(after.stamp_ns, before.stamp_ns[before.valid])
    lost = {loss.code: loss.count for loss in report.losses}
    assert lost["E-RLDS-LOSS-020"] == int((~before.valid).sum())
    (tmp_path / "set" / "meta" / "continuon.json").write_text("{torn")
    report = import_recording(tmp_path / "set", tmp_path / "third")
    assert "E-RLDS-LOSS-003" in {loss.code for loss in report.losses}


@pytest.mark.req("R-EPISODE-54")
def test_other_streams_are_skipped_and_what_has_no_place_is_listed(tmp_path):
    source = recordings(tmp_path / "in", 8)
    draft = legal_draft(4, width=32)
    metadata = attrs.evolve(draft.metadata, episode_id="wide")
    write_draft(attrs.evolve(draft, metadata=metadata), source)
    (source / "junk.mcap").write_bytes(b"junk")
    report = write_lerobot(source, tmp_path / "out")
    assert report.episodes == 1
    assert sorted(text.split(":")[0] for text in report.skipped) == ["junk.mcap", "wide.mcap"]  # fmt: skip
    omitted = {item.text: item.count for item in report.omitted}
    assert set(omitted) == {"samples of action", "samples of state"}
    assert report.exit_code == 3


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(tmp_path, monkeypatch):
    source = recordings(tmp_path / "in", 3)
    write_lerobot(source, tmp_path / "out")
    with pytest.raises(DataError, match="E-RLDS-FORMAT-001"):
        write_lerobot(source, tmp_path / "out")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("continuon.rlds.exporters.lerobot._write_tables", full)
    with pytest.raises(OSError, match="space"):
        write_lerobot(source, tmp_path / "other")
    assert {p.name for p in tmp_path.iterdir()} == {"in", "out"}


def test_a_folder_without_a_usable_episode_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "junk.mcap").write_bytes(b"junk")
    with pytest.raises(DataError, match="E-RLDS-FORMAT-002"):
        write_lerobot(tmp_path / "in", tmp_path / "out")
