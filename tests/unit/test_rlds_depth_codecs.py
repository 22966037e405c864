"""Depth by any codec of the registry comes back to the last count, or is refused."""

import struct
import sys

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon.errors import ContractError, DataError, MissingPackageError
from continuon.rlds.depth_codecs import (
    DEPTH_CODECS,
    decode_depth,
    depth_codec_of,
    depth_pngs,
    depth_size,
    encode_depth,
)
from continuon.rlds.episode import Codec, StreamSpec, streams_from_json
from continuon.rlds.foxglove import image_message
from continuon.rlds.images import decode_depth_png
from continuon.rlds.importers.own_times import is_whole_picture
from continuon.rlds.importers.ros_messages import encoded_picture
from continuon.rlds.overview import contact_sheet
from continuon.rlds.recorder import EpisodeRecorder
from continuon.rlds.recording import open_recording
from continuon.rlds.redact import Box, Redactor
from continuon.rlds.scrub import bare_picture
from continuon.rlds.steps import steps_of
from continuon.rlds.tfds_read import read_tfds_steps
from continuon.rlds.tfds_write import convert
from continuon.rlds.validate import validate_recording
from continuon.rlds.windows import open_windows

pytest.importorskip("numcodecs", reason="needs the `depth` extra")
LZ4 = Codec.DEPTH_LZ4
CODECS = pytest.mark.parametrize("codec", list(DEPTH_CODECS))


def hard_images():
    """Shapes with odd sides, with values at both ends, flat, and of noise."""
    shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
    counts = st.sampled_from([0, 1, 255, 256, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF])
    drawn = arrays(np.uint16, shapes, elements=counts)
    flat = st.builds(np.full, shapes, counts, st.just(np.uint16))
    noise = st.builds(
        lambda shape, seed: np.random.default_rng(seed).integers(
            0, 65536, shape, np.uint16
        ),
        st.tuples(st.integers(1, 200), st.integers(1, 200)),
        st.integers(0, 99),
    )
    return drawn | flat | noise


@pytest.mark.law
@CODECS
@settings(max_examples=60, deadline=None)
@given(image=hard_images())
def test_every_count_comes_back(codec, image):
    data = encode_depth(image, codec)
    np.testing.assert_array_equal(decode_depth(data), image)
    assert depth_codec_of(data) is codec
    assert depth_size(data[:64]) == (image.shape[1], image.shape[0])
    assert encode_depth(image, codec) == data


@CODECS
def test_views_and_other_orders_of_axes_are_stored_as_they_look(codec):
    whole = np.arange(600, dtype=np.uint16).reshape(20, 30)
    for view in (whole[::2, 3::3], whole.T, whole[::-1]):
        np.testing.assert_array_equal(decode_depth(encode_depth(view, codec)), view)


@pytest.mark.law
@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7), cut=st.booleans())
def test_a_frame_that_is_torn_or_has_a_flipped_bit_is_refused(at, bit, cut):
    image = np.random.default_rng(0).integers(0, 5000, (31, 47), np.uint16)
    data = bytearray(encode_depth(image, LZ4))
    at %= len(data)
    if cut:
        data = data[:at]
    else:
        data[at] ^= 1 << bit
    with pytest.raises(DataError):
        decode_depth(bytes(data))
    assert not is_whole_picture(bytes(data), LZ4)


def test_a_header_cannot_ask_for_memory_that_its_picture_does_not_have():
    data = bytearray(encode_depth(np.ones((4, 4), np.uint16), LZ4))
    struct.pack_into("<II", data, 4, 1 << 16, 1 << 16)
    with pytest.raises(DataError, match="two sizes"):
        decode_depth(bytes(data))


@pytest.mark.parametrize("data", [b"", b"\x89DL5" + bytes(60), b"\xff\xd8\xff"])
def test_an_unknown_codec_is_named_with_those_that_are_known(data):
    with pytest.raises(DataError, match="E-RLDS-DEPTH-010") as caught:
        decode_depth(data)
    assert "png16, depth-lz4" in str(caught.value)


def test_a_stream_of_an_unknown_codec_is_refused():
    with pytest.raises(DataError, match="depth-lz5"):
        streams_from_json(b'[{"name":"depth","codec":"depth-lz5"}]')


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros(4, np.uint16), np.zeros((0, 4), np.uint16)],
)
def test_only_uint16_pictures_are_packed(wrong):
    with pytest.raises(ContractError):
        encode_depth(wrong, LZ4)


def test_a_missing_package_is_not_called_damage(monkeypatch):
    data = encode_depth(np.ones((4, 4), np.uint16), LZ4)
    monkeypatch.setitem(sys.modules, "numcodecs.blosc", None)
    with pytest.raises(MissingPackageError, match=r"continuon\[depth\]"):
        decode_depth(data)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two recordings of one scene: depth as PNG16 and as LZ4."""
    draft = legal_draft(8)
    counts = [(at, decode_depth_png(png)) for at, png in draft.samples["depth"]]
    paths = {}
    for codec in DEPTH_CODECS:
        streams = tuple(
            attrs.evolve(s, codec=codec) if s.name == "depth" else s
            for s in draft.streams
        )
        depth = tuple((at, encode_depth(image, codec)) for at, image in counts)
        samples = {**draft.samples, "depth": depth}
        folder = tmp_path_factory.mktemp(codec.value)
        changed = attrs.evolve(draft, streams=streams, samples=samples)
        paths[codec] = write_draft(changed, folder)
    return paths


def test_a_recorder_packs_and_the_file_says_how(tmp_path):
    streams = (StreamSpec(name="depth", codec="depth-lz4"),)
    image = np.arange(192, dtype=np.uint16).reshape(12, 16)
    with EpisodeRecorder(
        tmp_path, legal_metadata(), streams, lossless_pacing=True
    ) as recorder:
        recorder.depth(image, capture_ns=1)
        recorder.depth(encode_depth(image, LZ4), capture_ns=2)
        with pytest.raises(DataError, match="E-RLDS-DEPTH-011"):
            recorder.depth(encode_depth(image, Codec.PNG16), capture_ns=3)
    stream = open_recording(recorder.path).streams["depth"]
    assert stream.spec.codec is LZ4
    for blob in stream.blobs:
        np.testing.assert_array_equal(decode_depth(blob), image)


def test_the_message_does_not_call_itself_a_png():
    message = image_message(
        b"x", codec=LZ4, frame_id="depth", capture_ns=1, device_ns=None
    )
    assert b"continuon/depth-lz4" in message.join()


def test_both_recordings_validate_and_look_alike(recordings):
    reports = [validate_recording(path) for path in recordings.values()]
    assert [report.ok for report in reports] == [True, True]
    assert reports[0].figures == reports[1].figures
    png, lz4 = (
        contact_sheet(steps_of(path), count=2, width=8, height=6)
        for path in recordings.values()
    )
    for (_, _, one), (_, _, other) in zip(png, lz4, strict=True):
        np.testing.assert_array_equal(one, other)


def test_windows_of_both_are_equal(recordings):
    one, other = (open_windows(path, length=4) for path in recordings.values())
    for index in range(len(one)):
        ours, theirs = one[index], other[index]
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name])


@pytest.mark.parametrize("form", ["png", "raw"])
def test_both_convert_to_the_same_files_that_stock_tfds_reads(
    recordings, tmp_path, form
):
    shards = []
    for codec, path in recordings.items():
        report = convert(path.parent, tmp_path / codec.value, depth=form)
        (shard,) = report.directory.glob("*.tfrecord*")
        shards.append(shard.read_bytes())
        (steps,) = read_tfds_steps(report.directory)
        assert depth_codec_of(steps.depth[0]) is Codec.PNG16
    assert shards[0] == shards[1]


def test_a_damaged_frame_is_found_by_validate(recordings, tmp_path):
    draft = legal_draft(4)
    streams = tuple(
        attrs.evolve(s, codec=LZ4) if s.name == "depth" else s for s in draft.streams
    )
    depth = [
        (at, encode_depth(decode_depth_png(p), LZ4)) for at, p in draft.samples["depth"]
    ]
    depth[2] = (depth[2][0], depth[2][1][:-1])
    samples = {**draft.samples, "depth": tuple(depth)}
    path = write_draft(attrs.evolve(draft, streams=streams, samples=samples), tmp_path)
    codes = {finding.code for finding in validate_recording(path).errors}
    assert "E-EPISODE-IMAGE-002" in codes


def test_what_the_hook_finds_is_gone_and_the_codec_stays():
    image = np.full((12, 16), 900, np.uint16)
    redactor = Redactor(lambda _: ())
    data = redactor.depth(encode_depth(image, LZ4), [Box(4, 3, 8, 6)], (16, 12))
    image[3:6, 4:8] = 0
    np.testing.assert_array_equal(decode_depth(data), image)
    assert depth_codec_of(data) is LZ4


def test_an_export_packs_anew_what_may_hide_bytes():
    image = np.arange(192, dtype=np.uint16).reshape(12, 16)
    data = encode_depth(image, LZ4)
    assert bare_picture(data, LZ4) == data
    with pytest.raises(DataError):
        bare_picture(data + b"secret", LZ4)


def test_an_importer_tells_it_by_content():
    data = encode_depth(np.ones((4, 4), np.uint16), LZ4)
    assert encoded_picture(data).codec is LZ4


def test_pngs_are_given_back_as_they_are_and_others_made(recordings):
    png, lz4 = (steps_of(path).depth for path in recordings.values())
    assert depth_pngs(png) is png
    made = depth_pngs(lz4)
    assert list(made[1:3]) == list(png[1:3])
