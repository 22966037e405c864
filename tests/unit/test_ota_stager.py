import attrs
import pytest

from continuon.errors import BudgetError, TrustError, UsageError
from continuon.ota.effects import CheckSlot, Rename, SyncAll, SyncDirectory, SyncFile
from continuon.ota.record import Record, Trial
from continuon.ota.space import Evictable, plan_room
from continuon.ota.stager import (
    Abort,
    Activate,
    Commit,
    Contact,
    Phase,
    Recover,
    Rollback,
    Stage,
    advance,
)
from continuon.ota.store import Space

A, B, C = "a" * 64, "b" * 64, "c" * 64
GOOD = Record(seq=1, active=A, good=A, release_high=1, release_bundle=A)


def trial(tries=2):
    return attrs.evolve(
        GOOD, active=B, trial=Trial(bundle=B, release_counter=2, tries_left=tries)
    )


def test_an_update_goes_from_staged_through_trial_to_committed():
    staged = advance(GOOD, Stage(bundle=B, release_counter=2, files={}))
    assert staged.phase is Phase.STAGED
    assert staged.record == GOOD
    tried = advance(GOOD, Activate(bundle=B, release_counter=2))
    assert (tried.record.active, tried.record.good, tried.phase) == (B, A, Phase.TRIAL)
    done = advance(tried.record, Commit(bundle=B))
    assert (done.record.good, done.record.previous, done.record.trial) == (B, A, None)
    assert done.record.release_high == 2


@pytest.mark.req("R-STAGER-12")
def test_staging_activating_and_committing_takes_five_flushes():
    steps = [
        advance(GOOD, Stage(bundle=B, release_counter=2, files={"x": "y", "e/z": "z"})),
        advance(GOOD, Activate(bundle=B, release_counter=2)),
        advance(trial(), Commit(bundle=B)),
    ]
    kinds = (SyncAll, SyncDirectory, SyncFile)
    flushes = [
        effect for step in steps for effect in step.effects if isinstance(effect, kinds)
    ]
    assert len(flushes) == 5


@pytest.mark.req("R-STAGER-07")
def test_a_bundle_is_read_back_before_it_gets_its_name_and_before_it_is_activated():
    effects = advance(GOOD, Stage(bundle=B, release_counter=2, files={})).effects
    kinds = [type(effect) for effect in effects]
    assert kinds.index(SyncAll) < kinds.index(CheckSlot) < kinds.index(Rename)
    assert isinstance(
        advance(GOOD, Activate(bundle=B, release_counter=2)).effects[0], CheckSlot
    )


@pytest.mark.req("R-STAGER-14")
@pytest.mark.parametrize(
    ("event", "code"),
    [
        (Stage(bundle=B, release_counter=0), "RELEASE-001"),
        (Activate(bundle=B, release_counter=0), "RELEASE-001"),
        (Stage(bundle=B, release_counter=1), "RELEASE-002"),
    ],
)
def test_releases_never_go_back(event, code):
    with pytest.raises(TrustError, match=code):
        advance(GOOD, event)


def test_what_is_installed_is_never_staged_over():
    step = advance(GOOD, Stage(bundle=A, release_counter=1, files={"x": "y"}))
    assert step.effects == (CheckSlot(f"slots/{A}", A),)


@pytest.mark.req("R-STAGER-05")
def test_a_failed_bundle_is_refused_unless_a_retry_is_asked_for():
    left = advance(trial(), Rollback(code="E-X-001", reason="slow")).record
    assert (left.active, left.good, left.trial) == (A, A, None)
    with pytest.raises(TrustError, match="STATE-004"):
        advance(left, Activate(bundle=B, release_counter=2))
    again = advance(left, Activate(bundle=B, release_counter=2, retry=True)).record
    assert again.active == B
    assert again.failed == ()
    assert advance(left, Activate(bundle=C, release_counter=3)).record.active == C


def test_a_second_trial_and_a_foreign_commit_are_refused():
    with pytest.raises(UsageError, match="STATE-001"):
        advance(trial(), Activate(bundle=C, release_counter=3))
    with pytest.raises(UsageError, match="STATE-003"):
        advance(trial(), Commit(bundle=C))
    with pytest.raises(UsageError, match="STATE-003"):
        advance(GOOD, Commit(bundle=C))


def test_saying_the_same_thing_twice_changes_nothing():
    assert advance(trial(), Activate(bundle=B, release_counter=2)).effects == ()
    assert advance(GOOD, Activate(bundle=A, release_counter=1)).effects == ()
    assert advance(GOOD, Commit(bundle=A)).effects == ()
    assert advance(trial(), Abort()).record == trial()


@pytest.mark.req("R-STAGER-05")
def test_a_committed_bundle_can_be_left_for_the_previous_one_but_not_further():
    committed = advance(trial(), Commit(bundle=B)).record
    back = advance(committed, Rollback(code="E-X-001", reason="later")).record
    assert (back.active, back.good, back.previous) == (A, A, None)
    assert back.release_high == 2
    with pytest.raises(UsageError, match="STATE-002"):
        advance(back, Rollback(code="E-X-001", reason="again"))


@pytest.mark.req("R-STAGER-15")
def test_every_start_costs_a_try_and_the_last_one_rolls_back():
    step = advance(trial(2), Recover(intact=frozenset({A, B})))
    assert step.record.trial.tries_left == 1
    last = advance(step.record, Recover(intact=frozenset({A, B})))
    assert last.record.active == A
    assert last.record.failed[-1].code == "E-OTA-TRIAL-001"


@pytest.mark.req("R-STAGER-01")
def test_a_slot_that_no_longer_verifies_is_left():
    assert advance(trial(), Recover(intact=frozenset({A}))).record.active == A
    older = attrs.evolve(GOOD, previous=C)
    assert advance(older, Recover(intact=frozenset({C}))).record.active == C
    assert advance(older, Recover(intact=frozenset())).record.active is None
    lost = advance(attrs.evolve(GOOD, previous=C), Recover(intact=frozenset({A})))
    assert (lost.record.active, lost.record.previous) == (A, None)
    both = advance(trial(), Recover(intact=frozenset({B}))).record
    assert (both.active, both.good) == (B, None)


def test_a_slot_that_was_lost_may_be_staged_again_without_asking():
    lost = advance(
        attrs.evolve(GOOD, previous=C), Recover(intact=frozenset({C}))
    ).record
    assert lost.failed[-1].code == "E-OTA-SLOT-001"
    assert advance(lost, Activate(bundle=A, release_counter=1)).record.active == A


@pytest.mark.req("R-STAGER-03")
def test_floors_only_rise():
    told = advance(GOOD, Contact(t_floor_ns=5, grant_seq=3, owner_epoch=2)).record
    assert (
        advance(told, Contact(t_floor_ns=4, grant_seq=1, owner_epoch=0)).effects == ()
    )
    assert (told.t_floor_ns, told.grant_seq, told.owner_epoch) == (5, 3, 2)
    assert told.active == GOOD.active


@pytest.mark.req("R-STAGER-16")
@pytest.mark.req("R-STAGER-06")
def test_room_is_made_at_the_cost_of_as_few_old_slots_as_needed():
    slots = [Evictable("x", 100), Evictable("y", 100)]
    space = Space(free_bytes=150, total_bytes=1000)
    assert plan_room(100, space, slots) == ()
    assert plan_room(200, space, slots) == ("x",)
    assert plan_room(300, space, slots) == ("x", "y")
    with pytest.raises(BudgetError, match="SPACE-001") as caught:
        plan_room(400, space, slots)
    assert caught.value.exit_code == 4
    with pytest.raises(BudgetError):
        plan_room(1, space, [], min_free_bytes=1000)
