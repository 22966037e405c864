"""The episodic buffer: a fair sample, whatever the order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuon.hope.experience import (
    NOTHING,
    Lived,
    as_document,
    from_document,
    joined,
    lived,
    rank_of,
)

episodes = st.lists(
    st.builds(
        Lived,
        episode_id=st.text(min_size=1, max_size=6),
        ticks=st.integers(1, 500),
        surprise=st.floats(0, 10),
    ),
    unique_by=lambda entry: entry.episode_id,
    max_size=12,
)
PERIODS = (4, 8)


def after(entries, size=4):
    told = NOTHING
    for entry in entries:
        told = lived(told, entry, periods=PERIODS, size=size)
    return told


def alike(one, other):
    assert one.surprise == pytest.approx(other.surprise, abs=1e-9)
    assert (one.buffer, one.taken, one.writes, one.ticks) == (
        other.buffer,
        other.taken,
        other.writes,
        other.ticks,
    )


@pytest.mark.req("R-HOPE-53")
@given(episodes, st.randoms(use_true_random=False), st.integers(0, 12))
def test_neither_the_order_nor_who_met_them_matters(entries, random, cut):
    whole = after(entries)
    turned = list(entries)
    random.shuffle(turned)
    alike(after(turned), whole)
    parts = [after(turned[:cut]), after(turned[cut:])]
    alike(joined(parts, size=4), whole)
    alike(joined(parts[::-1], size=4), whole)
    assert len(whole.buffer) == min(len(entries), 4)
    assert all(whole.has(entry.episode_id) for entry in entries)
    assert not whole.has("an id longer than any")
    assert from_document(as_document(whole)) == whole


@pytest.mark.req("R-HOPE-53")
def test_each_episode_is_as_likely_to_be_in_the_buffer_as_any_other():
    places = np.zeros(40)
    for life in range(400):
        entries = [
            Lived(episode_id=f"{life}-{n}", ticks=8, surprise=0.0) for n in range(40)
        ]
        for entry in after(entries, size=10).buffer:
            places[int(entry.episode_id.split("-")[1])] += 1
    # 40 places, each 400 draws of odds 1 / 4: five sigma are 43
    assert np.abs(places - 100).max() < 45


def test_the_buffer_holds_the_smallest_ranks_which_fit_a_signed_number_of_64_bits():
    entries = [Lived(episode_id=f"e{n}", ticks=1, surprise=0.0) for n in range(40)]
    ranks = sorted(rank_of(entry.episode_id) for entry in entries)
    assert 2**62 < ranks[-1] < 2**63
    kept = after(entries).buffer
    assert [rank_of(entry.episode_id) for entry in kept] == ranks[:4]


def test_figures_of_use_are_those_of_the_ticks():
    told = after(
        [
            # nothing is written before tick 8: the episode is over
            Lived(episode_id="a", ticks=8, surprise=1.0),
            Lived(episode_id="b", ticks=9, surprise=5.25),
        ]
    )
    assert told.writes == (1 + 2, 0 + 1)
    assert told.surprise == pytest.approx((8 + 9 * 5.25) / 17)
    assert told.ticks == 17
    assert list(told.taken) == sorted({rank_of("a"), rank_of("b")})
