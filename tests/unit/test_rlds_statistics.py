"""Statistics: over what counts, and the same in parts as at once."""

import json
from itertools import pairwise

import attrs
import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon.errors import ContractError
from continuon.rlds.recording import BlobSequence, open_recording
from continuon.rlds.statistics import column_statistics, episode_statistics, merge
from continuon.rlds.steps import align

NAMES = ("a", "b")


@pytest.mark.req("R-EPISODE-35")
def test_parts_merge_to_what_is_measured_at_once():
    rng = np.random.default_rng(0)
    values = rng.normal([1e6, -3], [1e-2, 5], (97, 2))
    whole = column_statistics(values, NAMES)
    cuts = (0, 1, 1, 40, 97)
    parts = [
        column_statistics(values[start:stop], NAMES) for start, stop in pairwise(cuts)
    ]
    merged = merge(parts)
    assert merged.count == whole.count == 97
    for name in ("mean", "std", "low", "high"):
        np.testing.assert_allclose(
            getattr(merged, name), getattr(whole, name), rtol=1e-7
        )
    np.testing.assert_allclose(whole.std, values.std(axis=0), rtol=1e-9)


@pytest.mark.req("R-EPISODE-35")
def test_masked_steps_and_unknown_readings_do_not_count(tmp_path):
    steps = align(open_recording(write_draft(legal_draft(), tmp_path)))
    steps.valid[1] = False
    steps.action[1] = 1000
    steps.state[2] = np.nan
    found = episode_statistics(steps)
    assert found["action"].count == len(steps) - 1
    assert found["action"].high.tolist() == [0.5, -0.25]
    assert found["state"].count == len(steps) - 2


@pytest.mark.req("R-EPISODE-35")
def test_no_picture_is_touched(tmp_path, monkeypatch):
    steps = align(open_recording(write_draft(legal_draft(), tmp_path)))

    def touched(*_):
        raise AssertionError

    monkeypatch.setattr(BlobSequence, "view", touched)
    monkeypatch.setattr(BlobSequence, "views", touched)
    assert episode_statistics(steps)["action"].count == len(steps)


def test_nothing_measured_is_not_zero():
    none = column_statistics(np.full((3, 2), np.nan), NAMES)
    assert none.count == 0
    assert np.isnan(none.mean).all()
    assert np.isnan(none.std).all()
    assert none.as_dict() == {"count": 0, "components": {"a": None, "b": None}}
    some = column_statistics(np.ones((1, 2)), NAMES)
    assert merge([none, some]) is some
    assert json.loads(json.dumps(some.as_dict()))["components"]["a"]["std"] == 0


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(ContractError, match="STATISTICS-001"):
        column_statistics(np.ones((2, 3)), NAMES)
    one = column_statistics(np.ones((2, 2)), NAMES)
    with pytest.raises(ContractError, match="STATISTICS-002"):
        merge([one, attrs.evolve(one, names=("a", "c"))])
    with pytest.raises(ContractError, match="STATISTICS-002"):
        merge([])
