"""TFDS directories: written whole or not at all, equal to the last bit."""

import gzip
import json
from pathlib import Path

import attrs
import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon.errors import DataError, UsageError
from continuon.rlds import tfds_shards, tfds_write
from continuon.rlds.example import encode_example, parse_example
from continuon.rlds.steps import read_steps
from continuon.rlds.tfds_read import find_tfds, open_tfds, read_columns
from continuon.rlds.tfds_write import convert
from continuon.rlds.tfrecord import frame, read_records

DATA = Path(__file__).parents[2] / "../shared/data"


def episodes(directory, count=2, steps=4, **options):
    directory.mkdir(exist_ok=True)
    for number in range(count):
        metadata = legal_metadata(episode_id=f"e{number}", start_wall_ns=1 + number)
        draft = attrs.evolve(legal_draft(steps, **options), metadata=metadata)
        write_draft(draft, directory)
    return directory


def assert_equal(ours, theirs):
    assert ours.metadata == theirs.metadata
    assert ours.streams == theirs.streams
    assert list(ours.image) == list(theirs.image)
    assert list(ours.depth) == list(theirs.depth)
    for name in ("stamp_ns", "state", "action", "valid", "is_first", "is_terminal"):
        left, right = getattr(ours, name), getattr(theirs, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    assert set(ours.skew_ns) == set(theirs.skew_ns)
    for name, skew in ours.skew_ns.items():
        np.testing.assert_array_equal(skew, theirs.skew_ns[name])


@pytest.mark.req("R-EPISODE-50")
@pytest.mark.parametrize("depth", ["png", "raw"])
@pytest.mark.parametrize("compress", [False, True])
def test_what_is_converted_reads_back_equal_in_every_field(tmp_path, compress, depth):
    source = episodes(tmp_path / "in")
    report = convert(source, tmp_path / "out", compress=compress, depth=depth)
    assert (report.episodes, report.steps, report.exit_code) == (2, 8, 0)
    assert report.read_back_equal
    assert report.directory == tmp_path / "out" / "continuon" / "1.0.0"
    pairs = zip(read_steps(source), read_steps(tmp_path / "out"), strict=True)
    for ours, theirs in pairs:
        assert_equal(ours, theirs)


@pytest.mark.req("R-EPISODE-50")
def test_clocks_rates_and_the_unit_of_depth_go_along(tmp_path):
    draft = legal_draft(4)
    streams = tuple(
        attrs.evolve(spec, depth_unit_m=0.0005) if spec.name == "depth" else spec
        for spec in draft.streams
    )
    (tmp_path / "in").mkdir()
    write_draft(attrs.evolve(draft, streams=streams), tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out")
    (steps,) = read_steps(tmp_path / "out")
    assert steps.streams == streams
    assert steps.depth_unit_m == 0.0005


@pytest.mark.req("R-EPISODE-50")
def test_a_data_set_from_before_streams_were_kept_has_no_unit_of_depth(
    tmp_path, monkeypatch
):
    """Unknown is unknown: no unit is made up for it."""
    whole, named = tfds_shards.episode_features, tfds_shards.features_json

    def example(steps, **options):
        made = whole(steps, **options)
        del made["episode_metadata/streams_json"]
        return made

    def table(shape):
        made = named(shape)
        parts = made["featuresDict"]["features"]["episode_metadata"]
        del parts["featuresDict"]["features"]["streams_json"]
        return made

    monkeypatch.setattr(tfds_shards, "episode_features", example)
    monkeypatch.setattr(tfds_shards, "features_json", table)
    convert(episodes(tmp_path / "in", 1), tmp_path / "out")
    (steps,) = read_steps(tmp_path / "out")
    assert (steps.streams, steps.depth_unit_m) == ((), None)
    assert len(steps.depth) == 4


@pytest.mark.req("R-EPISODE-52")
def test_the_manifest_holds_a_digest_of_every_file_and_the_origin(tmp_path):
    report = convert(episodes(tmp_path / "in"), tmp_path / "out")
    manifest = json.loads(report.manifest_path.read_bytes())
    assert manifest["origins"] == ["simulated"]
    names = {path.name for path in report.directory.iterdir()}
    assert set(manifest["files"]) == names - {"manifest.json"}
    assert str(tmp_path) not in report.manifest_path.read_text()


@pytest.mark.req("R-EPISODE-52")
def test_a_rerun_changes_nothing_and_a_damaged_result_is_made_anew(tmp_path):
    source = episodes(tmp_path / "in")
    first = convert(source, tmp_path / "out")
    shard = first.directory / "continuon-train.tfrecord-00000-of-00001"
    before = shard.read_bytes()
    again = convert(source, tmp_path / "out")
    assert first.is_fresh
    assert not again.is_fresh
    assert attrs.evolve(again, is_fresh=True) == first
    shard.write_bytes(before[:-1])
    assert convert(source, tmp_path / "out").is_fresh
    assert shard.read_bytes() == before


@pytest.mark.req("R-EPISODE-52")
def test_nothing_half_written_is_published(tmp_path, monkeypatch):
    source = episodes(tmp_path / "in")

    def pull_the_plug(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tfds_write, "check_equal", pull_the_plug)
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out")
    assert find_tfds(tmp_path / "out" / "continuon" / "1.0.0") is None
    monkeypatch.undo()
    assert convert(source, tmp_path / "out").is_fresh


def swapped(blobs):
    """Return pictures of the same sizes as these, the last one's bytes turned round."""
    views = list(map(bytes, blobs))
    return [*views[:-1], views[-1][::-1]]


@pytest.mark.req("R-EPISODE-50")
@pytest.mark.parametrize(
    ("field", "change", "depth"),
    [
        ("steps/action", lambda v: v + np.float32(1e-7), "png"),
        ("steps/observation/stamp_ns", lambda v: v + 1, "png"),
        ("steps/skew_ns/depth", lambda v: v + 1, "png"),
        ("steps/valid", lambda v: 1 - v, "png"),
        ("steps/observation/image", swapped, "png"),
        ("steps/observation/depth", swapped, "png"),
        ("steps/observation/depth", swapped, "raw"),
    ],
)
def test_a_difference_on_reading_back_is_an_error_and_publishes_nothing(
    tmp_path, monkeypatch, field, change, depth
):
    source = episodes(tmp_path / "in")
    honest = tfds_shards.episode_features

    def faulty(steps, **span):
        features = honest(steps, **span)
        features[field] = change(features[field])
        return features

    monkeypatch.setattr(tfds_shards, "episode_features", faulty)
    with pytest.raises(DataError, match="E-RLDS-CONVERT-003"):
        convert(source, tmp_path / "out", depth=depth)
    assert not (tmp_path / "out" / "continuon" / "1.0.0").exists()


def test_a_form_of_depth_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(UsageError, match="E-RLDS-CONVERT-006"):
        convert(tmp_path, tmp_path / "out", depth="zip")


@pytest.mark.req("R-EPISODE-52")
def test_the_same_recordings_in_another_form_of_depth_are_made_anew(tmp_path):
    source = episodes(tmp_path / "in")
    convert(source, tmp_path / "out")
    assert convert(source, tmp_path / "out", depth="raw").is_fresh
    assert not convert(source, tmp_path / "out", depth="raw").is_fresh


@pytest.mark.req("R-EPISODE-52")
def test_one_bad_episode_is_named_and_the_others_are_converted(tmp_path):
    source = episodes(tmp_path / "in", count=3)
    bad = source / "e1.mcap"
    bad.write_bytes(bad.read_bytes()[:-40])
    report = convert(source, tmp_path / "out")
    assert (report.episodes, report.exit_code) == (2, 3)
    assert [item.source for item in report.skipped] == ["e1.mcap"]
    assert "RECORDING-005" in report.skipped[0].code


def test_an_episode_of_another_shape_is_left_out_and_says_how_it_differs(tmp_path):
    source = episodes(tmp_path / "in", count=1)
    metadata = legal_metadata(episode_id="wide", start_wall_ns=9)
    wide = attrs.evolve(legal_draft(2, width=32), metadata=metadata)
    write_draft(wide, source)
    report = convert(source, tmp_path / "out")
    assert report.skipped[0].code == "E-RLDS-CONVERT-004"
    assert "rgb_size" in report.skipped[0].text


@pytest.mark.req("R-EPISODE-51")
def test_a_long_episode_is_cut_into_parts_that_say_where_they_lie(tmp_path):
    source = episodes(tmp_path / "in", count=1, steps=7)
    report = convert(source, tmp_path / "out", max_segment_bytes=5000)
    parts = list(read_steps(tmp_path / "out"))
    assert len(parts) > 1
    assert sum(map(len, parts)) == report.steps == 7
    assert all(part.is_first[0] and part.is_last[-1] for part in parts)
    assert [bool(part.is_terminal[-1]) for part in parts] == [False] * (
        len(parts) - 1
    ) + [True]
    columns = list(read_columns(open_tfds(report.directory)))
    starts = [int(c["episode_metadata/first_step"][0]) for c in columns]
    assert starts == np.cumsum([0] + [len(part) for part in parts])[:-1].tolist()


def test_shards_are_numbered_and_counted(tmp_path):
    source = episodes(tmp_path / "in", count=3)
    report = convert(source, tmp_path / "out", max_shard_bytes=1)
    info = json.loads((report.directory / "dataset_info.json").read_bytes())
    assert info["splits"][0]["shardLengths"] == ["1", "1", "1"]
    assert len(list(read_steps(tmp_path / "out"))) == 3
    (report.directory / "continuon-train.tfrecord-00001-of-00003").unlink()
    with pytest.raises(DataError, match="E-RLDS-TFDS-005"):
        list(read_steps(tmp_path / "out"))


@pytest.mark.parametrize("name", ["Bad", "a-b", "../x", ""])
def test_a_name_that_tfds_does_not_take_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="CONVERT-001"):
        convert(tmp_path, tmp_path / "out", name=name)


def test_an_example_keeps_its_lists_and_shares_its_blobs():
    blob = bytes(1000)
    features = {
        "b": [blob, b""],
        "f": np.float32([1.5, -2.0]),
        "i": np.array([-1, 0, 1 << 62], np.int64),
        "none": [],
    }
    example = encode_example(features)
    assert any(part is blob for part in example.parts)
    found = parse_example(memoryview(example.join()))
    assert [bytes(v) for v in found["b"]] == [blob, b""]
    np.testing.assert_array_equal(found["f"], features["f"])
    np.testing.assert_array_equal(found["i"], features["i"])
    assert list(found["none"]) == []


def shard(path, payloads):
    path.write_bytes(b"".join(b"".join(frame([p], len(p))) for p in payloads))
    return path


@pytest.mark.req("R-EPISODE-53")
def test_damage_in_a_shard_is_named_with_its_record(tmp_path):
    path = shard(tmp_path / "s", [b"first", b"second"])
    whole = path.read_bytes()
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        if size == 16 + 5:
            assert len(list(read_records(path))) == 1
            continue
        with pytest.raises(DataError, match=f"record {int(size > 21)} "):
            list(read_records(path))
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(DataError, match="TFRECORD-003"):
            list(read_records(path))


@pytest.mark.req("R-EPISODE-53")
def test_gzip_is_told_by_content_and_twice_is_refused(tmp_path):
    path = shard(tmp_path / "plain.tfrecord.gz", [b"one", b"two"])
    assert [bytes(r) for r in read_records(path)] == [b"one", b"two"]
    once = gzip.compress(path.read_bytes())
    path = tmp_path / "packed.tfrecord"
    path.write_bytes(once)
    assert [bytes(r) for r in read_records(path)] == [b"one", b"two"]
    path.write_bytes(gzip.compress(once))
    with pytest.raises(DataError, match="TFRECORD-002"):
        list(read_records(path))
    path.write_bytes(once[:-4])
    with pytest.raises(DataError, match="TFRECORD-003"):
        list(read_records(path))


@pytest.mark.req("R-EPISODE-53")
@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("torchdata/example.tfrecord", 4),
        ("torchdata/sequence_example.tfrecord", 4),
        ("grain/morris_sequence_first_5.tfrecord", 5),
        ("tensor2robot/pose_env_test_data.tfrecord", 100),
        ("tf-agents/antmaze-medium-play-v0_0.tfrecord", 18),
    ],
)
def test_tfrecords_by_other_writers_are_read(name, records):
    path = DATA / "tfrecord-compat" / name
    if not path.exists():
        pytest.skip("the real recordings are not on this machine")
    payloads = list(read_records(path))
    assert len(payloads) == records
    if "sequence" not in name:
        assert all(parse_example(payload) for payload in payloads)


@pytest.mark.req("R-EPISODE-53")
def test_a_data_set_by_tfds_is_read_as_columns_and_its_missing_shard_named():
    path = DATA / "rlds-bridge"
    if not path.exists():
        pytest.skip("the real recordings are not on this machine")
    directory = open_tfds(find_tfds(path))
    assert directory.missing == ("bridge_dataset-val.tfrecord-00000-of-00001",)
    columns = list(read_columns(directory))
    assert len(columns) == 25
    assert columns[0]["steps/observation/state"].shape == (10, 7)
    assert columns[0]["steps/language_embedding"].shape == (10, 512)
    assert not any(c["steps/is_last"].any() for c in columns)
    assert len(columns[0]["steps/observation/image_0"]) == 10
    with pytest.raises(DataError, match="E-RLDS-TFDS-004"):
        list(read_steps(path))


@pytest.mark.req("R-EPISODE-53")
@pytest.mark.parametrize("compress", [False, True])
def test_checksums_are_skipped_only_where_that_is_asked_for(tmp_path, compress):
    source = episodes(tmp_path / "in", count=1)
    report = convert(source, tmp_path / "out", compress=compress)
    path = report.directory / "continuon-train.tfrecord-00000-of-00001"
    data = bytearray(gzip.decompress(path.read_bytes()) if compress else b"")
    data = data or bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(gzip.compress(data) if compress else data)
    with pytest.raises(DataError, match="TFRECORD-003"):
        list(read_steps(tmp_path / "out"))
    assert len(next(read_steps(tmp_path / "out", verify=False))) == 4
