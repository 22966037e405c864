"""Importing others' TFDS/RLDS data sets: lenient about habits, exact about damage."""

import json

import numpy as np
import pytest

from continuon.errors import DataError, UsageError
from continuon.rlds.episode import EndReason, Origin
from continuon.rlds.example import encode_example
from continuon.rlds.images import decode_colour, encode_depth_png, encode_jpeg
from continuon.rlds.importers.dispatch import import_recording
from continuon.rlds.importers.harvest import ImportOptions
from continuon.rlds.recording import open_recording
from continuon.rlds.steps import read_steps
from continuon.rlds.tfds_write import convert
from continuon.rlds.tfrecord import frame

P = "tensorflow_datasets.core.features."


def tensor(dtype, *dims):
    shape = {"dimensions": [str(d) for d in dims]} if dims else {}
    return {
        "pythonClassName": P + "tensor_feature.Tensor",
        "tensor": {"dtype": dtype, "encoding": "none", "shape": shape},
    }


def image(dtype="uint8", form="jpeg"):
    facts = {"dtype": dtype, "encodingFormat": form, "shape": {"dimensions": []}}
    return {"pythonClassName": P + "image_feature.Image", "image": facts}


TEXT = {"pythonClassName": P + "text_feature.Text", "text": {}}


def tree(fields):
    nodes = {}
    for path, node in fields.items():
        at = nodes
        *folders, leaf = path.split("/")
        for name in folders:
            at = at.setdefault(name, {})
        at[leaf] = node
    return _dict(nodes)


def _dict(nodes):
    features = {
        name: node if "pythonClassName" in node else _dict(node)
        for name, node in nodes.items()
    }
    if "steps" in features:
        features["steps"] = {
            "pythonClassName": P + "dataset_feature.Dataset",
            "sequence": {"feature": features["steps"], "length": "-1"},
        }
    return {
        "pythonClassName": P + "features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


FIELDS = {
    "steps/action": tensor("float32", 2),
    "steps/observation/state": tensor("float32", 3),
    "steps/observation/image_0": image(),
    "steps/observation/image_1": image(),
    "steps/is_first": tensor("bool"),
    "steps/is_last": tensor("bool"),
    "steps/is_terminal": tensor("bool"),
    "steps/reward": tensor("float32"),
    "steps/language_instruction": TEXT,
    "episode_metadata/file_path": TEXT,
}


def jpeg(i):
    return encode_jpeg(np.full((12, 16, 3), i * 20 % 256, np.uint8))


def record(count=4, **changes):
    at = np.arange(count)
    features = {
        "steps/action": np.stack([at, -at], 1).astype(np.float32) / 10,
        "steps/observation/state": np.ones((count, 3), np.float32) * at[:, None],
        "steps/observation/image_0": [jpeg(i) for i in at],
        "steps/observation/image_1": [jpeg(i + 5) for i in at],
        "steps/is_first": (at == 0).astype(np.int64),
        "steps/is_last": (at == count - 1).astype(np.int64),
        "steps/is_terminal": (at == count - 1).astype(np.int64),
        "steps/reward": np.zeros(count, np.float32),
        "steps/language_instruction": [b"stack the cups"] * count,
        "episode_metadata/file_path": [b"/somewhere/1"],
    }
    return {k: v for k, v in (features | changes).items() if v is not None}


def dataset(root, records, *, fields=FIELDS, shards=1, lengths=None):
    root.mkdir(parents=True)
    (root / "features.json").write_text(json.dumps(tree(fields)))
    lengths = lengths or [len(records)]
    info = {
        "name": "demo",
        "version": "1.0.0",
        "splits": [{"name": "train", "shardLengths": [str(n) for n in lengths]}],
    }
    (root / "dataset_info.json").write_text(json.dumps(info))
    blobs = []
    for features in records:
        example = encode_example(features)
        blobs.append(b"".join(frame([example.join()], example.size)))
    name = f"demo-train.tfrecord-00000-of-{len(lengths):05d}"
    (root / name).write_bytes(b"".join(blobs))
    return root


def losses(report):
    return {loss.code[-3:]: loss.count for loss in report.losses}


@pytest.mark.req("R-EPISODE-48")
def test_a_whole_data_set_keeps_pictures_numbers_texts_and_flags(tmp_path):
    source = dataset(tmp_path / "demo" / "1.0.0", [record(), record(3)])
    report = import_recording(source.parent, tmp_path / "out")
    assert (report.exit_code, report.steps, len(report.episodes)) == (0, 7, 2)
    assert report.format == "tfds-rlds"
    recording = open_recording(report.episodes[0])
    metadata = recording.metadata
    assert metadata.origin is Origin.IMPORTED
    assert metadata.task == "stack the cups"
    assert metadata.provenance["stamp_source"] == "nominal"
    assert metadata.provenance["episode_metadata/file_path"] == '"/somewhere/1"'
    assert len(metadata.provenance["source_sha256"]) == 64
    assert recording.end_reason is EndReason.COMPLETE
    streams = recording.streams
    assert list(streams["rgb"].blobs) == [jpeg(i) for i in range(4)]
    assert list(streams["observation/image_1"].blobs) == [jpeg(i + 5) for i in range(4)]
    np.testing.assert_array_equal(streams["action"].vectors, record()["steps/action"].reshape(4, 2))  # fmt: skip
    assert streams["rlds_flags"].spec.names == ("is_first", "is_last", "is_terminal")
    assert streams["state"].capture_ns.tolist() == [0, 10**8, 2 * 10**8, 3 * 10**8]
    assert report.verdict.lenient_ok == 2
    assert report.verdict.strict_errors == {"E-EPISODE-TIME-005": 2}


@pytest.mark.req("R-EPISODE-48")
@pytest.mark.parametrize(
    ("changes", "expected", "lengths"),
    [
        ({"steps/action": np.array([0, 1, np.nan, 0, 0, 0, 0, 0], np.float32)}, {"005": 1}, [1, 2]),
        ({"steps/observation/image_0": [jpeg(0), jpeg(1)[:-9], jpeg(2), jpeg(3)]}, {"006": 1}, [1, 2]),
        ({"steps/observation/image_0": [jpeg(0), jpeg(1), jpeg(2), b""]}, {"006": 1}, [3]),
        ({"steps/observation/image_1": [jpeg(0), b"", b"no", jpeg(3)]}, {"007": 2}, [4]),
        ({"steps/reward": np.zeros(3, np.float32)}, {"008": 1}, [4]),
    ],
)  # fmt: skip
def test_a_bad_step_cuts_the_episode_and_is_named(tmp_path, changes, expected, lengths):
    report = import_recording(
        dataset(tmp_path / "demo", [record(**changes)]), tmp_path / "out"
    )
    assert (losses(report), report.exit_code) == (expected, 3)
    assert [len(steps) for steps in read_steps(tmp_path / "out")] == lengths


@pytest.mark.req("R-EPISODE-48")
def test_pictures_that_change_their_size_are_found_by_the_verdict(tmp_path):
    wide = [*map(jpeg, range(3)), encode_jpeg(np.zeros((24, 16, 3), np.uint8))]
    bad = record(**{"steps/observation/image_0": wide})
    report = import_recording(dataset(tmp_path / "d", [bad, record()]), tmp_path / "o")
    assert (report.verdict.lenient_ok, report.exit_code) == (1, 3)
    assert report.verdict.lenient_errors == {"E-EPISODE-IMAGE-003": 1}


@pytest.mark.req("R-EPISODE-48")
def test_missing_shards_and_torn_records_are_named_and_the_rest_is_kept(tmp_path):
    source = dataset(tmp_path / "demo", [record(), record()], lengths=[2, 5])
    report = import_recording(source, tmp_path / "a")
    assert (losses(report), len(report.episodes)) == ({"002": 1}, 2)
    assert "demo-train.tfrecord-00001-of-00002" in report.losses[0].text
    shard = source / "demo-train.tfrecord-00000-of-00002"
    shard.write_bytes(shard.read_bytes()[:-7])
    report = import_recording(source, tmp_path / "b")
    assert (losses(report), len(report.episodes)) == ({"002": 1, "003": 1}, 1)


@pytest.mark.req("R-EPISODE-48")
def test_an_episode_without_is_last_is_a_slice_and_said_to_be(tmp_path):
    never = {"steps/is_last": np.zeros(4, np.int64), "steps/is_terminal": np.zeros(4, np.int64)}  # fmt: skip
    report = import_recording(
        dataset(tmp_path / "d", [record(**never)]), tmp_path / "o"
    )
    assert report.exit_code == 0
    assert open_recording(report.episodes[0]).end_reason is EndReason.SLICE
    assert any("without is_last" in note for note in report.notes)


@pytest.mark.req("R-EPISODE-48")
def test_instructions_that_change_and_numbers_past_float32_are_kept_or_counted(
    tmp_path,
):
    fields = dict(FIELDS) | {"steps/tick": tensor("int64")}
    words = [b"reach", b"reach", b"grasp", b"grasp"]
    ticks = np.array([1, 2, 3, (1 << 40) + 1], np.int64)
    source = dataset(
        tmp_path / "d",
        [record(**{"steps/language_instruction": words, "steps/tick": ticks})],
        fields=fields,
    )
    report = import_recording(source, tmp_path / "o")
    assert losses(report) == {"009": 1}
    metadata = open_recording(report.episodes[0]).metadata
    assert metadata.task == "reach"
    assert json.loads(metadata.provenance["text:language_instruction"]) == [
        [0, "reach"],
        [2, "grasp"],
    ]


@pytest.mark.req("R-EPISODE-49")
def test_depth_and_png_colour_keep_their_bytes_and_a_stated_unit(tmp_path):
    from continuon.rlds.images import encode_colour_png

    deep = [encode_depth_png(np.full((12, 16), i, np.uint16)) for i in range(4)]
    clear = [encode_colour_png(np.full((12, 16, 3), i, np.uint8)) for i in range(4)]
    fields = dict(FIELDS) | {
        "steps/observation/depth": image("uint16", "png"),
        "steps/observation/image_0": image("uint8", "png"),
    }
    changes = {"steps/observation/depth": deep, "steps/observation/image_0": clear}
    source = dataset(tmp_path / "d", [record(**changes)], fields=fields)
    report = import_recording(
        source, tmp_path / "o", options=ImportOptions(depth_unit_m=0.0002)
    )
    assert report.exit_code == 0
    streams = open_recording(report.episodes[0]).streams
    assert list(streams["depth"].blobs) == deep
    assert streams["depth"].spec.depth_unit_m == 0.0002
    assert list(streams["rgb"].blobs) == clear
    assert decode_colour(streams["rgb"].blob(1)).max() == 1


def test_what_holds_no_action_is_refused_and_our_own_needs_no_import(tmp_path):
    source = dataset(tmp_path / "d", [record(**{"steps/action": None})])
    with pytest.raises(DataError, match="E-RLDS-IMPORT-008") as caught:
        import_recording(source, tmp_path / "o")
    assert "episode 0: 4 steps" in str(caught.value)
    import_recording(dataset(tmp_path / "ok", [record()]), tmp_path / "in")
    ours = convert(tmp_path / "in", tmp_path / "tfds")
    with pytest.raises(DataError, match="E-RLDS-IMPORT-010"):
        import_recording(ours.directory, tmp_path / "again")


@pytest.mark.slow
@pytest.mark.req("R-EPISODE-48")
def test_bridge_imports_with_its_language_and_its_missing_shard_named(
    tmp_path, shared_data
):
    report = import_recording(shared_data / "rlds-bridge", tmp_path)
    assert (report.exit_code, report.steps, len(report.episodes)) == (3, 250, 25)
    assert losses(report) == {"002": 1}
    assert report.verdict.lenient_ok == 25
    tasks = {open_recording(path).metadata.task for path in report.episodes}
    assert "put cup from counter or drying rack into sink" in tasks


@pytest.mark.req("R-EPISODE-49")
def test_a_camera_that_is_not_there_is_refused_and_nothing_is_written(tmp_path):
    source = dataset(tmp_path / "d", [record()])
    with pytest.raises(UsageError, match="E-RLDS-IMPORT-013") as caught:
        import_recording(source, tmp_path / "o", options=ImportOptions(camera="wrist"))
    known = caught.value.allowed.split(", ")[-1]
    report = import_recording(
        source, tmp_path / "o2", options=ImportOptions(camera=known)
    )
    facts = open_recording(report.episodes[0]).metadata.provenance
    assert facts["stream:rgb"] == known
    assert not list(tmp_path.glob("o/*"))
