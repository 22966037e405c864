"""Each fact that sanity and proof ask for is enough, alone, to miss their gate."""

from __future__ import annotations

import math

import attrs
import pytest

from continuon.learn.controls import Interval
from continuon.learn.proof import ProofSeed, _reasons
from continuon.learn.sanity import _missed

SANE = {"decrease": 0.1, "finite": True, "shapes": True, "alerts": 0}
SURE = Interval(0.2, 0.1, 0.3)
SEED = ProofSeed(
    seed=0,
    updates=8,
    trained=0.1,
    shuffled=0.3,
    frozen=0.4,
    max_parameter_delta=0.1,
    unmoved=(),
    novelty_before=1.0,
    novelty_after=0.5,
    by_episode=((0.1,), (0.3,), (0.4,)),
)


def test_what_holds_misses_nothing():
    assert _missed([object()], **SANE) == ()
    assert _reasons(8, 0.1, [SEED], SURE, SURE) == ()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"decrease": 0.0}, "decrease"),
        ({"decrease": math.nan}, "decrease"),
        ({"decrease": None}, "decrease"),
        ({"finite": False}, "finite"),
        ({"shapes": False}, "shapes"),
        ({"alerts": 1}, "CRITICAL"),
    ],
)
def test_each_fact_alone_fails_sanity(change, word):
    (reason,) = _missed([object()], **SANE | change)
    assert word in reason
    assert "no step" in _missed([], **SANE)[0]


@pytest.mark.parametrize("low", [0.0, -0.1, -math.inf, math.nan])
def test_a_mean_above_zero_is_no_proof_where_its_lower_end_is_not(low):
    doubtful = Interval(0.2, low, 0.5)
    (frozen,) = _reasons(8, 0.1, [SEED], doubtful, SURE)
    (shuffled,) = _reasons(8, 0.1, [SEED], SURE, doubtful)
    assert "frozen" in frozen
    assert "shuffled" in shuffled


@pytest.mark.parametrize("field", ["trained", "shuffled", "frozen"])
def test_no_update_no_motion_and_no_number_fail_the_proof(field):
    (none,) = _reasons(0, 0.1, [SEED], SURE, SURE)
    assert "no update" in none
    for still in (0.0, math.nan):
        (reason,) = _reasons(8, still, [SEED], SURE, SURE)
        assert "moved" in reason
    unknown = attrs.evolve(SEED, **{field: math.nan})
    (reason,) = _reasons(8, 0.1, [SEED, unknown], SURE, SURE)
    assert "not finite" in reason
