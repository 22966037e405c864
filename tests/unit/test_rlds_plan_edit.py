"""Recordings that hold the plan's steps are cut, joined and shown like others."""

import json
from itertools import pairwise

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon._specs.episode.plan_drafts import legal_plan
from continuon.cli.program import run as program
from continuon.errors import DataError
from continuon.rlds.edit import Span, cut_points, cut_recording
from continuon.rlds.episode import EndReason
from continuon.rlds.join import join_recordings
from continuon.rlds.observation import Media
from continuon.rlds.plan_edit import cut_plan, join_plans
from continuon.rlds.plan_record import plan_in, record_plan
from continuon.rlds.plan_validate import judge_plan
from continuon.rlds.recording import open_recording
from continuon.rlds.validate import validate_recording

pytestmark = pytest.mark.req("R-EPISODE-94")


def recorded(folder, episode=None, **metadata):
    summary, losses = record_plan(episode or legal_plan(6, **metadata), folder)
    assert losses == ()
    return open_recording(summary.path)


def content(step):
    """Return a step without its place in an episode."""
    return attrs.evolve(
        step, step_index=0, is_first=False, is_last=False, is_terminal=False
    )


def test_parts_of_a_recording_are_whole_episodes_and_join_to_what_it_was(tmp_path):
    whole = recorded(tmp_path / "in")
    spans = cut_points(whole, at_s=[0.05, 0.12])
    parts = [
        cut_recording(whole, span, tmp_path / "out", episode_id=f"p{number}")
        for number, span in enumerate(spans)
    ]
    opened = [open_recording(part.path) for part in parts]
    assert [part.end_reason for part in parts] == [
        EndReason.SLICE,
        EndReason.SLICE,
        whole.end_reason,
    ]
    known = {f.code for f in validate_recording(whole.path).warnings}
    for part in opened:
        steps = plan_in(part).steps
        assert [step.step_index for step in steps] == list(range(len(steps)))
        report = validate_recording(part.path)
        assert report.ok, report.errors
        assert {f.code for f in report.warnings} <= known
    cut = [content(step) for part in opened for step in plan_in(part).steps]
    assert cut == [content(step) for step in plan_in(whole).steps]
    joined = join_recordings(opened, tmp_path / "out", episode_id="all")
    again = plan_in(open_recording(joined.path))
    assert again.steps == plan_in(whole).steps
    assert dict(again.blobs) == dict(plan_in(whole).blobs)
    assert joined.end_reason == whole.end_reason


@pytest.mark.law
@settings(deadline=None, max_examples=20)
@given(cuts=st.sets(st.integers(1, 5), max_size=3))
def test_joining_the_parts_of_an_episode_gives_it_back(cuts):
    whole = legal_plan(6)
    stamps = [step.timestamp_ns for step in whole.steps]
    edges = [0, *sorted(cuts), 6]
    parts = [
        cut_plan(
            whole,
            start_ns=stamps[a],
            stop_ns=stamps[b - 1] + 1,
            metadata=whole.metadata,
        )
        for a, b in pairwise(edges)
    ]
    again = join_plans(parts, shifts_ns=[0] * len(parts), metadata=whole.metadata)
    assert again == whole
    assert all(judge_plan(part).ok for part in parts)


def test_drives_with_equal_names_and_times_are_joined_by_the_wall_clock(tmp_path):
    wall_ns = 1_700_000_000_000_000_000
    media = Media(kind="page", uri="https://example.org/x", timestamp_ms=40)
    plain = legal_plan(3, episode_id="b", start_wall_ns=wall_ns + 10_000_000_123)
    seen = attrs.evolve(plain.steps[0].observation, media=media)
    first = attrs.evolve(plain.steps[0], observation=seen)
    later = attrs.evolve(plain, steps=(first, *plain.steps[1:]))
    one = recorded(tmp_path / "in", legal_plan(3, start_wall_ns=wall_ns))
    two = recorded(tmp_path / "in", later)
    joined = join_recordings([one, two], tmp_path / "out", episode_id="ab")
    whole = plan_in(open_recording(joined.path))
    report = judge_plan(whole)
    assert report.ok, report.errors
    assert {f.code for f in report.warnings} == {"E-EPISODE-TIME-004"}
    moved_ns = 10_001_000_000  # ten seconds, up to the next whole millisecond
    for old, new in zip(later.steps, whole.steps[3:], strict=True):
        assert new.timestamp_ns - old.timestamp_ns == moved_ns
        states = old.observation.robot_state, new.observation.robot_state
        assert states[1].timestamp_nanos - states[0].timestamp_nanos == moved_ns
        pictures = old.observation.video.uri, new.observation.video.uri
        assert pictures[0] != pictures[1]
        assert whole.blobs[pictures[1]] == later.blobs[pictures[0]]
    assert whole.steps[3].observation.media.timestamp_ms == 40 + 10_001
    assert whole.steps[3].observation.media.uri == media.uri


def test_what_the_whole_lacked_stands_in_the_parts_provenance(tmp_path):
    lacking = attrs.evolve(legal_plan(4), drops={"rgb": 2, "depth": 0})
    whole = recorded(tmp_path / "in", lacking)
    (span,) = cut_points(whole, every_s=99)
    part = cut_recording(whole, span, tmp_path / "out", episode_id="x")
    provenance = open_recording(part.path).metadata.provenance
    assert provenance["drops_of_whole"] == "rgb=2"
    with pytest.raises(DataError, match="EDIT-004"):
        cut_recording(whole, Span(0, 5), tmp_path / "out", episode_id="y")


def test_split_trim_merge_and_show_take_them_by_command(tmp_path, capsys):
    whole = recorded(tmp_path / "in").path
    out = tmp_path / "out"

    def run(*argv):
        status = program(["episodes", *map(str, argv), "--json"])
        return status, json.loads(capsys.readouterr().out)

    status, parts = run("split", whole, "--output-dir", out, "--every-s", "0.1")
    assert status == 0
    assert len(parts) == 2
    paths = [part["path"] for part in parts]
    status, joined = run("merge", *paths, "--output-dir", out, "--episode-id", "again")
    assert status == 0
    status, trimmed = run("trim", whole, "--output-dir", out, "--stop-s", "0.05")
    assert status == 0
    assert trimmed[0]["counts"]["steps"] == 3  # their head and two of them
    status, shown = run("show", joined[0]["path"], "--picture", out / "page.png")
    assert status == 0
    assert shown["figures"]["steps"] == 6
    assert shown["plan"]["steps"] == 6
    assert "audio" in shown["plan"]["blocks"]
    assert (out / "page.png").read_bytes()[:4] == b"\x89PNG"
