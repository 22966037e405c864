"""The grant office's database: its tables, its transactions, its refusals."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from continuon.errors import TrustError, UsageError

__all__ = ["find_robot", "open_base", "refused"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS owner (
  token_digest TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS robot (
  robot_id TEXT PRIMARY KEY, key_pem BLOB NOT NULL, claim_hash TEXT,
  owner TEXT, owner_epoch INTEGER NOT NULL DEFAULT 0,
  channel TEXT NOT NULL DEFAULT 'stable', paid_until_s INTEGER NOT NULL DEFAULT 0,
  grant_seq INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS rollout (
  bundle TEXT PRIMARY KEY, channel TEXT NOT NULL, percent REAL NOT NULL,
  min_reports INTEGER NOT NULL, max_failure_fraction REAL NOT NULL,
  halted INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS outcome (
  bundle TEXT NOT NULL, robot_id TEXT NOT NULL, ok INTEGER NOT NULL, code TEXT,
  PRIMARY KEY (bundle, robot_id));
CREATE TABLE IF NOT EXISTS settled (
  bundle TEXT NOT NULL, robot_id TEXT NOT NULL, code TEXT NOT NULL,
  PRIMARY KEY (bundle, robot_id));
CREATE TABLE IF NOT EXISTS guess (
  owner TEXT PRIMARY KEY, wrong INTEGER NOT NULL, since_s INTEGER NOT NULL);
"""


@contextmanager
def open_base(database: Path) -> Iterator[sqlite3.Connection]:
    """Yield a transaction that is kept if the block ends well."""
    base = sqlite3.connect(database, timeout=10.0)
    base.row_factory = sqlite3.Row
    try:
        base.executescript(SCHEMA)
        base.execute("BEGIN IMMEDIATE")
        yield base
        base.commit()
    finally:
        base.close()


def find_robot(base: sqlite3.Connection, robot_id: str) -> sqlite3.Row:
    """Return a robot's row.

    Raises:
        UsageError: E-OTA-OFFICE-404, no such robot.
    """
    row: sqlite3.Row | None = base.execute(
        "SELECT * FROM robot WHERE robot_id = ?", (robot_id,)
    ).fetchone()
    if row is None:
        raise UsageError("E-OTA-OFFICE-404", "no such robot", seen=robot_id)
    return row


def refused(number: str, what: str, seen: object) -> TrustError:
    """Return the office's refusal of that number."""
    return TrustError(f"E-OTA-OFFICE-{number}", what, seen=seen)
