"""A grant, whatever it says, never changes, stops or blocks what runs."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuon.errors import ContinuonError
from continuon.ota.record import Failure, Record, Trial
from continuon.ota.stager import Commit, Contact, Recover, Rollback, advance

pytestmark = pytest.mark.law
A, B, C = "a" * 64, "b" * 64, "c" * 64
FLOORS = {"t_floor_ns", "grant_seq", "owner_epoch", "offline_ns", "seq"}
nanoseconds = st.integers(0, 2**63)
number = st.integers(0, 2**53 - 1)


@st.composite
def records(draw):
    good = draw(st.sampled_from([None, A]))
    trial = draw(st.sampled_from([None, B]))
    return Record(
        seq=draw(st.integers(0, 99)),
        active=trial or good,
        good=good,
        previous=draw(st.sampled_from([None, C])) if good else None,
        trial=trial
        and Trial(bundle=trial, release_counter=7, tries_left=draw(st.integers(1, 3))),
        failed=draw(st.sampled_from([(), (Failure(bundle=C, code="E", reason="r"),)])),
        release_high=draw(st.integers(-1, 9)),
        t_floor_ns=draw(nanoseconds),
        grant_seq=draw(number),
        owner_epoch=draw(number),
        offline_ns=draw(nanoseconds),
    )


contacts = st.builds(
    Contact,
    t_floor_ns=nanoseconds,
    grant_seq=number,
    owner_epoch=number,
    offline_ns=st.none() | nanoseconds,
)
EVENTS = (
    Rollback(code="E-X-001", reason="r"),
    Commit(bundle=B),
    Recover(intact=frozenset({A, B, C})),
    Recover(intact=frozenset({A})),
)


def outcome(record, event):
    try:
        after = advance(record, event).record
    except ContinuonError as error:
        return error.code
    fields = attrs.asdict(after)
    return {name: value for name, value in fields.items() if name not in FLOORS}


@pytest.mark.req("R-STAGER-09")
@given(record=records(), contact=contacts)
def test_what_was_learnt_from_a_grant_moves_floors_and_nothing_else(record, contact):
    after = advance(record, contact).record
    before = attrs.asdict(record)
    changed = {k for k, v in attrs.asdict(after).items() if v != before[k]}
    assert changed <= FLOORS
    for name in FLOORS - {"offline_ns"}:
        assert getattr(after, name) >= before[name]


@pytest.mark.req("R-STAGER-09")
@given(record=records(), contact=contacts)
def test_rolling_back_committing_and_starting_end_alike_whatever_was_granted(
    record, contact
):
    after = advance(record, contact).record
    for event in EVENTS:
        assert outcome(after, event) == outcome(record, event)
