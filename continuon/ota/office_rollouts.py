"""Rollouts in the grant office's database: shares, reports, and when one halts."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence

from continuon.bundle.paths import is_hex_digest
from continuon.errors import UsageError
from continuon.ota.grant import MAX_NAMED
from continuon.ota.office_base import refused
from continuon.ota.requests import Outcome
from continuon.ota.rollout import Rollout, in_rollout, should_halt

__all__ = [
    "check_turn",
    "find_rollout",
    "held_back",
    "note_outcomes",
    "resume_rollout",
    "start_rollout",
]


def start_rollout(base: sqlite3.Connection, bundle: str, rollout: Rollout) -> None:
    """Write a rollout's share and bounds, over older ones; a halt stays.

    Raises:
        UsageError: E-OTA-OFFICE-014, a bound that is none, or no bundle's id.
    """
    _check(bundle, rollout)
    base.execute(
        "INSERT INTO rollout (bundle, channel, percent, min_reports,"
        " max_failure_fraction) VALUES (?, ?, ?, ?, ?) ON CONFLICT (bundle)"
        " DO UPDATE SET channel = excluded.channel, percent = excluded.percent,"
        " min_reports = excluded.min_reports,"
        " max_failure_fraction = excluded.max_failure_fraction",
        (
            bundle,
            rollout.channel,
            rollout.percent,
            rollout.min_reports,
            rollout.max_failure_fraction,
        ),
    )


def resume_rollout(base: sqlite3.Connection, bundle: str) -> None:
    """Let a halted rollout go on; what was reported so far is settled.

    A robot tells of its failures at every request, so that the same ones would halt it
    again at once.
    """
    base.execute(
        "INSERT OR REPLACE INTO settled (bundle, robot_id, code)"
        " SELECT bundle, robot_id, COALESCE(code, '') FROM outcome"
        " WHERE bundle = ? AND ok = 0",
        (bundle,),
    )
    base.execute("DELETE FROM outcome WHERE bundle = ?", (bundle,))
    base.execute("UPDATE rollout SET halted = 0 WHERE bundle = ?", (bundle,))


def find_rollout(base: sqlite3.Connection, bundle: str) -> Rollout | None:
    """Return how a rollout stands, or None where there is none."""
    row = base.execute("SELECT * FROM rollout WHERE bundle = ?", (bundle,)).fetchone()
    if row is None:
        return None
    counts = base.execute(
        "SELECT count(*) AS n, total(ok) AS good FROM outcome WHERE bundle = ?",
        (bundle,),
    ).fetchone()
    return Rollout(
        channel=row["channel"],
        percent=row["percent"],
        min_reports=row["min_reports"],
        max_failure_fraction=row["max_failure_fraction"],
        halted=bool(row["halted"]),
        reports=counts["n"],
        failures=counts["n"] - int(counts["good"]),
    )


def note_outcomes(
    base: sqlite3.Connection, robot_id: str, outcomes: Sequence[Outcome]
) -> None:
    """Count what a robot tells of bundles that a rollout has given it.

    A robot whose turn has not come has no say: it cannot have had the bundle from here.
    A failure that a person has settled counts again once the robot has stopped telling
    of it, since it has then tried anew.
    """
    told = {item.bundle for item in outcomes if not item.ok}
    for row in base.execute(
        "SELECT bundle FROM settled WHERE robot_id = ?", (robot_id,)
    ).fetchall():
        if row["bundle"] not in told:
            base.execute(
                "DELETE FROM settled WHERE robot_id = ? AND bundle = ?",
                (robot_id, row["bundle"]),
            )
    for outcome in outcomes:
        rollout = find_rollout(base, outcome.bundle)
        if rollout is None or not in_rollout(robot_id, outcome.bundle, rollout.percent):
            continue
        if not outcome.ok and _is_settled(base, robot_id, outcome):
            continue
        base.execute(
            "INSERT OR REPLACE INTO outcome (bundle, robot_id, ok, code)"
            " VALUES (?, ?, ?, ?)",
            (outcome.bundle, robot_id, int(outcome.ok), outcome.code),
        )
        counted = find_rollout(base, outcome.bundle)
        if counted is not None and should_halt(counted):
            base.execute(
                "UPDATE rollout SET halted = 1 WHERE bundle = ?", (outcome.bundle,)
            )


def check_turn(base: sqlite3.Connection, robot_id: str, bundle: str) -> None:
    """Return if no rollout keeps the bundle from this robot.

    Raises:
        TrustError: E-OTA-OFFICE-007, not in the rollout yet, or halted.
    """
    rollout = find_rollout(base, bundle)
    if rollout is None:
        return
    if rollout.halted:
        raise refused("007", "that rollout was halted by failures", bundle)
    if not in_rollout(robot_id, bundle, rollout.percent):
        raise refused("007", "this robot's turn has not come yet", bundle)


def held_back(base: sqlite3.Connection, robot_id: str) -> tuple[str, ...]:
    """Return bundles whose rollout keeps them from this robot: halted, then newest."""
    rows = base.execute(
        "SELECT bundle, percent, halted FROM rollout ORDER BY halted DESC, rowid DESC"
    ).fetchall()
    held = [
        str(row["bundle"])
        for row in rows
        if row["halted"] or not in_rollout(robot_id, row["bundle"], row["percent"])
    ]
    return tuple(held[:MAX_NAMED])


def _is_settled(base: sqlite3.Connection, robot_id: str, outcome: Outcome) -> bool:
    row = base.execute(
        "SELECT code FROM settled WHERE robot_id = ? AND bundle = ?",
        (robot_id, outcome.bundle),
    ).fetchone()
    return row is not None and row["code"] == (outcome.code or "")


def _check(bundle: str, rollout: Rollout) -> None:
    ok = (
        is_hex_digest(bundle)
        and math.isfinite(rollout.percent)
        and 0 <= rollout.percent <= 100
        and rollout.min_reports >= 1
        and math.isfinite(rollout.max_failure_fraction)
        and 0 <= rollout.max_failure_fraction < 1
    )
    if not ok:
        raise UsageError(
            "E-OTA-OFFICE-014",
            "the rollout has a bound that is none",
            seen=f"{bundle}: {rollout}",
            allowed=(
                "a bundle's id of 64 hex digits, 0 to 100 percent, at least 1 report, "
                "a failure fraction from 0 to below 1"
            ),
        )
