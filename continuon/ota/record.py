"""The state record: one small file, the only commit point of the A/B stager.

Slots are immutable directories named by bundle id; A and B are roles in this record.
Whoever can read the record knows what runs, what is good, and what is on trial.
"""

from __future__ import annotations

import functools
import hashlib

import attrs

from continuon.bundle.canonical import canonical_json, parse_strict
from continuon.bundle.paths import is_hex_digest
from continuon.bundle.structure import structure, unstructure
from continuon.errors import ContractError, DataError

__all__ = ["Failure", "Record", "Trial", "decode_record", "encode_record"]

SCHEMA = "continuon.slots/1"
MAX_RECORD_BYTES = 1 << 16
MAX_FAILURES = 8
MAX_REASON_CHARACTERS = 400
SLOT_LOST = "E-OTA-SLOT-001"


@attrs.frozen(kw_only=True)
class Trial:
    """The active bundle has not proved itself yet.

    Every start consumes one of `tries_left`; with none left the good bundle is back.
    """

    bundle: str
    release_counter: int
    tries_left: int


@attrs.frozen(kw_only=True)
class Failure:
    """A bundle that was tried and rolled back, and why."""

    bundle: str
    code: str
    reason: str
    triage: bool = True

    @property
    def counts(self) -> bool:
        """Return whether it speaks against the bundle; a lost slot does not."""
        return self.code != SLOT_LOST


@attrs.frozen(kw_only=True)
class Record:
    """What the device runs and what it remembers for ever.

    Attributes:
        seq: rises by one with each write.
        active: bundle id of the slot that runs, None before the first bundle.
        good: last bundle that was committed; what a rollback returns to.
        previous: the good bundle before that one, kept while there is room.
        trial: set while `active` is not yet committed.
        failed: rolled-back bundles, newest last, at most eight.
        release_high: highest release counter ever committed; never decreases.
        release_bundle: the bundle that carried it.
        t_floor_ns: no earlier wall time is believed; Unix nanoseconds.
        grant_seq: highest grant sequence seen; never decreases.
        owner_epoch: highest owner epoch seen; never decreases.
        offline_ns: powered-on time since the last signed contact.
    """

    seq: int = 0
    active: str | None = None
    good: str | None = None
    previous: str | None = None
    trial: Trial | None = None
    failed: tuple[Failure, ...] = ()
    release_high: int = -1
    release_bundle: str | None = None
    t_floor_ns: int = 0
    grant_seq: int = 0
    owner_epoch: int = 0
    offline_ns: int = 0

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the distinct bundles that hold a role, active first."""
        named = (self.active, self.good, self.previous)
        return tuple(dict.fromkeys(name for name in named if name is not None))


@functools.lru_cache(maxsize=64)
def encode_record(record: Record) -> bytes:
    """Return the bytes of the state file: canonical JSON with its own SHA-256."""
    body = _wide(unstructure(record))
    digest = hashlib.sha256(canonical_json(body)).hexdigest()
    return canonical_json({"schema": SCHEMA, "record": body, "sha256": digest})


@functools.lru_cache(maxsize=64)
def decode_record(data: bytes, *, where: str = "state") -> Record:
    """Return the record in the bytes of a state file.

    Raises:
        DataError: E-OTA-RECORD-001 torn or altered, -002 another schema, -003 roles
            that contradict each other.
    """
    try:
        value = parse_strict(data, where=where, max_bytes=MAX_RECORD_BYTES)
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise DataError(
                "E-OTA-RECORD-002",
                "the state record follows a schema that this version does not read",
                seen=value.get("schema") if isinstance(value, dict) else type(value),
                allowed=SCHEMA,
                where=where,
                exit_code=4,
            )
        body = value.get("record")
        if hashlib.sha256(canonical_json(body)).hexdigest() != value.get("sha256"):
            raise _torn(where, "its checksum does not match")
        record = structure(_narrow(body), Record, where=where)
    except ContractError as error:
        raise _torn(where, str(error)) from error
    return _check(record, where)


def _check(record: Record, where: str) -> Record:
    trial = record.trial
    ok = (
        all(is_hex_digest(name) for name in record.roles)
        and (trial is None or (trial.bundle == record.active and trial.tries_left >= 0))
        and (trial is not None or record.active == record.good)
        and len(record.failed) <= MAX_FAILURES
    )
    if not ok:
        raise DataError(
            "E-OTA-RECORD-003",
            "the roles in the state record contradict each other",
            seen=f"active {record.active}, good {record.good}, trial {trial}",
            where=where,
            exit_code=4,
        )
    return record


_WIDE = ("t_floor_ns", "offline_ns")


def _wide(body: dict[str, object]) -> dict[str, object]:
    """Write nanoseconds as text: they pass the 2^53 that JSON readers agree on."""
    return {key: str(body[key]) if key in _WIDE else body[key] for key in body}


def _narrow(body: object) -> object:
    if not isinstance(body, dict):
        return body
    return {
        key: int(item) if key in _WIDE and str(item).isdigit() else item
        for key, item in body.items()
    }


def _torn(where: str, seen: str) -> DataError:
    return DataError(
        "E-OTA-RECORD-001",
        "the state record is torn or was altered",
        seen=seen,
        where=where,
        hint="the medium may be failing; continuon ota status shows what is left",
        exit_code=4,
    )
