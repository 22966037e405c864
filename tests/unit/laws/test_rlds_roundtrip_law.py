"""Laws: what is written is what is read, for all legal values."""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from continuon._specs.episode.strategies import depth_images, metadata, stamps
from continuon.errors import DataError
from continuon.rlds.episode import metadata_from_json, metadata_to_json
from continuon.rlds.example import parse_example
from continuon.rlds.mcap_read import scan_mcap
from continuon.rlds.png16 import decode_depth_png, encode_depth_png
from continuon.rlds.steps import nearest
from continuon.rlds.wire import pack_varints, unpack_varints, varint

pytestmark = pytest.mark.law
law = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.req("R-EPISODE-01")
@pytest.mark.req("R-EPISODE-02")
@law
@given(metadata())
def test_metadata_survives_its_json(value):
    assert metadata_from_json(metadata_to_json(value)) == value


@pytest.mark.req("R-EPISODE-02")
@law
@given(st.binary(max_size=60))
def test_no_bytes_crash_the_metadata_parser(data):
    with pytest.raises(DataError):
        metadata_from_json(data)


@pytest.mark.req("R-EPISODE-05")
@law
@given(depth_images())
def test_depth_survives_its_png(image):
    np.testing.assert_array_equal(decode_depth_png(encode_depth_png(image)), image)


@law
@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=30))
def test_varints_pack_as_one_by_one_and_come_back(values):
    array = np.array(values, np.int64)
    packed = pack_varints(array)
    assert packed == b"".join(map(varint, values))
    assert unpack_varints(packed).tolist() == values


@pytest.mark.req("R-EPISODE-20")
@law
@given(stamps(), stamps())
def test_no_other_sample_is_nearer_than_the_nearest(frames, times):
    rows, skew = nearest(frames, times)
    distance = np.abs(times[None, :] - frames[:, None]).min(axis=1)
    np.testing.assert_array_equal(np.abs(skew), distance)
    np.testing.assert_array_equal(times[rows] - frames, skew)


@law
@given(st.binary(max_size=80))
def test_no_bytes_crash_the_example_parser(data):
    with contextlib.suppress(DataError):
        parse_example(memoryview(data))


@pytest.mark.req("R-EPISODE-31")
@law
@given(st.binary(max_size=120))
def test_no_bytes_behind_the_magic_crash_the_mcap_walk(data):
    magic = b"\x89MCAP0\r\n"
    assert not scan_mcap(memoryview(magic + data), verify=True).is_finished
