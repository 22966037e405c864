"""The grant office: whose robot is it, what may it have, and is a rollout going well.

Rules and an embedded SQLite database; the web face is `service`. A robot proves itself
by its own key, an owner by a token. The office's key can only choose among bundles
that others have signed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from pathlib import Path
from typing import Any

from continuon.bundle.envelope import check_signatures
from continuon.bundle.keys import SigningKey, VerifyingKey, verifying_key_from_pem
from continuon.clock import Clock, SystemClock
from continuon.errors import BudgetError, UsageError
from continuon.ota.grant import Grant, seal_grant
from continuon.ota.office_base import find_robot, open_base, refused
from continuon.ota.office_rollouts import (
    check_turn,
    find_rollout,
    held_back,
    note_outcomes,
    resume_rollout,
    start_rollout,
)
from continuon.ota.requests import (
    GrantRequest,
    claim_hash,
    open_enrolment,
    open_request,
    robot_name,
)
from continuon.ota.rollout import Rollout

__all__ = ["GrantOffice", "token_digest"]

GRANT_LIFE_S = 86_400
OFFLINE_GRACE_S = 7 * 86_400
MAX_CLAIM_TRIES = 5
MAX_OWNER_GUESSES = 10
GUESS_WINDOW_S = 3600


class GrantOffice:
    """Robots, owners, subscriptions and rollouts in one database file."""

    def __init__(
        self, database: Path, grant_key: SigningKey, *, clock: Clock | None = None
    ) -> None:
        self.database = database
        self.grant_key = grant_key
        self.clock = clock or SystemClock()

    # -- robots and owners

    def add_owner(self, name: str) -> str:
        """Note an owner and return a new token, which is shown once and not kept."""
        token = secrets.token_urlsafe(32)
        with open_base(self.database) as base:
            base.execute(
                "INSERT INTO owner (token_digest, name) VALUES (?, ?)",
                (token_digest(token), name),
            )
        return token

    def owner_of(self, token: str) -> str:
        """Return whose token this is.

        Raises:
            TrustError: E-OTA-OFFICE-008, nobody's.
        """
        with open_base(self.database) as base:
            row = base.execute(
                "SELECT name FROM owner WHERE token_digest = ?", (token_digest(token),)
            ).fetchone()
        if row is None:
            raise refused("008", "an owner's token is needed", "none that is known")
        return str(row["name"])

    def enrol(self, data: bytes) -> str:
        """Note a robot by its own signed message; return the name that it has.

        The name follows from its key, so that nobody can take another's.

        Raises:
            TrustError: E-OTA-OFFICE-004, E-BUNDLE-..., not that robot's own message;
                E-OTA-OFFICE-001, somebody owns it already.
        """
        key, code_hash = open_enrolment(data)
        name = robot_name(key)
        self._register(name, key, code_hash)
        return name

    def register(self, robot_id: str, key: VerifyingKey, claim_code: str) -> None:
        """Note a robot, its key, and the code that it shows to whoever stands there.

        Raises:
            TrustError: E-OTA-OFFICE-001, that id belongs to another key already.
        """
        self._register(robot_id, key, claim_hash(robot_id, claim_code))

    def _register(self, robot_id: str, key: VerifyingKey, code_hash: str) -> None:
        with open_base(self.database) as base:
            row = base.execute(
                "SELECT key_pem, owner FROM robot WHERE robot_id = ?", (robot_id,)
            ).fetchone()
            if row is not None and (row["key_pem"] != key.pem or row["owner"]):
                raise refused("001", "that robot is known already", robot_id)
            base.execute(
                "INSERT INTO robot (robot_id, key_pem, claim_hash) VALUES (?, ?, ?) "
                "ON CONFLICT (robot_id) DO UPDATE SET claim_hash = excluded.claim_hash,"
                " tries = 0",
                (robot_id, key.pem, code_hash),
            )

    def claim(self, robot_id: str, claim_code: str, owner: str) -> int:
        """Make `owner` the owner; return the owner epoch. A code works once.

        A robot's code bears five wrong tries, whoever makes them; an owner bears ten
        an hour over all robots, so that nobody works through a fleet.

        Raises:
            TrustError: E-OTA-OFFICE-002, a wrong or used code, or too many tries.
            BudgetError: E-OTA-OFFICE-011, this owner has guessed too often.
            UsageError: E-OTA-OFFICE-404, no such robot.
        """
        with open_base(self.database) as base:
            self._count_guess(base, owner)
            row = find_robot(base, robot_id)
            wrong = row["claim_hash"] is None or row["tries"] >= MAX_CLAIM_TRIES
            if wrong or not hmac.compare_digest(
                row["claim_hash"], claim_hash(robot_id, claim_code)
            ):
                base.execute(
                    "UPDATE robot SET tries = tries + 1 WHERE robot_id = ?", (robot_id,)
                )
                base.commit()
                raise refused("002", "that is not the code the robot shows", robot_id)
            base.execute("DELETE FROM guess WHERE owner = ?", (owner,))
            return self._hand_over(base, robot_id, owner)

    def transfer(self, robot_id: str, owner: str, new_owner: str) -> int:
        """Pass a robot on; the epoch rises and older grants are void at once.

        Raises:
            TrustError: E-OTA-OFFICE-003, the caller does not own it.
            UsageError: E-OTA-OFFICE-015, nobody of that name, or its owner already.
        """
        with open_base(self.database) as base:
            self._owned(base, robot_id, owner)
            known = base.execute("SELECT 1 FROM owner WHERE name = ?", (new_owner,))
            if new_owner == owner or known.fetchone() is None:
                raise UsageError(
                    "E-OTA-OFFICE-015",
                    "a robot is passed on to another owner that the office knows",
                    seen=new_owner,
                    hint="ask the new owner for the name that the office knows",
                )
            return self._hand_over(base, robot_id, new_owner)

    def subscribe(
        self, robot_id: str, *, until_s: int, channel: str = "stable"
    ) -> None:
        """Note what is paid for, as the billing side says."""
        with open_base(self.database) as base:
            find_robot(base, robot_id)
            base.execute(
                "UPDATE robot SET paid_until_s = ?, channel = ? WHERE robot_id = ?",
                (until_s, channel, robot_id),
            )

    def describe(self, robot_id: str, owner: str) -> dict[str, Any]:
        """Return what an owner may know of a robot."""
        with open_base(self.database) as base:
            row = self._owned(base, robot_id, owner)
            names = ("robot_id", "owner_epoch", "channel", "paid_until_s", "grant_seq")
            return {name: row[name] for name in names}

    # -- grants

    def grant(self, data: bytes) -> bytes:
        """Answer a signed request with a signed grant.

        Raises:
            TrustError: E-OTA-OFFICE-004 not signed by that robot, -005 no owner, -006
                no running subscription, -007 not in the rollout yet, or halted, -017
                no owner, and a code that opens nothing any more.
        """
        with open_base(self.database) as base:
            request, key, row = self._read(base, data)
            if row["owner"] is not None:
                note_outcomes(base, request.robot_id, request.outcomes)
                base.commit()
            now_s = self.clock.wall_ns() // 10**9
            if row["owner"] is None and row["tries"] >= MAX_CLAIM_TRIES:
                raise refused(
                    "017", "its code bore too many wrong tries", request.robot_id
                )
            if row["owner"] is None:
                raise refused("005", "nobody owns this robot yet", request.robot_id)
            if row["paid_until_s"] <= now_s:
                raise refused("006", "no subscription is running", request.robot_id)
            if request.bundle is not None:
                check_turn(base, request.robot_id, request.bundle)
            seq = row["grant_seq"] + 1
            base.execute(
                "UPDATE robot SET grant_seq = ? WHERE robot_id = ?",
                (seq, request.robot_id),
            )
            grant = Grant(
                robot_id=request.robot_id,
                robot_key=key.fingerprint,
                owner_epoch=row["owner_epoch"],
                channel=row["channel"],
                bundles=(request.bundle,) if request.bundle else (),
                held=held_back(base, request.robot_id),
                grant_seq=seq,
                issued_at_s=now_s,
                not_after_s=min(now_s + GRANT_LIFE_S, row["paid_until_s"]),
                offline_grace_s=OFFLINE_GRACE_S,
                nonce=request.nonce,
            )
        return seal_grant(grant, [self.grant_key])

    # -- rollouts

    def start_rollout(self, bundle: str, rollout: Rollout) -> None:
        """Offer a bundle to a share of the robots; also used to change share or bounds.

        A rollout that was halted stays so until `resume_rollout`.

        Raises:
            UsageError: E-OTA-OFFICE-014, a bound that is none, or no bundle's id.
        """
        with open_base(self.database) as base:
            start_rollout(base, bundle, rollout)

    def resume_rollout(self, bundle: str) -> None:
        """Let a halted rollout go on, on a person's word; old reports are settled."""
        with open_base(self.database) as base:
            resume_rollout(base, bundle)

    def rollout(self, bundle: str) -> Rollout | None:
        """Return how a rollout stands, or None where there is none."""
        with open_base(self.database) as base:
            return find_rollout(base, bundle)

    # -- inside

    def _count_guess(self, base: sqlite3.Connection, owner: str) -> None:
        """Count a claim before it is judged; a right one is taken off again."""
        now_s = self.clock.wall_ns() // 10**9
        row = base.execute("SELECT * FROM guess WHERE owner = ?", (owner,)).fetchone()
        fresh = row is None or not 0 <= now_s - row["since_s"] < GUESS_WINDOW_S
        wrong, since_s = (0, now_s) if fresh else (row["wrong"], row["since_s"])
        if wrong >= MAX_OWNER_GUESSES:
            raise BudgetError(
                "E-OTA-OFFICE-011",
                "this owner has tried too many codes",
                allowed=f"{MAX_OWNER_GUESSES} in {GUESS_WINDOW_S} s",
                hint=f"try again in {since_s + GUESS_WINDOW_S - now_s} s",
                exit_code=1,
            )
        base.execute(
            "INSERT OR REPLACE INTO guess (owner, wrong, since_s) VALUES (?, ?, ?)",
            (owner, wrong + 1, since_s),
        )
        base.commit()

    def _read(
        self, base: sqlite3.Connection, data: bytes
    ) -> tuple[GrantRequest, VerifyingKey, sqlite3.Row]:
        envelope, request = open_request(data)
        row = find_robot(base, request.robot_id)
        key = verifying_key_from_pem(row["key_pem"])
        check_signatures(envelope, [key], threshold=1, where="request")
        return request, key, row

    def _owned(
        self, base: sqlite3.Connection, robot_id: str, owner: str
    ) -> sqlite3.Row:
        row = find_robot(base, robot_id)
        if row["owner"] != owner:
            raise refused("003", "another person owns that robot", robot_id)
        return row

    def _hand_over(self, base: sqlite3.Connection, robot_id: str, owner: str) -> int:
        base.execute(
            "UPDATE robot SET owner = ?, owner_epoch = owner_epoch + 1,"
            " claim_hash = NULL, tries = 0, paid_until_s = 0 WHERE robot_id = ?",
            (owner, robot_id),
        )
        return int(find_robot(base, robot_id)["owner_epoch"])


def token_digest(token: str) -> str:
    """Return what the office keeps of an owner's token."""
    return hashlib.sha256(token.encode()).hexdigest()
