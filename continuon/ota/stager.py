"""The A/B stager's pure core: a record and an event in, a record and effects out.

It reads no clock and no disk. Every rule about what may become active, good or
forgotten stands here and nowhere else; specs/stager numbers them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import attrs

from continuon.errors import TrustError, UsageError
from continuon.ota.effects import CheckSlot, Effect
from continuon.ota.plans import (
    SLOTS,
    activate_plan,
    record_plan,
    stage_plan,
    triage_plan,
)
from continuon.ota.record import (
    MAX_FAILURES,
    MAX_REASON_CHARACTERS,
    SLOT_LOST,
    Failure,
    Record,
    Trial,
)

__all__ = [
    "Abort",
    "Activate",
    "Commit",
    "Contact",
    "Event",
    "Phase",
    "Recover",
    "Rollback",
    "Stage",
    "Step",
    "advance",
]

DEFAULT_TRIES = 3


class Phase(StrEnum):
    """Where an update stands."""

    IDLE = "idle"
    GRANTED = "granted"
    FETCHING = "fetching"
    FETCHED = "fetched"
    VERIFIED = "verified"
    STAGED = "staged"
    TRIAL = "trial"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"


@attrs.frozen(kw_only=True)
class Stage:
    """Make a slot of a verified bundle. `retry` allows one that failed before."""

    bundle: str
    release_counter: int
    files: Mapping[str, str] | None = None
    retry: bool = False


@attrs.frozen(kw_only=True)
class Activate:
    """Put a staged bundle on trial; `learned` are the floors its grant has set."""

    bundle: str
    release_counter: int
    tries: int = DEFAULT_TRIES
    retry: bool = False
    learned: Contact | None = None


@attrs.frozen(kw_only=True)
class Commit:
    """The bundle on trial has proved itself."""

    bundle: str


@attrs.frozen(kw_only=True)
class Rollback:
    """Return to the good bundle, or from a committed one to the previous."""

    code: str
    reason: str
    triage: Mapping[str, bytes] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Recover:
    """The device starts. `intact` are the role holders whose slots verified."""

    intact: frozenset[str]
    triage: Mapping[str, bytes] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Contact:
    """Something signed was seen, or powered-on time went by; floors only rise."""

    t_floor_ns: int = 0
    grant_seq: int = 0
    owner_epoch: int = 0
    offline_ns: int | None = None


@attrs.frozen(kw_only=True)
class Abort:
    """Forget an update that is not on trial; always allowed, changes no role."""


Event = Stage | Activate | Commit | Rollback | Recover | Contact | Abort


@attrs.frozen
class Step:
    """The outcome of one event.

    `effects` are to be performed in order. `best_effort` come first and may fail for
    want of space: the record then says that the evidence is missing.
    """

    record: Record
    effects: tuple[Effect, ...] = ()
    best_effort: tuple[Effect, ...] = ()
    without_triage: Record | None = None
    phase: Phase = Phase.IDLE


def advance(record: Record, event: Event) -> Step:
    """Return what follows from `event`.

    Raises:
        TrustError: E-OTA-RELEASE-001 an older release, -002 another bundle with the
            same counter, E-OTA-STATE-004 a bundle that failed before.
        UsageError: E-OTA-STATE-001 a trial is going on, -002 nothing to return to,
            -003 that bundle is not on trial.
    """
    match event:
        case Stage():
            return _stage(record, event)
        case Activate():
            return _activate(record, event)
        case Commit():
            return _commit(record, event)
        case Rollback():
            return _rollback(record, event)
        case Recover():
            return _recover(record, event)
        case Contact():
            return _contact(record, event)
        case Abort():
            return Step(record)


def _stage(record: Record, event: Stage) -> Step:
    if event.bundle in record.roles:
        check = CheckSlot(f"{SLOTS}/{event.bundle}", event.bundle)
        return Step(record, (check,), phase=Phase.STAGED)
    _admit(record, event.bundle, event.release_counter, retry=event.retry)
    return Step(record, stage_plan(event.bundle, event.files), phase=Phase.STAGED)


def _activate(record: Record, event: Activate) -> Step:
    if record.trial is not None and record.trial.bundle == event.bundle:
        return Step(record, phase=Phase.TRIAL)
    if record.trial is not None:
        raise UsageError(
            "E-OTA-STATE-001",
            "another bundle is on trial",
            seen=record.trial.bundle[:16],
            hint="commit it or roll it back first",
        )
    if record.active == event.bundle:
        return Step(record, phase=Phase.COMMITTED)
    _admit(record, event.bundle, event.release_counter, retry=event.retry)
    after = attrs.evolve(
        _risen(record, event.learned) if event.learned else record,
        seq=record.seq + 1,
        active=event.bundle,
        trial=Trial(
            bundle=event.bundle,
            release_counter=event.release_counter,
            tries_left=max(1, event.tries),
        ),
        failed=tuple(item for item in record.failed if item.bundle != event.bundle),
    )
    check = CheckSlot(f"{SLOTS}/{event.bundle}", event.bundle)
    return Step(after, (check, *activate_plan(after)), phase=Phase.TRIAL)


def _commit(record: Record, event: Commit) -> Step:
    trial = record.trial
    if trial is None and record.good == event.bundle:
        return Step(record, phase=Phase.COMMITTED)
    if trial is None or trial.bundle != event.bundle:
        raise UsageError(
            "E-OTA-STATE-003",
            "that bundle is not on trial",
            seen=event.bundle[:16],
            allowed=trial.bundle[:16] if trial else "none is on trial",
        )
    after = attrs.evolve(
        record,
        seq=record.seq + 1,
        good=trial.bundle,
        previous=record.good,
        trial=None,
        release_high=max(record.release_high, trial.release_counter),
        release_bundle=trial.bundle,
    )
    return Step(after, record_plan(after), phase=Phase.COMMITTED)


def _rollback(record: Record, event: Rollback) -> Step:
    if record.trial is not None:
        after = attrs.evolve(record, active=record.good, trial=None)
    elif record.active is not None and record.previous is not None:
        after = attrs.evolve(
            record, active=record.previous, good=record.previous, previous=None
        )
    else:
        raise UsageError(
            "E-OTA-STATE-002",
            "there is no earlier bundle to return to",
            seen="nothing on trial, no previous bundle",
        )
    return _leave(record, after, event.code, event.reason, event.triage)


def _recover(record: Record, event: Recover) -> Step:
    good = record.good if record.good in event.intact else None
    previous = record.previous if record.previous in event.intact else None
    if good is None and record.good is not None:
        good, previous = previous, None
    trial = record.trial
    if trial is not None:
        kept = attrs.evolve(record, good=good, previous=previous)
        if trial.bundle in event.intact and trial.tries_left > 1:
            fewer = attrs.evolve(trial, tries_left=trial.tries_left - 1)
            after = attrs.evolve(kept, seq=record.seq + 1, trial=fewer)
            return Step(after, record_plan(after), phase=Phase.TRIAL)
        back = attrs.evolve(kept, active=good, trial=None)
        if trial.bundle in event.intact:
            code, why = "E-OTA-TRIAL-001", "no commit before its starts were used up"
        else:
            code, why = SLOT_LOST, "its slot no longer verifies"
        return _leave(record, back, code, why, event.triage)
    kept = attrs.evolve(record, active=good, good=good, previous=previous)
    if kept == record:
        return Step(record)
    if good == record.good:
        after = attrs.evolve(kept, seq=record.seq + 1)
        return Step(after, record_plan(after))
    why = "its slot no longer verifies"
    return _leave(record, kept, SLOT_LOST, why, event.triage)


def _contact(record: Record, event: Contact) -> Step:
    after = _risen(record, event)
    if after == record:
        return Step(record)
    after = attrs.evolve(after, seq=record.seq + 1)
    return Step(after, record_plan(after))


def _risen(record: Record, event: Contact) -> Record:
    """Return the record with its floors raised, and never lowered."""
    return attrs.evolve(
        record,
        t_floor_ns=max(record.t_floor_ns, event.t_floor_ns),
        grant_seq=max(record.grant_seq, event.grant_seq),
        owner_epoch=max(record.owner_epoch, event.owner_epoch),
        offline_ns=record.offline_ns if event.offline_ns is None else event.offline_ns,
    )


def _leave(
    record: Record,
    after: Record,
    code: str,
    reason: str,
    triage: Mapping[str, bytes],
) -> Step:
    """Drop `record.active`, keeping its triage first and saying so in the record."""
    assert record.active is not None
    failure = Failure(
        bundle=record.active, code=code, reason=reason[:MAX_REASON_CHARACTERS]
    )
    others = [item for item in record.failed if item.bundle != record.active]

    def final(item: Failure) -> Record:
        failed = (*others, item)[-MAX_FAILURES:]
        return attrs.evolve(after, seq=record.seq + 1, failed=failed)

    told = final(failure)
    untold = final(attrs.evolve(failure, triage=False))
    return Step(
        told,
        record_plan(told),
        best_effort=triage_plan(record.active, triage),
        without_triage=untold,
        phase=Phase.ROLLED_BACK,
    )


def _admit(record: Record, bundle: str, release_counter: int, *, retry: bool) -> None:
    if release_counter < record.release_high:
        raise TrustError(
            "E-OTA-RELEASE-001",
            "the bundle is an older release than one that was committed here",
            seen=release_counter,
            allowed=f"at least {record.release_high}",
            hint="releases never go back; publish the older content as a new release",
        )
    if release_counter == record.release_high and bundle != record.release_bundle:
        raise TrustError(
            "E-OTA-RELEASE-002",
            "another bundle with this release counter was committed here",
            seen=release_counter,
            allowed=f"above {record.release_high}",
            hint="raise the release counter of the new bundle",
        )
    failure = next((item for item in record.failed if item.bundle == bundle), None)
    if failure is not None and failure.counts and not retry:
        raise TrustError(
            "E-OTA-STATE-004",
            "this bundle was tried here and rolled back",
            seen=f"{failure.code}: {failure.reason}",
            hint="publish a repaired one, or ask to retry it",
        )
