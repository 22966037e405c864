"""Law: cut a recording at any byte, and every whole chunk before the cut is saved."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from continuon.rlds.mcap_read import scan_mcap
from continuon.rlds.recording import open_recording
from continuon.rlds.recover import Outcome, recover

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
        (result,) = recover(part).episodes
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


@pytest.mark.req("R-EPISODE-18")
def test_any_damaged_byte_of_the_chunks_is_noticed_or_harmless(tmp_path):
    whole = recorded(tmp_path).read_bytes()
    chunks = scan_mcap(memoryview(whole)).chunks
    rng = np.random.default_rng(3)
    for at in rng.integers(chunks[0].start + 9, chunks[-1].end, 300):
        inside = any(c.start <= at < c.end for c in chunks)
        broken = bytearray(whole)
        broken[at] ^= 1 << int(rng.integers(8))
        found = scan_mcap(memoryview(bytes(broken)))
        stamps_only = any(c.start + 9 <= at < c.start + 25 for c in chunks)
        if inside and not stamps_only:
            assert found.damage is not None
