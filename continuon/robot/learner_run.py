"""What became of the last run of the learner: one record, whole at any moment.

The service writes that a run began, the learning process how it ended; where that
process could not, the service says in its place what it saw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs
import msgspec

from continuon.durable import replace_file

__all__ = ["RUN_FILE", "LearnerRun", "Outcome", "read_run", "write_run"]

RUN_FILE = "learner.json"
SCHEMA = "continuon.learner-run/1"
Outcome = Literal["running", "promoted", "not_used", "refused", "failed", "stopped"]


@attrs.frozen(kw_only=True)
class LearnerRun:
    """One run.

    Attributes:
        outcome: `promoted` and handed to the loop; `not_used`, the gate refused;
            `refused`, the machine or the data did not allow it; `failed`, an error of
            ours; `stopped`, by the service.
        began_wall_ns: Unix time; ended_wall_ns: 0 while it runs.
        reasons: why it was not promoted, or what was waived.
        adapter: its number in the history once promoted.
        figures: the gate's.
        episodes_sha256: of the names of the recordings that were there.
        left_out: sentences on recordings that were not learnt from: a policy drove, or
            the file is damaged.
    """

    schema: str = SCHEMA
    outcome: Outcome
    began_wall_ns: int
    ended_wall_ns: int = 0
    reasons: tuple[str, ...] = ()
    code: str | None = None
    adapter: int | None = None
    steps: int | None = None
    origin: str | None = None
    figures: dict[str, Any] | None = None
    episodes_sha256: str | None = None
    left_out: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return attrs.asdict(self)


def read_run(folder: Path) -> LearnerRun | None:
    """Return the last run of this home's state folder; None without a readable one."""
    try:
        run = msgspec.json.decode((folder / RUN_FILE).read_bytes(), type=LearnerRun)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return run if run.schema == SCHEMA else None


def write_run(folder: Path, run: LearnerRun) -> None:
    """Replace the record whole."""
    replace_file(folder / RUN_FILE, msgspec.json.encode(run))
