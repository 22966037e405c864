"""What the robot of a home can give a policy, as its loop found when it last started.

Staging may run where no loop does: what is known is kept in one small record. Without
it nothing is asked here, and the loop itself asks before the policy begins.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from continuon.durable import replace_file
from continuon.errors import DataError

__all__ = ["SENSES_FILE", "keep_senses", "known_senses"]

SENSES_FILE = "senses.json"


def keep_senses(state: Path, senses: tuple[str, ...]) -> None:
    """Write what this robot can give a policy; the newest start knows best."""
    replace_file(state / SENSES_FILE, msgspec.json.encode(senses))


def known_senses(state: Path) -> tuple[str, ...] | None:
    """Return what was kept, None before a first start.

    Raises:
        DataError: E-OTA-SENSES-001, the record cannot be read.
    """
    path = state / SENSES_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[str, ...])
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise DataError(
            "E-OTA-SENSES-001",
            "the record of what this robot senses cannot be read",
            where=path,
            seen=str(error),
            hint="remove it; the robot service writes it anew when it starts",
        ) from error
