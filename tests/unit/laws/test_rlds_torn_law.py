"""Law: cut a recording at any byte, and every whole chunk before the cut is saved."""

import contextlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from continuon.errors import DataError
from continuon.rlds.mcap_read import scan_mcap
from continuon.rlds.recording import open_recording
from continuon.rlds.recovery import Outcome, recover_recordings

pytestmark = [pytest.mark.law, pytest.mark.slow]


def recorded(directory):
    path = Path(__file__).parents[1] / "test_rlds_record.py"
    spec = importlib.util.spec_from_file_location("rlds_record_helpers", path)
    helpers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helpers)
    return helpers.record(directory, steps=3).path


@pytest.mark.req("R-EPISODE-17")
def test_a_walk_over_any_cut_finds_exactly_the_whole_chunks_before_it(tmp_path):
    whole = memoryview(recorded(tmp_path).read_bytes())
    ends = [chunk.end for chunk in scan_mcap(whole).chunks]
    for size in range(8, len(whole)):
        found = scan_mcap(whole[:size])
        assert not found.is_finished
        assert found.damage
        assert [chunk.end for chunk in found.chunks] == [e for e in ends if e <= size]


@pytest.mark.req("R-EPISODE-17")
def test_recovery_at_and_around_every_record_boundary_saves_the_whole_chunks(tmp_path):
    whole = recorded(tmp_path).read_bytes()
    chunks = scan_mcap(memoryview(whole)).chunks
    part, final = tmp_path / "cut.mcap.part", tmp_path / "cut.mcap"
    edges = {0, 7, 8, len(whole) - 1}
    for chunk in chunks:
        for edge in (chunk.start, chunk.end, chunk.index_end):
            edges |= {edge - 1, edge, edge + 1, (chunk.start + chunk.end) // 2}
    for size in sorted(edges):
        part.write_bytes(whole[:size])
        kept = [at for c in chunks if c.end <= size for at in c.messages]
        (result,) = recover_recordings(part).episodes
        if all(at.channel > 4 for at in kept):
            assert result.outcome is Outcome.UNRECOVERABLE
            assert part.read_bytes() == whole[:size]
            continue
        assert result.outcome is Outcome.RECOVERED
        episode = open_recording(final)
        assert sum(map(len, episode.streams.values())) == sum(
            at.channel <= 4 for at in kept
        )
        final.unlink()


def record_starts(whole):
    """Yield where every record begins, those inside chunks too."""
    at = 8
    while at < len(whole) - 8:
        opcode, length = whole[at], int.from_bytes(whole[at + 1 : at + 9], "little")
        yield at
        if opcode == 0x06:
            name = int.from_bytes(whole[at + 37 : at + 41], "little")
            inner, end = at + 49 + name, at + 9 + length
            while inner < end:
                yield inner
                inner += 9 + int.from_bytes(whole[inner + 1 : inner + 9], "little")
        at += 9 + length


@pytest.mark.req("R-EPISODE-17")
def test_killed_at_every_record_and_inside_each_it_loses_the_open_chunk_at_most(
    tmp_path,
):
    whole = recorded(tmp_path).read_bytes()
    chunks = scan_mcap(memoryview(whole)).chunks
    starts = sorted(set(record_starts(whole)))
    assert len(starts) > 60
    part, final = tmp_path / "cut.mcap.part", tmp_path / "cut.mcap"
    cuts = {
        size for at in starts for size in (at, at + 5, at + 12) if size <= len(whole)
    }
    for size in sorted(cuts):
        part.write_bytes(whole[:size])
        kept = sum(
            at.channel <= 4 for c in chunks if c.end <= size for at in c.messages
        )
        (result,) = recover_recordings(part).episodes
        if not kept:
            assert result.outcome is Outcome.UNRECOVERABLE
            part.unlink()
            continue
        episode = open_recording(final)
        assert sum(map(len, episode.streams.values())) == kept
        assert sum(result.saved.values()) == kept
        for stream in episode.streams.values():
            assert stream.sequence.tolist() == list(range(len(stream)))
        final.unlink()


def content(recording):
    streams = {
        name: (
            stream.spec,
            stream.capture_ns.tolist(),
            stream.device_ns.tolist(),
            stream.sequence.tolist(),
            stream.vectors.tobytes(),
            list(stream.blobs),
        )
        for name, stream in recording.streams.items()
    }
    offsets = recording.clock_offsets
    return recording.metadata, recording.end_reason, recording.drops, offsets, streams


@pytest.mark.req("R-EPISODE-18")
def test_any_changed_byte_is_noticed_or_changes_nothing_that_is_read(tmp_path):
    path = recorded(tmp_path)
    whole = path.read_bytes()
    expected = content(open_recording(path))
    rng = np.random.default_rng(3)
    closing = whole.rindex(b"continuon.close")
    picked = {*rng.integers(0, len(whole), 300), *range(closing, closing + 150)}
    for at in sorted(map(int, picked)):
        broken = bytearray(whole)
        broken[at] ^= 1 << at % 8
        path.write_bytes(broken)
        with contextlib.suppress(DataError):
            assert content(open_recording(path)) == expected
