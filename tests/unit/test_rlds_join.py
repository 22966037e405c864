"""Joins: the parts of a split are the whole again, and no sample is there twice."""

import tempfile
from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon.errors import DataError, UsageError
from continuon.rlds.edit import cut_points, cut_recording
from continuon.rlds.episode import EndReason, Share
from continuon.rlds.join import join_recordings
from continuon.rlds.recording import open_recording
from continuon.rlds.steps import align
from continuon.rlds.validate import validate_recording

pytestmark = pytest.mark.req("R-EPISODE-90")
STEPS = 12


def write(folder, name="a", *, at_ns=0, wall_s=0, thinned=1, around=0, **changes):
    """Write an episode from 1 s of its clock on, moved by `at_ns`.

    With `thinned` N only every Nth number of its state is there; with `around` N that
    many more of them on either side.
    """
    draft = legal_draft(STEPS)
    state = draft.samples["state"]
    extra = [20_000_000 * number for number in range(1, around + 1)]
    (first, some), (last, _) = state[0], state[-1]
    before = tuple((first - gap, some) for gap in reversed(extra))
    after = tuple((last + gap, some) for gap in extra)
    draft = attrs.evolve(
        draft, samples={**draft.samples, "state": (*before, *state, *after)}
    )
    samples = {
        stream: tuple(
            (at + at_ns, payload)
            for at, payload in rows[:: thinned if stream == "state" else 1]
        )
        for stream, rows in draft.samples.items()
    }
    offsets = tuple(
        attrs.evolve(o, measured_at_ns=o.measured_at_ns + at_ns) for o in draft.offsets
    )
    start = 1_700_000_000_000_000_000 + wall_s * 1_000_000_000
    metadata = legal_metadata(episode_id=name, start_wall_ns=start, **changes)
    folder.mkdir(exist_ok=True, parents=True)
    made = attrs.evolve(draft, metadata=metadata, samples=samples, offsets=offsets)
    return open_recording(write_draft(made, folder))


def rows_of(recording):
    """Return every sample of every stream: times, numbers and content."""
    return {
        name: (
            stream.capture_ns.tolist(),
            stream.sequence.tolist(),
            stream.vectors.tolist() or list(stream.blobs),
        )
        for name, stream in recording.streams.items()
    }


@pytest.mark.law
@settings(deadline=None, max_examples=12)
@given(
    cuts=st.sets(st.integers(1, 360), min_size=1, max_size=4),
    thinned=st.sampled_from([1, 5]),
)
def test_the_parts_of_a_split_are_the_whole_again(cuts, thinned):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = write(folder / "in", thinned=thinned)
        spans = cut_points(whole, at_s=[at / 1000 for at in sorted(cuts)])
        stamps = whole.streams["rgb"].capture_ns
        framed = [
            s for s in spans if ((stamps >= s.start_ns) & (stamps < s.stop_ns)).any()
        ]
        assume(len(framed) > 1)
        parts = [
            open_recording(cut_recording(whole, s, folder, episode_id=f"p{i}").path)
            for i, s in enumerate(framed)
        ]
        joined = join_recordings(parts, folder, episode_id="again")
        again = open_recording(joined.path)
        assert rows_of(again) == rows_of(whole)
        assert again.clock_offsets == whole.clock_offsets
        assert again.end_reason is whole.end_reason
        before, after = align(whole), align(again)
        for column in ("stamp_ns", "state", "action", "valid"):
            one, two = getattr(before, column), getattr(after, column)
            np.testing.assert_array_equal(one, two)
        assert list(after.image) == list(before.image)
        assert list(after.depth) == list(before.depth)
        assert validate_recording(joined.path).ok == validate_recording(whole.path).ok


def test_what_came_before_the_first_frame_and_after_the_last_stays_with_its_part(
    tmp_path,
):
    whole = write(tmp_path / "in", around=3)
    outside = len(whole.streams["state"]) - len(write(tmp_path / "b").streams["state"])
    assert outside == 6
    parts = [
        open_recording(cut_recording(whole, span, tmp_path, episode_id=f"p{i}").path)
        for i, span in enumerate(cut_points(whole, every_s=0.15))
    ]
    joined = join_recordings(parts, tmp_path, episode_id="again")
    assert rows_of(open_recording(joined.path)) == rows_of(whole)


def test_parts_with_a_part_missing_between_join_too(tmp_path):
    whole = write(tmp_path / "in")
    spans = cut_points(whole, every_s=0.1)
    parts = [
        cut_recording(whole, span, tmp_path, episode_id=f"p{i}").path
        for i, span in enumerate(spans)
    ]
    outer = [open_recording(parts[0]), open_recording(parts[2])]
    joined = align(
        open_recording(join_recordings(outer, tmp_path, episode_id="x").path)
    )
    rows = np.concatenate([align(part).action for part in outer])
    np.testing.assert_array_equal(joined.action, rows)


def test_parts_in_another_order_or_twice_are_refused_and_leave_nothing(tmp_path):
    whole = write(tmp_path / "in")
    parts = [
        open_recording(cut_recording(whole, span, tmp_path, episode_id=f"p{i}").path)
        for i, span in enumerate(cut_points(whole, every_s=0.15))
    ]
    for wrong in (parts[::-1], [parts[0], parts[0]], [whole, parts[1]]):
        with pytest.raises(DataError, match="EDIT-008"):
            join_recordings(wrong, tmp_path / "x", episode_id="x")
    assert not list((tmp_path / "x").glob("*"))


def test_other_numbers_at_the_same_time_are_no_copies_and_refused(tmp_path):
    one = write(tmp_path / "in")
    between = int(one.streams["rgb"].capture_ns[-1]) - int(
        one.streams["rgb"].capture_ns[0]
    )
    late = write(tmp_path / "in", "b", at_ns=between + 1_000_000)
    overlapping = min(int(s.capture_ns.min()) for s in late.streams.values())
    assert overlapping <= max(int(s.capture_ns.max()) for s in one.streams.values())
    with pytest.raises(DataError, match="EDIT-008"):
        join_recordings([one, late], tmp_path, episode_id="x")
    assert not (tmp_path / "x.mcap").exists()
    assert not list(tmp_path.glob("*.part"))


def test_one_drive_after_the_other_keeps_every_sample(tmp_path):
    whole, far = write(tmp_path / "in"), write(tmp_path / "in", "b", at_ns=10**9)
    joined = join_recordings([whole, far], tmp_path / "out", episode_id="ab")
    both, steps = align(open_recording(joined.path)), align(whole)
    np.testing.assert_array_equal(both.action[:STEPS], steps.action)
    np.testing.assert_array_equal(both.stamp_ns[STEPS:], steps.stamp_ns + 10**9)
    assert joined.end_reason is EndReason.COMPLETE
    assert joined.drops == dict.fromkeys(whole.streams, 0)


@pytest.mark.req("R-EPISODE-91")
def test_recordings_of_another_boot_are_joined_by_the_wall_clock(tmp_path):
    one, two = write(tmp_path / "in"), write(tmp_path / "in", "b", wall_s=60)
    joined = join_recordings([one, two], tmp_path / "out", episode_id="ab")
    steps = align(open_recording(joined.path))
    assert steps.stamp_ns[STEPS] - steps.stamp_ns[0] == 60 * 10**9
    with pytest.raises(DataError, match="EDIT-008"):
        join_recordings([two, one], tmp_path / "out", episode_id="ba")


@pytest.mark.req("R-EPISODE-91")
@pytest.mark.parametrize(
    "changes",
    [{"robot_id": "car-2"}, {"origin": "real"}, {"share": Share(pii_cleared=True)}],
)
def test_another_setup_or_origin_is_not_joined(tmp_path, changes):
    one = write(tmp_path / "in")
    two = write(tmp_path / "in", "b", wall_s=60, **changes)
    with pytest.raises(DataError, match=f"EDIT-007.*{next(iter(changes))}"):
        join_recordings([one, two], tmp_path / "out", episode_id="ab")
    with pytest.raises(UsageError, match="EDIT-005"):
        join_recordings([one], tmp_path / "out", episode_id="ab")
