"""A recording's fingerprint: any change shows, in it or on opening."""

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon.errors import DataError
from continuon.rlds.fingerprint import fingerprint_of
from continuon.rlds.mcap_write import Opcode
from continuon.rlds.recording import map_file, open_recording

pytestmark = pytest.mark.req("R-EPISODE-52")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fingerprint")
    return write_draft(legal_draft(4), folder)


@pytest.mark.law
@settings(deadline=None, max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_changes_the_fingerprint_or_is_refused(recorded, place, flip):
    data = bytearray(recorded.read_bytes())
    data[int(place * len(data))] ^= flip
    changed = recorded.with_name("changed.mcap")
    changed.write_bytes(data)
    if fingerprint_of(changed) == fingerprint_of(recorded):
        with pytest.raises(DataError, match="E-RLDS-RECORDING-005"):
            open_recording(changed)


@pytest.mark.parametrize("cut", [1, 8, 9, 60, 500])
def test_a_cut_recording_has_another_fingerprint(recorded, cut):
    torn = recorded.with_name("torn.mcap")
    torn.write_bytes(recorded.read_bytes()[:-cut])
    assert fingerprint_of(torn) != fingerprint_of(recorded)


def test_chunks_without_a_crc_and_other_files_are_hashed_whole(recorded):
    data = bytearray(recorded.read_bytes())
    position, chunks = 8, []
    while position < len(data) - 8:
        opcode, length = struct.unpack_from("<BQ", data, position)
        if opcode == Opcode.CHUNK:
            data[position + 33 : position + 37] = bytes(4)
            chunks.append((position, position + 9 + length))
        position += 9 + length
    bare = recorded.with_name("bare.mcap")
    bare.write_bytes(data)
    assert chunks
    whole = hashlib.sha256(len(data).to_bytes(8, "little") + bytes(data))
    assert fingerprint_of(bare) == whole.hexdigest()
    other = recorded.with_name("other")
    other.write_bytes(b"words")
    words = hashlib.sha256((5).to_bytes(8, "little") + b"words").hexdigest()
    assert fingerprint_of(other) == words


def test_a_picture_is_told_by_the_crc_of_its_chunk_alone(recorded):
    recording = open_recording(recorded)
    start, end = recording.streams["rgb"].blobs.ranges[0].tolist()
    data = bytearray(map_file(recorded))
    data[start + 4 : end - 4] = bytes(end - start - 8)
    damaged = recorded.with_name("damaged.mcap")
    damaged.write_bytes(data)
    assert fingerprint_of(damaged) == fingerprint_of(recorded)
