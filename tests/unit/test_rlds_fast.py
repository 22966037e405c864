"""The quick ways of reading give what the slow ones do."""

import zlib

import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon.errors import DataError
from continuon.rlds import checksum, foxglove
from continuon.rlds.episode import Codec
from continuon.rlds.file_sink import FileSink, sha256_of
from continuon.rlds.mcap_read import scan_mcap
from continuon.rlds.recording import map_file, read_metadata
from continuon.rlds.wire import Pieces


@pytest.mark.parametrize("isal", [True, False])
def test_both_crc_engines_agree_on_views_and_go_on(isal, monkeypatch):
    if isal:
        pytest.importorskip("isal")
    else:
        monkeypatch.setattr(checksum, "_engine", lambda: zlib.crc32)
    data = bytes(range(256)) * 3
    whole = checksum.crc32(data)
    assert whole == zlib.crc32(data)
    assert checksum.crc32(memoryview(data)[100:], checksum.crc32(data[:100])) == whole


def test_crc32c_of_a_view_is_that_of_its_bytes():
    data = b"123456789"
    assert checksum.crc32c(data) == 0xE3069283  # its usual check value
    assert checksum.crc32c(memoryview(data)) == 0xE3069283
    assert checksum.crc32c(memoryview(b""), 7) == 7


@pytest.mark.parametrize("device_ns", [None, 0, 5, -5, (1 << 63) - 1, -(1 << 63)])
@pytest.mark.parametrize("frame_id", ["rgb", "x" * 300])
def test_a_pictures_place_is_found_quickly_and_slowly(device_ns, frame_id):
    blob = b"\xff\xd8 picture \xff\xd9"
    message = foxglove.image_message(
        blob,
        codec=Codec.JPEG,
        frame_id=frame_id,
        capture_ns=1_999_999_999,
        device_ns=device_ns,
    ).join()
    start, end, stamp = foxglove.image_range(memoryview(message))
    assert (message[start:end], stamp) == (blob, device_ns)
    later = Pieces()
    later.field(2, blob)
    later.field(4, b"behind the blob")
    start, end, stamp = foxglove.image_range(memoryview(later.join()))
    assert (later.join()[start:end], stamp) == (blob, None)


def test_vectors_in_another_order_or_with_gaps_find_their_columns():
    messages = [
        memoryview(b'{"device_ns":3,"values":{"a":1,"b":2.5}}'),
        memoryview(b'{"values":{"b":null,"a":4}}'),
        memoryview(b'{"values":{"b":1,"other":9}}'),
    ]
    vectors, stamps = foxglove.decode_vectors(messages, ("a", "b"))
    expected = np.float32([[1, 2.5], [4, np.nan], [np.nan, 1]])
    np.testing.assert_array_equal(vectors, expected)
    assert stamps == [3, None, None]
    assert foxglove.decode_vectors([], ("a", "b"))[0].shape == (0, 2)


@pytest.mark.parametrize(
    "messages",
    [
        [b'{"values":{"a":1}},{"values":{"a":2}}'],
        [b'{"values":{"a":1}}', b"[1]"],
        [b'{"values":{"a":"text"}}'],
    ],
)
def test_a_vector_message_that_is_none_is_refused(messages):
    with pytest.raises(DataError, match="E-RLDS-VECTOR-001"):
        foxglove.decode_vectors([memoryview(m) for m in messages], ("a",))


def test_the_metadata_are_read_without_the_samples(tmp_path):
    path = write_draft(legal_draft(), tmp_path)
    data = map_file(path)
    contents = scan_mcap(data, until_chunk=True)
    assert not contents.messages
    first = scan_mcap(data).chunks[0].start
    path.write_bytes(bytes(data[:first]))
    assert read_metadata(path).episode_id == "episode-1"


def test_a_stamp_beyond_63_bits_is_damage(tmp_path):
    path = write_draft(legal_draft(), tmp_path)
    contents = scan_mcap(memoryview(path.read_bytes()))
    data = bytearray(path.read_bytes())
    data[contents.messages[0].start - 9] = 0xFF
    found = scan_mcap(memoryview(bytes(data)), verify=False)
    assert "no possible time" in found.damage


@pytest.mark.parametrize(
    "sizes",
    [[], [0, 0], [3] * 1300, [700_000] * 4, [3_000_000, 5, 1 << 20, 1], [1 << 20] * 2],
)
def test_a_file_holds_its_buffers_in_order_however_they_are_grouped(tmp_path, sizes):
    buffers = [bytes([at % 251]) * size for at, size in enumerate(sizes)]
    sink = FileSink(tmp_path / "f", hashes=True)
    sink.append(buffers)
    digest = sink.digest()
    sink.close()
    assert (tmp_path / "f").read_bytes() == b"".join(buffers)
    assert digest == sha256_of(tmp_path / "f")
