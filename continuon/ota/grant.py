"""A grant: who may have which bundles, until when. Signed, and bound to one robot.

It chooses among bundles that are signed anyway; it can neither make one nor touch what
runs. Time comes from signed messages and from powered-on seconds, never from NTP or
the clock chip: `now = max(system clock, t_floor)`, and the floor only rises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from continuon.bundle.canonical import canonical_json, parse_strict
from continuon.bundle.envelope import check_signatures, parse_envelope, seal
from continuon.bundle.keys import SigningKey, VerifyingKey
from continuon.bundle.paths import is_hex_digest
from continuon.bundle.structure import structure, unstructure
from continuon.errors import ContinuonError, ContractError, TrustError
from continuon.ota.record import Record

__all__ = ["Ask", "Grant", "RobotIdentity", "check_grant", "open_grant", "seal_grant"]

SCHEMA = "continuon.grant/1"
GRANT_TYPE = "application/vnd.continuon.grant+json"
MAX_GRANT_BYTES = 1 << 16
MAX_LIFE_S = 400 * 86_400
MAX_NAMED = 256


@attrs.frozen(kw_only=True)
class Grant:
    """What one robot may have.

    Attributes:
        robot_id: the robot it was made for.
        robot_key: fingerprint of that robot's own key.
        owner_epoch: rises with each change of owner; lower ones are void.
        channel: the channel that it opens, or None.
        bundles: bundle ids that it opens besides.
        held: bundle ids that a rollout keeps from this robot, whatever opens them.
        max_release_counter: highest release that it opens, or None for any.
        grant_seq: rises with each grant to this robot.
        issued_at_s: signed Unix time, in seconds.
        not_after_s: the grant is fresh until then.
        offline_grace_s: and is honoured for this much longer without contact.
        nonce: of the request that it answers, in hex.
    """

    schema: str = SCHEMA
    robot_id: str
    robot_key: str
    owner_epoch: int
    channel: str | None = None
    bundles: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    max_release_counter: int | None = None
    grant_seq: int
    issued_at_s: int
    not_after_s: int
    offline_grace_s: int = 0
    nonce: str

    def check_answers(self, identity: RobotIdentity, nonce: str) -> None:
        """Return if this grant was made for that robot and for that request.

        Raises:
            TrustError: E-OTA-GRANT-002, -003, -008.
        """
        _same("002", "another robot", self.robot_id, identity.robot_id)
        _same("003", "another robot's key", self.robot_key, identity.key_fingerprint)
        _same("008", "another request", self.nonce, nonce)


@attrs.frozen
class RobotIdentity:
    """A robot's name and the fingerprint of its own key."""

    robot_id: str
    key_fingerprint: str


@attrs.frozen(kw_only=True)
class Ask:
    """What is asked of a grant.

    `safety_critical` bundles need the owner's robot, not a running subscription.
    `nonce` is given when the grant must answer a request that was just made.
    """

    bundle: str
    release_counter: int
    channel: str | None
    safety_critical: bool = False
    nonce: str | None = None


def seal_grant(grant: Grant, private_keys: Sequence[SigningKey]) -> bytes:
    """Return the bytes of a signed grant."""
    payload = canonical_json(unstructure(_check_form(grant)))
    return canonical_json(seal(payload, GRANT_TYPE, private_keys).as_dict())


def open_grant(
    data: bytes, public_keys: Sequence[VerifyingKey], *, threshold: int = 1
) -> Grant:
    """Return the grant in `data` if the grant keys signed it.

    Raises:
        TrustError: E-OTA-GRANT-001, with the verifier's own reason.
    """
    try:
        value = parse_strict(data, where="grant", max_bytes=MAX_GRANT_BYTES)
        envelope = parse_envelope(value, where="grant")
        if envelope.payload_type != GRANT_TYPE:
            raise ContractError(
                "E-OTA-GRANT-001",
                "another kind of message",
                seen=envelope.payload_type,
                allowed=GRANT_TYPE,
            )
        check_signatures(envelope, public_keys, threshold=threshold, where="grant")
        body = parse_strict(envelope.payload, where="grant")
        return _check_form(structure(body, Grant, where="grant"))
    except ContinuonError as error:
        raise TrustError(
            "E-OTA-GRANT-001",
            "this is no valid grant",
            seen=f"{error.code}: {error.what}",
            hint="ask for a new one; what runs is not touched",
        ) from error


def check_grant(
    grant: Grant, ask: Ask, identity: RobotIdentity, record: Record, *, wall_ns: int
) -> None:
    """Return if the grant allows what is asked, on this robot, now.

    Raises:
        TrustError: E-OTA-GRANT-002 another robot, -003 another robot key, -004 an
            earlier owner, -005 an older grant, -006 not what it opens, -007 expired,
            -008 another request's answer, -009 too long without contact, -012 held
            back by a rollout that has not come here or was halted.
    """
    _same("002", "another robot", grant.robot_id, identity.robot_id)
    _same("003", "another robot's key", grant.robot_key, identity.key_fingerprint)
    if grant.owner_epoch < record.owner_epoch:
        raise _refused("004", "an earlier owner", grant.owner_epoch, record.owner_epoch)
    if grant.grant_seq < record.grant_seq:
        raise _refused("005", "an earlier time", grant.grant_seq, record.grant_seq)
    if ask.nonce is not None:
        _same("008", "another request", grant.nonce, ask.nonce)
    if ask.bundle in grant.held:
        raise _refused("012", "a rollout that has not come here", ask.bundle, "later")
    named = ask.bundle in grant.bundles
    opened = named or (grant.channel is not None and grant.channel == ask.channel)
    bound = grant.max_release_counter
    if not opened or (bound is not None and ask.release_counter > bound):
        what = f"release {ask.release_counter} of channel {ask.channel}"
        raise _refused("006", "other bundles", what, _opens(grant))
    if ask.safety_critical:
        return
    now_s = now_seconds(record, grant, wall_ns)
    until_s = grant.not_after_s + grant.offline_grace_s
    if now_s > until_s:
        raise _refused("007", "a time that is over", f"{now_s}", f"until {until_s}")
    alone_s = record.offline_ns / 1e9
    span_s = until_s - grant.issued_at_s
    if grant.grant_seq == record.grant_seq and alone_s > span_s:
        seen = f"{alone_s:.0f} powered-on seconds without contact"
        raise _refused("009", "a robot that is in touch", seen, f"{span_s} s")


def now_seconds(record: Record, grant: Grant, wall_ns: int) -> int:
    """Return the time to judge by: no clock is believed below what was signed."""
    return max(wall_ns, record.t_floor_ns, grant.issued_at_s * 10**9) // 10**9


def _check_form(grant: Grant) -> Grant:
    life_s = grant.not_after_s - grant.issued_at_s
    ok = (
        grant.schema == SCHEMA
        and 0 < len(grant.robot_id) <= 128
        and is_hex_digest(grant.robot_key)
        and all(is_hex_digest(name) for name in (*grant.bundles, *grant.held))
        and max(len(grant.bundles), len(grant.held)) <= MAX_NAMED
        and 0 < life_s <= MAX_LIFE_S
        and 0 <= grant.offline_grace_s <= MAX_LIFE_S
        and 0 < grant.issued_at_s < 1 << 33
        and min(grant.owner_epoch, grant.grant_seq) >= 0
        and math.isfinite(life_s)
        and 16 <= len(grant.nonce) <= 64
    )
    if not ok:
        raise ContractError(
            "E-OTA-GRANT-010",
            "the grant holds a value out of range",
            seen=grant,
            allowed=f"schema {SCHEMA}, a life of at most {MAX_LIFE_S} s",
        )
    return grant


def _same(number: str, what: str, granted: str, here: str) -> None:
    if granted != here:
        raise _refused(number, what, granted, here)


def _opens(grant: Grant) -> str:
    bound = grant.max_release_counter
    span = "any release" if bound is None else f"releases up to {bound}"
    return f"channel {grant.channel}, {len(grant.bundles)} bundles by name, {span}"


def _refused(number: str, what: str, seen: object, allowed: object) -> TrustError:
    return TrustError(
        f"E-OTA-GRANT-{number}",
        f"the grant was made for {what}",
        seen=seen,
        allowed=allowed,
        hint="ask the owner's app for a new grant; what runs is not touched",
    )
