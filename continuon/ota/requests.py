"""What a robot sends to the grant office: messages that only it can have made."""

from __future__ import annotations

import hashlib
import secrets

import attrs

from continuon.bundle.canonical import canonical_json, parse_strict
from continuon.bundle.envelope import Envelope, check_signatures, parse_envelope, seal
from continuon.bundle.keys import SigningKey, VerifyingKey, verifying_key_from_pem
from continuon.bundle.structure import structure, unstructure
from continuon.errors import TrustError
from continuon.ota.record import Record

__all__ = [
    "MAX_REQUEST_BYTES",
    "Enrolment",
    "GrantRequest",
    "Outcome",
    "claim_hash",
    "new_claim_code",
    "open_enrolment",
    "open_request",
    "outcomes_of",
    "robot_name",
    "seal_enrolment",
    "seal_request",
]

REQUEST_TYPE = "application/vnd.continuon.grant-request+json"
ENROLMENT_TYPE = "application/vnd.continuon.enrolment+json"
MAX_REQUEST_BYTES = 1 << 16
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


@attrs.frozen(kw_only=True)
class Outcome:
    """How a bundle did on a robot."""

    bundle: str
    ok: bool
    code: str | None = None


@attrs.frozen(kw_only=True)
class GrantRequest:
    """What a robot asks, signed with its own key."""

    robot_id: str
    nonce: str
    bundle: str | None = None
    outcomes: tuple[Outcome, ...] = ()


@attrs.frozen(kw_only=True)
class Enrolment:
    """A robot makes itself known: its key, and the digest of the code that it shows."""

    public_key_pem: str
    claim_hash: str


def robot_name(key: VerifyingKey) -> str:
    """Return the name that follows from a robot's key, so that nobody can take it."""
    return f"robot-{key.fingerprint[:16]}"


def new_claim_code() -> str:
    """Return a code of eight letters and digits that are not mistaken for others."""
    return "".join(secrets.choice(_LETTERS) for _ in range(8))


def claim_hash(robot_id: str, claim_code: str) -> str:
    """Return what the office keeps of a code, however a person has typed it."""
    plain = claim_code.strip().upper().replace("-", "").replace(" ", "")
    return hashlib.sha256(f"{robot_id}\0{plain}".encode()).hexdigest()


def outcomes_of(record: Record) -> tuple[Outcome, ...]:
    """Return what a device's own record tells of its bundles."""
    failed = [
        Outcome(bundle=item.bundle, ok=False, code=item.code) for item in record.failed
    ]
    good = [Outcome(bundle=record.good, ok=True)] if record.good else []
    return (*failed, *good)


def seal_request(request: GrantRequest, robot_key: SigningKey) -> bytes:
    """Return the bytes of a request that only this robot can have made."""
    return _seal(canonical_json(unstructure(request)), REQUEST_TYPE, robot_key)


def seal_enrolment(robot_key: SigningKey, claim_code: str) -> bytes:
    """Return the bytes that make a robot known; they prove that it holds its key."""
    name = robot_name(robot_key.public)
    enrolment = Enrolment(
        public_key_pem=robot_key.public.pem.decode("ascii"),
        claim_hash=claim_hash(name, claim_code),
    )
    return _seal(canonical_json(unstructure(enrolment)), ENROLMENT_TYPE, robot_key)


def open_request(data: bytes) -> tuple[Envelope, GrantRequest]:
    """Return a request and its envelope, whose signature is not checked yet.

    Raises:
        TrustError: E-OTA-OFFICE-004, another kind of message.
    """
    envelope = _envelope(data, REQUEST_TYPE)
    body = parse_strict(envelope.payload, where="request")
    return envelope, structure(body, GrantRequest, where="request")


def open_enrolment(data: bytes) -> tuple[VerifyingKey, str]:
    """Return the key of an enrolment, which signed it, and the digest of its code.

    Raises:
        TrustError: E-OTA-OFFICE-004 another kind of message, E-BUNDLE-SIG-... not
            signed by the key that it names, E-BUNDLE-KEY-002 no usable key.
    """
    envelope = _envelope(data, ENROLMENT_TYPE)
    body = parse_strict(envelope.payload, where="enrolment")
    enrolment = structure(body, Enrolment, where="enrolment")
    pem = enrolment.public_key_pem.encode("utf-8")
    key = verifying_key_from_pem(pem, where="enrolment")
    check_signatures(envelope, [key], threshold=1, where="enrolment")
    return key, enrolment.claim_hash


def _seal(payload: bytes, kind: str, key: SigningKey) -> bytes:
    return canonical_json(seal(payload, kind, [key]).as_dict())


def _envelope(data: bytes, kind: str) -> Envelope:
    value = parse_strict(data, where="request", max_bytes=MAX_REQUEST_BYTES)
    envelope = parse_envelope(value, where="request")
    if envelope.payload_type != kind:
        raise TrustError(
            "E-OTA-OFFICE-004",
            "this is another kind of message",
            seen=envelope.payload_type,
            allowed=kind,
        )
    return envelope
