"""A session is gone on with only in the setup in which it was begun."""

import attrs
import pytest

from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon.errors import DataError
from continuon.rlds.recording import open_recording, opening_of
from continuon.rlds.setup import check_same_setup, setup_differences
from continuon.rlds.tfds_write import convert


def recording(folder, name, *, streams=None, **changes):
    draft = legal_draft(2)
    metadata = attrs.evolve(draft.metadata, episode_id=name, **changes)
    made = attrs.evolve(draft, metadata=metadata, streams=streams or draft.streams)
    return open_recording(write_draft(made, folder))


@pytest.mark.req("R-EPISODE-19")
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"robot_id": "car-2"}, "robot_id"),
        ({"control_rate_hz": 20.0}, "control_rate_hz"),
        ({"origin": "real"}, "origin"),
        ({"streams": "other"}, "streams"),
    ],
)
def test_another_setup_is_refused_by_name(tmp_path, changes, named):
    if "streams" in changes:
        first, *rest = legal_draft(2).streams
        changes = {"streams": (attrs.evolve(first, clock="usb"), *rest)}
    one = recording(tmp_path, "a")
    other = recording(tmp_path, "b", **changes)
    with pytest.raises(DataError, match=f"SETUP-001.*{named}"):
        check_same_setup(opening_of(one.path), opening_of(other.path), where=one.path)


@pytest.mark.req("R-EPISODE-19")
def test_another_task_place_or_time_is_the_same_setup(tmp_path):
    one = recording(tmp_path, "a")
    two = recording(tmp_path, "b", task="other", environment_id="x", start_wall_ns=5)
    assert setup_differences(one, two) == []
    check_same_setup(opening_of(one.path), opening_of(two.path), where=one.path)


def test_a_conversion_tells_how_far_it_is(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        recording(tmp_path / "in", name)
    told = []
    convert(tmp_path / "in", tmp_path / "out", progress=lambda *at: told.append(at))
    assert told == [(1, 2, "a"), (2, 2, "b")]
