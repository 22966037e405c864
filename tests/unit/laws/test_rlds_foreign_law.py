"""Laws of importing: nothing is invented, nothing vanishes, damage is an answer."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from continuon.errors import ContinuonError
from continuon.rlds.episode import Origin
from continuon.rlds.example import encode_example
from continuon.rlds.images import decode_depth_png, encode_depth_png, encode_jpeg
from continuon.rlds.importers.dispatch import import_recording
from continuon.rlds.importers.harvest import ImportOptions
from continuon.rlds.importers.table import usable_name
from continuon.rlds.png8 import decode_colour_png, encode_colour_png
from continuon.rlds.recording import open_recording
from continuon.rlds.steps import read_steps
from continuon.rlds.stream_spec import StreamSpec
from continuon.rlds.tfds_write import convert
from continuon.rlds.tfrecord import frame

pytestmark = pytest.mark.law
few = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
START_MS = 1_650_000_000_000
NAME = "{}_cam_image_array_.jpg"
JPEG = encode_jpeg(np.zeros((12, 16, 3), np.uint8))

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
)
field = st.sampled_from(
    ["_index", "_timestamp_ms", "user/angle", "user/throttle", "user/mode", "cam/image_array", "_session_id"]
)  # fmt: skip


def row(index):
    return {
        "_index": index,
        "_session_id": "s0",
        "_timestamp_ms": START_MS + 50 * index,
        "cam/image_array": NAME.format(index),
        "user/angle": 0.25,
        "user/mode": "user",
        "user/throttle": 0.5,
    }


def imported(source, out):
    """Return the report, None for a refusal, which is one line and exit status 1."""
    try:
        return import_recording(source, out)
    except ContinuonError as error:
        refusal = error
    assert refusal.exit_code == 1
    assert "\n" not in str(refusal)
    return None


def write_tub(root, rows, deleted, missing):
    (root / "images").mkdir(parents=True)
    text = "".join(json.dumps(value) + "\n" for value in rows)
    (root / "catalog_0.catalog").write_text(text)
    for index in range(len(rows)):
        if index not in missing:
            (root / "images" / NAME.format(index)).write_bytes(JPEG)
    inputs = ["cam/image_array", "user/angle", "user/throttle", "user/mode"]
    table = {"paths": ["catalog_0.catalog"], "deleted_indexes": sorted(deleted)}
    lines = [inputs, ["image_array", "float", "float", "str"], {}, {}, table]
    (root / "manifest.json").write_text("\n".join(map(json.dumps, lines)) + "\n")


@pytest.mark.req("R-EPISODE-41")
@few
@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.integers(0, 7), field, anything), max_size=4),
    st.sets(st.integers(0, 7), max_size=3),
    st.sets(st.integers(0, 7), max_size=3),
)
def test_every_row_of_a_tub_is_a_step_a_loss_or_deleted(
    count, changes, deleted, missing
):
    rows = [row(i) for i in range(count)]
    for index, name, value in changes:
        if index < count:
            rows[index][name] = value
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_tub(root / "tub", rows, deleted, missing)
        report = imported(root / "tub", root / "out")
        if report is None:
            return
        by_row = {"012", "013", "014", "015", "016", "017"}
        lost = sum(x.count for x in report.losses if x.code[-3:] in by_row)
        gone = sum(int(n.split()[0]) for n in report.notes if "deleted" in n)
        assert report.steps + lost + gone == count
        for path in report.episodes:
            action = open_recording(path).streams["action"].vectors
            assert np.isfinite(action).all()
            assert np.abs(action).max() <= 1


@pytest.mark.req("R-EPISODE-07")
@few
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_colour_survives_its_png(height, width, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    np.testing.assert_array_equal(decode_colour_png(encode_colour_png(image)), image)


@few
@given(st.text(max_size=80), st.lists(st.text(max_size=8), max_size=3))
def test_any_foreign_name_becomes_a_legal_unused_one(name, others):
    taken = tuple(usable_name(other) for other in others)
    made = usable_name(name, taken)
    assert made not in taken
    StreamSpec(name=made, codec="jpeg")


depths = st.lists(
    st.integers(0, 65_535), min_size=6, max_size=6
).map(lambda v: np.array(v, np.uint16).reshape(2, 3))  # fmt: skip


@pytest.mark.req("R-EPISODE-49")
@few
@given(
    st.lists(depths, min_size=1, max_size=4),
    st.lists(st.integers(1, 10**9), min_size=4, max_size=4),
    st.sampled_from([0.001, 0.0001, 0.0002]),
)
def test_depth_counts_times_and_unit_survive_an_import(images, gaps, unit):
    stamps = (10**18 + np.cumsum(gaps)[: len(images)]).tolist()
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "cam" / "depth").mkdir(parents=True)
        (root / "cam" / "color").mkdir()
        for at, image in zip(stamps, images, strict=True):
            path = root / "cam" / "depth" / f"{at}.png"
            path.write_bytes(encode_depth_png(image))
        options = ImportOptions(depth_unit_m=unit)
        report = import_recording(root / "cam", root / "out", options=options)
        stream = open_recording(report.episodes[0]).streams["depth"]
        assert stream.capture_ns.tolist() == stamps
        assert stream.spec.depth_unit_m == unit
        for blob, image in zip(stream.blobs, images, strict=True):
            np.testing.assert_array_equal(decode_depth_png(blob), image)


def sources(root):
    """Write one small source of every format that needs no extra."""
    write_tub(root / "tub", [row(i) for i in range(3)], set(), set())
    plan = root / "plan"
    (plan / "steps").mkdir(parents=True)
    (plan / "metadata.json").write_text('{"xr_mode": "trainer", "tags": ["a"]}')
    step = {"timestamp_ns": 5, "observation": {}, "action": {"command": [0.5]}}
    (plan / "steps" / "0.jsonl").write_text(json.dumps(step) + "\n")
    tum = root / "tum"
    (tum / "depth").mkdir(parents=True)
    image = encode_depth_png(np.ones((3, 4), np.uint16))
    (tum / "depth" / "1.5.png").write_bytes(image)
    (tum / "depth.txt").write_text("1.5 depth/1.5.png\n")
    (tum / "accelerometer.txt").write_text("1.25 1 2 3\n1.75 4 5 6\n")
    return [root / "tub", plan, tum]


@pytest.mark.req("R-EPISODE-48")
@few
@given(
    st.integers(0, 2),
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=5),
    st.integers(0, 10**6),
)
def test_no_damage_is_more_than_a_refusal_or_a_named_loss(which, pick, flips, cut):
    with TemporaryDirectory() as folder:
        root = Path(folder)
        source = sources(root)[which]
        files = sorted(path for path in source.rglob("*") if path.is_file())
        file = files[pick % len(files)]
        data = bytearray(file.read_bytes())
        for at, value in flips:
            data[at % len(data)] = value
        file.write_bytes(data[: cut % (2 * len(data)) or None])
        report = imported(source, root / "out")
        if report is None:
            return
        assert report.verdict.episodes == len(report.episodes) > 0
        assert all(loss.count > 0 for loss in report.losses)


P = "tensorflow_datasets.core.features."


def write_rlds(root, state, action, images):
    """Write a TFDS directory of one episode, as somebody else would."""
    root.mkdir()

    def tensor(width):
        shape = {"dimensions": [str(width)]}
        facts = {"dtype": "float32", "encoding": "none", "shape": shape}
        return {"pythonClassName": P + "tensor_feature.Tensor", "tensor": facts}

    def table(features):
        return {
            "pythonClassName": P + "features_dict.FeaturesDict",
            "featuresDict": {"features": features},
        }

    picture = {"dtype": "uint8", "encodingFormat": "jpeg", "shape": {}}
    seen = {
        "state": tensor(state.shape[1]),
        "image": {"pythonClassName": P + "image_feature.Image", "image": picture},
    }
    step = table({"action": tensor(action.shape[1]), "observation": table(seen)})
    steps = {
        "pythonClassName": P + "dataset_feature.Dataset",
        "sequence": {"feature": step, "length": "-1"},
    }
    (root / "features.json").write_text(json.dumps(table({"steps": steps})))
    split = {"name": "train", "shardLengths": ["1"]}
    info = {"name": "demo", "version": "1.0.0", "splits": [split]}
    (root / "dataset_info.json").write_text(json.dumps(info))
    example = encode_example(
        {
            "steps/action": action,
            "steps/observation/state": state,
            "steps/observation/image": images,
        }
    )
    record = b"".join(frame([example.join()], example.size))
    (root / "demo-train.tfrecord-00000-of-00001").write_bytes(record)


@pytest.mark.req("R-EPISODE-55")
@pytest.mark.slow
@settings(few, max_examples=4)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32))
def test_imported_exported_and_imported_again_is_equal(steps, states, actions, seed):
    pytest.importorskip("pyarrow", reason="needs continuon[lerobot]")
    from continuon.rlds.exporters.lerobot import write_lerobot

    rng = np.random.default_rng(seed)
    state = rng.standard_normal((steps, states)).astype(np.float32)
    action = rng.standard_normal((steps, actions)).astype(np.float32)
    noise = rng.integers(0, 256, (steps, 12, 16, 3)).astype(np.uint8)
    images = [encode_jpeg(picture) for picture in noise]
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_rlds(root / "rlds", state, action, images)
        first = import_recording(root / "rlds", root / "first")
        assert first.losses == ()
        convert(root / "first", root / "tfds")  # compares every step itself
        write_lerobot(root / "first", root / "lerobot")
        import_recording(root / "lerobot", root / "second")
        for part in ("first", "tfds", "second"):
            (found,) = read_steps(root / part)
            assert list(found.image) == images
            np.testing.assert_array_equal(found.state, state)
            np.testing.assert_array_equal(found.action, action)
            assert found.stamp_ns.tolist() == [i * 10**8 for i in range(steps)]
            assert found.metadata.origin is Origin.IMPORTED
