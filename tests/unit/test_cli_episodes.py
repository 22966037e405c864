"""`continuon episodes ...`: cut, join, measure, draw, delete, open."""

import attrs
import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon._specs.episode.plan_drafts import legal_plan
from continuon.cli.program import run
from continuon.errors import DataError, UsageError
from continuon.rlds.edit import Span, cut_points, cut_recording
from continuon.rlds.episode import EndReason
from continuon.rlds.images import decode_colour_png, encode_jpeg
from continuon.rlds.overview import overview_picture, overview_text
from continuon.rlds.plan_dir import write_plan
from continuon.rlds.recording import open_recording
from continuon.rlds.steps import align
from continuon.rlds.validate import validate_recording


@pytest.fixture
def ran(capsys, monkeypatch, tmp_path):
    """Run a command; returns what it printed, having checked its status."""
    monkeypatch.setenv("CONTINUON_HOME", str(tmp_path / "home"))

    def call(*argv, status=0):
        capsys.readouterr()
        code = run([str(word) for word in argv])
        captured = capsys.readouterr()
        assert code == status, captured.err
        return captured.out + captured.err

    return call


def write(folder, steps=12, *, name="a", at_ns=0, wall_s=0, **changes):
    """Write an episode that starts at 1 s of its clock, moved by `at_ns`."""
    draft = legal_draft(steps)
    samples = {
        stream: tuple((at + at_ns, payload) for at, payload in rows)
        for stream, rows in draft.samples.items()
    }
    offsets = tuple(
        attrs.evolve(o, measured_at_ns=o.measured_at_ns + at_ns) for o in draft.offsets
    )
    start = 1_700_000_000_000_000_000 + wall_s * 1_000_000_000
    metadata = legal_metadata(episode_id=name, start_wall_ns=start, **changes)
    folder.mkdir(exist_ok=True, parents=True)
    made = attrs.evolve(draft, metadata=metadata, samples=samples, offsets=offsets)
    return write_draft(made, folder)


def columns(steps):
    return (steps.stamp_ns, steps.state, steps.action, steps.valid)


@pytest.mark.req("R-EPISODE-90")
@pytest.mark.parametrize("cuts", [[0.1], [0.05, 0.2], [1 / 30, 2 / 30, 0.3]])
def test_the_parts_of_a_split_are_together_the_steps_of_the_whole(tmp_path, cuts):
    path = write(tmp_path / "in")
    before = path.read_bytes()
    whole = open_recording(path)
    steps = align(whole)
    spans = cut_points(whole, at_s=cuts)
    parts = [
        cut_recording(whole, span, tmp_path / "out", episode_id=f"p{i}")
        for i, span in enumerate(spans)
    ]
    assert path.read_bytes() == before
    opened = [open_recording(part.path) for part in parts]
    aligned = [align(part) for part in opened]
    for number, column in enumerate(columns(steps)):
        joined = np.concatenate([columns(part)[number] for part in aligned])
        np.testing.assert_array_equal(joined, column)
    assert [b for part in aligned for b in part.image] == list(steps.image)
    assert [b for part in aligned for b in part.depth] == list(steps.depth)
    ends = [part.end_reason for part in opened]
    assert ends == [EndReason.SLICE] * len(cuts) + [EndReason.COMPLETE]
    for part in opened:
        assert part.metadata.provenance["edited_from"] == "a"
        assert validate_recording(part.path).ok


@pytest.mark.req("R-EPISODE-90")
def test_a_cut_that_cannot_be_is_refused_and_nothing_is_overwritten(tmp_path):
    whole = open_recording(write(tmp_path / "in"))
    for options in ({}, {"every_s": 0}, {"at_s": [0.2, 0.1]}, {"at_s": [9.0]}):
        with pytest.raises(UsageError, match="EDIT-00"):
            cut_points(whole, **options)
    with pytest.raises(DataError, match="EDIT-004"):
        cut_recording(whole, Span(0, 5), tmp_path / "out", episode_id="x")
    (span,) = cut_points(whole, every_s=99)
    cut_recording(whole, span, tmp_path / "out", episode_id="x")
    with pytest.raises(DataError, match="RECORD-001"):
        cut_recording(whole, span, tmp_path / "out", episode_id="x")


@pytest.mark.req("R-EPISODE-90")
def test_a_full_disk_leaves_no_part_of_a_cut(tmp_path, monkeypatch):
    whole = open_recording(write(tmp_path / "in"))
    (span,) = cut_points(whole, every_s=99)
    calls = iter(range(100))

    def refuse(self, buffers, _real=None):
        if next(calls) > 8:
            raise OSError(28, "No space left on device")
        return real(self, buffers)

    from continuon.rlds.file_sink import FileSink

    real = FileSink.append
    monkeypatch.setattr(FileSink, "append", refuse)
    with pytest.raises(OSError, match="No space"):
        cut_recording(whole, span, tmp_path / "out", episode_id="x")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.req("R-EPISODE-92")
def test_split_trim_and_merge_by_command(tmp_path, ran):
    path = write(tmp_path / "in")
    out = tmp_path / "out"
    said = ran("episodes", "split", path, "--output-dir", out, "--every-s", "0.2")
    assert "a-part000.mcap" in said
    assert "a-part001.mcap" in said
    ran(
        "episodes",
        "trim",
        path,
        "--output-dir",
        out,
        "--start-s",
        "0.1",
        "--stop-s",
        "0.3",
    )
    assert len(align(open_recording(out / "a-trim.mcap"))) == 6
    ran("episodes", "trim", path, "--output-dir", out, "--start-s", "-1", status=2)
    later = write(tmp_path / "in", name="b", at_ns=10**9)
    ran("episodes", "merge", path, later, "--output-dir", out, "--episode-id", "ab")
    assert len(align(open_recording(out / "ab.mcap"))) == 24


@pytest.mark.req("R-EPISODE-92")
def test_delete_asks_and_takes_nothing_but_recordings(tmp_path, ran, monkeypatch):
    path = write(tmp_path / "in")
    other = tmp_path / "notes.txt"
    other.write_text("x")
    assert "--yes" in ran("episodes", "delete", path, status=2)
    ran("episodes", "delete", tmp_path / "in", "--yes", status=2)
    ran("episodes", "delete", path, other, "--yes", status=2)
    ran("episodes", "delete", tmp_path / "gone.mcap", "--yes", status=1)

    class Terminal:
        answer = "n\n"

        def isatty(self):
            return True

        def readline(self):
            return self.answer

    terminal = Terminal()
    monkeypatch.setattr("sys.stdin", terminal)
    ran("episodes", "delete", path, status=4)
    assert path.exists()
    terminal.answer = "y\n"
    ran("episodes", "delete", path, path)  # named twice is deleted once
    assert not path.exists()
    assert other.exists()


@pytest.mark.req("R-EPISODE-93")
def test_show_draws_a_page_and_a_terminal_view(tmp_path, ran):
    path = write(tmp_path / "in", steps=30)
    page = tmp_path / "page.png"
    said = ran("episodes", "show", path, "--picture", page)
    for word in ("simulated", "steering", "frame to frame, ms", "30 steps, 0 masked"):
        assert word in said
    pixels = decode_colour_png(page.read_bytes())
    assert pixels.shape[1] == 1008
    for pen in ((0, 114, 178), (213, 94, 0)):
        assert (pixels == pen).all(axis=2).any()
    ran("episodes", "show", tmp_path / "in", status=2)


@pytest.mark.req("R-EPISODE-93")
def test_what_cannot_be_drawn_is_shown_as_such(tmp_path):
    draft = legal_draft(4)
    torn = encode_jpeg(np.zeros((12, 16, 3), np.uint8))[:-30]
    rows = list(draft.samples["rgb"])
    rows[1] = (rows[1][0], torn)
    actions = draft.samples["action"][:1]
    samples = {**draft.samples, "rgb": tuple(rows), "action": actions}
    path = write_draft(attrs.evolve(draft, samples=samples), tmp_path)
    steps = align(open_recording(path))
    page = overview_picture(steps, "x")
    assert (page.reshape(-1, 3) == (200, 0, 0)).all(axis=1).any()
    assert (page.reshape(-1, 3) == (250, 215, 215)).all(
        axis=1
    ).any() or steps.valid.all()
    assert "4 steps" in overview_text(steps, width=40)


@pytest.mark.req("R-EPISODE-92")
def test_stats_are_of_all_recordings_together(tmp_path, ran):
    write(tmp_path / "in")
    write(tmp_path / "in", steps=8, name="b", wall_s=60)
    said = ran("episodes", "stats", tmp_path / "in")
    assert "2 episodes, 20 steps, 20 valid" in said
    assert "steering" in said
    assert "mean       0.5" in said


@pytest.mark.req("R-EPISODE-92")
def test_without_a_path_the_recordings_of_the_home_are_meant(tmp_path, ran):
    write(tmp_path / "home" / "rlds" / "episodes")
    assert "12 frames" in ran("episodes", "list")
    assert "1 episodes, 12 steps" in ran("episodes", "stats")
    assert "1 of 1 episodes keep" in ran("episodes", "validate")
    assert "nothing to do" in ran("episodes", "recover")


@pytest.mark.req("R-EPISODE-92")
def test_a_directory_of_the_plan_is_validated_like_a_recording(tmp_path, ran):
    write_plan(legal_plan(episode_id="p"), tmp_path / "in" / "p")
    assert "1 of 1 episodes keep" in ran("episodes", "validate", tmp_path / "in")
    bad = attrs.evolve(legal_plan(), blobs={})
    write_plan(bad, tmp_path / "in" / "q")
    said = ran("episodes", "validate", tmp_path / "in", status=3)
    assert "E-EPISODE-BLOB-002" in said


@pytest.mark.req("R-EPISODE-92")
def test_view_opens_what_is_installed_or_says_how_to_install_it(
    tmp_path, ran, monkeypatch
):
    path = write(tmp_path / "in")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "continuon[viz]" in ran("episodes", "view", path, status=2)
    (tmp_path / "bin").mkdir()
    viewer = tmp_path / "bin" / "foxglove-studio"
    viewer.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    viewer.chmod(0o755)
    assert "foxglove" in ran("episodes", "view", path)
    assert (tmp_path / "opened").read_text().strip() == str(path)
    ran("episodes", "view", path, "--using", "rerun", status=2)


@pytest.mark.parametrize(
    "words",
    [
        ("trim", "--start-s=nan"),
        ("trim", "--start-s=inf"),
        ("trim", "--stop-s=nan"),
        ("trim", "--stop-s=inf"),
        ("split", "--every-s=1e-9"),
        ("split", "--every-s=nan"),
    ],
)
def test_a_part_of_no_length_that_there_is_is_refused(ran, tmp_path, words):
    name, option = words
    path = write(tmp_path / "in")
    out = tmp_path / "parts"
    ran("episodes", name, path, f"--output-dir={out}", option, status=2)
    assert not out.exists()


def test_a_viewer_that_is_absent_is_named_itself(ran, monkeypatch, tmp_path):
    path = write(tmp_path / "in")
    monkeypatch.setenv("PATH", str(tmp_path))
    said = ran("episodes", "view", path, "--using=foxglove", status=2)
    assert "Foxglove is not installed" in said
