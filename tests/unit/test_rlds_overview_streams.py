"""A recording without colour frames is drawn too: its numbers over time."""

import json

import attrs
import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon._specs.episode.plan_drafts import legal_plan
from continuon.cli.program import run
from continuon.rlds.images import decode_colour_png
from continuon.rlds.overview_streams import stream_plots, stream_text
from continuon.rlds.plan_record import record_plan
from continuon.rlds.recording import open_recording

pytestmark = pytest.mark.req("R-EPISODE-90")


@pytest.fixture
def blind(tmp_path):
    """A recording of states and actions only."""
    draft = legal_draft(12)
    numbers = tuple(spec for spec in draft.streams if spec.is_vector)
    names = {spec.name for spec in numbers}
    made = attrs.evolve(
        draft,
        metadata=legal_metadata(episode_id="blind"),
        streams=numbers,
        samples={name: rows for name, rows in draft.samples.items() if name in names},
        offsets=(),
    )
    return write_draft(made, tmp_path)


def test_each_point_is_the_last_sample_before_it(blind):
    recording = open_recording(blind)
    plots = {title: (names, table) for title, names, table in stream_plots(recording)}
    state = recording.streams["state"]
    assert plots["state"][0] == state.spec.names
    table = plots["state"][1]
    np.testing.assert_array_equal(table[-1], state.vectors[-1].astype(np.float64))
    known = table[np.isfinite(table).all(axis=1)]
    held = {tuple(row) for row in state.vectors.astype(np.float64).tolist()}
    assert {tuple(row) for row in known.tolist()} <= held


def test_show_draws_it_on_a_terminal_and_a_page(blind, tmp_path, capsys):
    page = tmp_path / "page.png"
    assert run(["episodes", "show", str(blind), "--picture", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["picture"] == str(page)
    pixels = decode_colour_png(page.read_bytes())
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 4
    assert run(["episodes", "show", str(blind)]) == 0
    assert "speed" in capsys.readouterr().out


def test_the_plans_commands_are_drawn(tmp_path):
    summary, _ = record_plan(legal_plan(6), tmp_path)
    recording = open_recording(summary.path)
    titles = [title for title, _, _ in stream_plots(recording)]
    assert "action" in titles
    assert "command_0" in stream_text(recording)
