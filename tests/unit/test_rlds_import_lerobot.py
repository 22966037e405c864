"""Importing LeRobot data sets: rows and films as they are, absent files named."""

import json
from fractions import Fraction

import numpy as np
import pytest

from continuon.errors import DataError, UsageError
from continuon.rlds.episode import EndReason
from continuon.rlds.images import decode_colour, decode_colour_png, encode_colour_png
from continuon.rlds.importers.dispatch import import_recording
from continuon.rlds.importers.harvest import ImportOptions
from continuon.rlds.recording import open_recording

pa = pytest.importorskip("pyarrow", reason="needs continuon[lerobot]")
pq = pytest.importorskip("pyarrow.parquet", reason="needs continuon[lerobot]")
av = pytest.importorskip("av", reason="needs continuon[lerobot]")

FPS = 20


def film(path, count, *, start=0):
    """Write a lossless film whose frame i is of the grey value 10 * (start + i)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=FPS, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 16, "rgb24"
        stream.time_base = Fraction(1, FPS)
        for i in range(count):
            pixels = np.full((16, 32, 3), 10 * (start + i), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def rows(count, index, **changes):
    at = np.arange(count)
    columns = {
        "observation.state": [[float(i), float(-i)] for i in at],
        "action": [[0.5 * i] for i in at],
        "timestamp": pa.array(at / FPS, pa.float32()),
        "frame_index": at,
        "episode_index": np.full(count, index),
        "task_index": np.zeros(count, int),
    }
    merged = columns | changes
    return pa.table({k: v for k, v in merged.items() if v is not None})


FEATURES = {
    "observation.state": {"dtype": "float32", "shape": [2], "names": [["left", "right"]]},
    "action": {"dtype": "float32", "shape": [1], "names": None},
    "observation.images.top": {"dtype": "video", "shape": [16, 32, 3], "info": {}},
}  # fmt: skip


def data_set(root, tables, *, films=None, total=None, features=FEATURES, info=None):
    """Write a v2.1 data set; `films` is the frames of each episode's film."""
    (root / "meta").mkdir(parents=True)
    facts = {
        "codebase_version": "v2.1",
        "robot_type": "arm6",
        "fps": FPS,
        "total_episodes": total or len(tables),
        "chunks_size": 1000,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(facts | (info or {})))
    lines = [
        json.dumps({"episode_index": i, "tasks": ["lift"], "length": t.num_rows})
        for i, t in enumerate(tables)
    ]
    (root / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    (root / "meta/tasks.jsonl").write_text('{"task_index": 0, "task": "lift"}\n')
    (root / "data/chunk-000").mkdir(parents=True)
    for i, table in enumerate(tables):
        pq.write_table(table, root / f"data/chunk-000/episode_{i:06d}.parquet")
        count = table.num_rows if films is None else films[i]
        if count:
            name = f"videos/chunk-000/observation.images.top/episode_{i:06d}.mp4"
            film(root / name, count)
    return root


def losses(report):
    return {loss.code[-3:]: loss.count for loss in report.losses}


@pytest.mark.req("R-EPISODE-48")
@pytest.mark.req("R-EPISODE-49")
def test_rows_and_films_are_kept_to_the_bit_and_stamps_are_called_nominal(tmp_path):
    source = data_set(tmp_path / "set", [rows(5, 0), rows(3, 1)])
    report = import_recording(source, tmp_path / "out")
    assert (report.exit_code, report.steps, len(report.episodes)) == (0, 8, 2)
    assert report.verdict.strict_errors == {"E-EPISODE-TIME-005": 2}
    recording = open_recording(report.episodes[0])
    streams, metadata = recording.streams, recording.metadata
    assert (metadata.task, metadata.robot_model) == ("lift", "arm6")
    assert metadata.provenance["stamp_source"] == "nominal"
    assert metadata.control_rate_hz == FPS
    assert streams["state"].spec.names == ("left", "right")
    assert streams["state"].vectors.tolist() == [[i, -i] for i in range(5)]
    assert streams["rgb"].capture_ns.tolist() == [i * 50_000_000 for i in range(5)]
    for i, blob in enumerate(streams["rgb"].blobs):
        np.testing.assert_array_equal(decode_colour(blob), np.full((16, 32, 3), 10 * i))
    assert recording.end_reason is EndReason.STOPPED


@pytest.mark.req("R-EPISODE-48")
def test_what_is_missing_short_or_torn_is_named_and_the_rest_imports(tmp_path):
    source = data_set(
        tmp_path / "set", [rows(4, i) for i in range(5)], films=[4, 0, 3, 4, 4]
    )
    (source / "data/chunk-000/episode_000003.parquet").unlink()
    torn = source / "data/chunk-000/episode_000004.parquet"
    torn.write_bytes(torn.read_bytes()[:-30])
    report = import_recording(source, tmp_path / "out")
    assert losses(report) == {"002": 2, "003": 1, "006": 1, "015": 1}
    lengths = {}
    for path in report.episodes:
        streams = open_recording(path).streams
        lengths[path.stem[-5:]] = {k: len(v) for k, v in streams.items()}
    assert lengths == {
        "00000": {"rgb": 4, "state": 4, "action": 4},
        "00001": {"state": 4, "action": 4},
        "02-s0": {"rgb": 3, "state": 3, "action": 3},
    }
    assert report.verdict.lenient_errors == {"E-EPISODE-STREAM-001": 1}


def harm(path, share):
    """Overwrite a film's packets from a share of the way on."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for at, size in places[int(share * len(places)) :]:
        data[at + 5 : at + size] = b"\xff" * (size - 5)
    path.write_bytes(data)
    return path


@pytest.mark.req("R-EPISODE-96")
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_film_that_breaks_off_keeps_its_frames_up_to_the_damage(tmp_path, share):
    source = data_set(tmp_path / "set", [rows(12, 0), rows(6, 1)])
    harm(source / "videos/chunk-000/observation.images.top/episode_000000.mp4", share)
    report = import_recording(source, tmp_path / "out")
    assert report.exit_code == 3
    found = {path.stem[-6:]: open_recording(path) for path in report.episodes}
    whole = next(r for name, r in found.items() if name.endswith("00001"))
    assert len(whole.streams["rgb"]) == 6
    cut = [recording for recording in found.values() if recording is not whole]
    if not share:
        assert losses(report) == {"017": 1}
        assert not cut
    else:
        (part,) = cut
        frames = len(part.streams["rgb"])
        assert 0 < frames <= 6
        assert losses(report) == {"018": 3 * (12 - frames)}
        assert len(part.streams["action"]) == frames
        for row, blob in enumerate(part.streams["rgb"].blobs):
            assert (decode_colour_png(blob) == 10 * row).all()
        assert part.end_reason == "slice"
        assert part.metadata.provenance["steps_of_source"] == "12"
    assert not list((tmp_path / "out").glob("*.part"))
    again = import_recording(source, tmp_path / "out")
    assert (again.episodes, again.losses) == (report.episodes, report.losses)


@pytest.mark.req("R-EPISODE-49")
def test_jpeg_is_a_choice_and_a_named_loss(tmp_path):
    source = data_set(tmp_path / "set", [rows(4, 0)])
    report = import_recording(
        source, tmp_path / "out", options=ImportOptions(jpeg_quality=80)
    )
    assert losses(report) == {"010": 4}
    assert open_recording(report.episodes[0]).streams["rgb"].spec.codec == "jpeg"


def test_pictures_in_the_rows_texts_and_ragged_columns(tmp_path):
    blobs = [encode_colour_png(np.full((4, 4, 3), i, np.uint8)) for i in range(3)]
    table = rows(
        3,
        0,
        cam=[{"bytes": blob, "path": None} for blob in blobs],
        note=["a", "a", "b"],
        ragged=[[1.0], [1.0, 2.0], []],
        big=[1, 2, (1 << 40) + 1],
    )
    features = {
        **{k: FEATURES[k] for k in ("observation.state", "action")},
        "cam": {"dtype": "image", "shape": [4, 4, 3]},
    }
    source = data_set(tmp_path / "set", [table], films=[0], features=features)
    report = import_recording(source, tmp_path / "out")
    assert losses(report) == {"008": 1, "009": 1}
    recording = open_recording(report.episodes[0])
    assert list(recording.streams["rgb"].blobs) == blobs
    spans = json.loads(recording.metadata.provenance["text:note"])
    assert spans == [[0, "a"], [2, "b"]]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda r: (r / "meta/episodes.jsonl").unlink(), "LEROBOT-001"),
        (lambda r: (r / "meta/episodes.jsonl").write_text("[" * 200_000), "LEROBOT-001"),
        (lambda r: (r / "meta/episodes.jsonl").write_text("{}\n"), "LEROBOT-001"),
        (lambda r: (r / "meta/tasks.jsonl").write_text('{"task": "lift"}'), "LEROBOT-001"),
        (lambda r: (r / "meta/info.json").write_text('{"codebase_version": "v1.6"}'), "LEROBOT-002"),
        (lambda r: (r / "meta/info.json").write_text('{"codebase_version": "v3.0"}'), "LEROBOT-001"),
        (lambda r: (r / "data/chunk-000/episode_000000.parquet").unlink(), "IMPORT-008"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_used_are_refused(tmp_path, change, code):
    source = data_set(tmp_path / "set", [rows(3, 0)])
    change(source)
    with pytest.raises(DataError, match=code):
        import_recording(source, tmp_path / "out")


def test_a_path_that_leads_out_of_the_data_set_is_refused(tmp_path):
    escape = {"data_path": "../../etc/{episode_index}"}
    source = data_set(tmp_path / "set", [rows(3, 0)], info=escape)
    with pytest.raises(DataError, match="leads out"):
        import_recording(source, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.req("R-EPISODE-48")
def test_a_real_humanoid_imports_with_its_191_absent_files_named(tmp_path, shared_data):
    report = import_recording(shared_data / "lerobot-g1", tmp_path)
    assert (report.exit_code, report.steps, len(report.episodes)) == (3, 2983, 8)
    assert losses(report) == {"002": 191}
    filmed = [p for p in report.episodes if "rgb" in open_recording(p).streams]
    streams = open_recording(filmed[0]).streams
    assert [len(s) for s in streams.values()] == [221] * 3
    assert "kLeftElbow" in streams["state"].spec.names
    assert decode_colour(streams["rgb"].blob(100)).shape == (480, 640, 3)


def data_set_v3(root, counts, *, gap=0):
    """Write a v3.0 data set: all rows in one file, all films in one film."""
    tables = [rows(count, i) for i, count in enumerate(counts)]
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    info = {
        "codebase_version": "v3.0",
        "robot_type": "arm6",
        "fps": FPS,
        "total_episodes": len(counts),
        "chunks_size": 1000,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": FEATURES,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    pq.write_table(
        pa.table({"task_index": [0], "__index_level_0__": ["lift"]}),
        root / "meta/tasks.parquet",
    )
    pq.write_table(pa.concat_tables(tables), root / "data/chunk-000/file-000.parquet")
    key = "observation.images.top"
    starts = np.cumsum([0, *counts])[:-1]
    episodes = [
        {
            "episode_index": i,
            "tasks": ["lift"],
            "length": count,
            "data/chunk_index": 0,
            "data/file_index": 0,
            f"videos/{key}/chunk_index": 0,
            f"videos/{key}/file_index": 0,
            f"videos/{key}/from_timestamp": float(starts[i] + gap) / FPS,
        }
        for i, count in enumerate(counts)
    ]
    pq.write_table(
        pa.Table.from_pylist(episodes),
        root / "meta/episodes/chunk-000/file-000.parquet",
    )
    film(root / f"videos/{key}/chunk-000/file-000.mp4", sum(counts))
    return root


@pytest.mark.req("R-EPISODE-48")
def test_v3_episodes_find_their_stretch_of_the_film(tmp_path):
    report = import_recording(data_set_v3(tmp_path / "s", [4, 3, 5]), tmp_path / "o")
    assert (losses(report), report.steps) == ({}, 12)
    greys = []
    for path in report.episodes:
        recording = open_recording(path)
        assert recording.metadata.task == "lift"
        greys.append(
            [int(decode_colour(b).max()) for b in recording.streams["rgb"].blobs]
        )
    assert greys == [[0, 10, 20, 30], [40, 50, 60], [70, 80, 90, 100, 110]]


def test_a_v3_episode_past_the_end_of_its_film_loses_those_steps(tmp_path):
    source = data_set_v3(tmp_path / "s", [4, 3], gap=1)
    report = import_recording(source, tmp_path / "o")
    assert losses(report) == {"006": 1, "015": 1}
    assert report.steps == 6


def test_a_camera_that_is_not_there_is_refused_and_nothing_is_written(tmp_path):
    source = data_set(tmp_path / "set", [rows(4, 0)])
    with pytest.raises(UsageError, match=r"E-RLDS-IMPORT-013.*seen wrist") as caught:
        import_recording(
            source, tmp_path / "out", options=ImportOptions(camera="wrist")
        )
    assert caught.value.allowed
    assert not list(tmp_path.glob("out/*"))
