"""What the updater tells its caller: values that print and serialise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from continuon.ota.record import Failure

__all__ = [
    "ActivateReport",
    "CheckReport",
    "CommitReport",
    "FetchReport",
    "RecoverReport",
    "RollbackReport",
    "StageReport",
    "StatusReport",
]


@attrs.frozen(kw_only=True)
class Report:
    """Base of all reports."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; paths become text."""
        return attrs.asdict(
            self,
            value_serializer=lambda _, __, value: (
                str(value) if isinstance(value, Path) else value
            ),
        )


@attrs.frozen(kw_only=True)
class CheckReport(Report):
    """What a repository offers. `bundle` is None when nothing is on offer."""

    repository: str
    channel: str
    bundle: str | None
    version: str | None
    release_counter: int | None
    total_bytes: int | None
    newer: bool
    why_not: str | None


@attrs.frozen(kw_only=True)
class FetchReport(Report):
    """What was brought to the device."""

    bundle: str
    version: str
    release_counter: int
    fetched_bytes: int
    reused_bytes: int
    resumed_bytes: int
    patched_files: int


@attrs.frozen(kw_only=True)
class StageReport(Report):
    """A bundle whose bytes are durable, read back and verified; activating names it.

    `freeze_protection` is false for a bundle that came without TUF metadata: nobody
    vouches that there is no newer one.
    """

    bundle: str
    version: str
    release_counter: int
    directory: Path
    origins: tuple[str, ...]
    freeze_protection: bool
    removed: tuple[str, ...]


@attrs.frozen(kw_only=True)
class ActivateReport(Report):
    """A bundle went on trial."""

    bundle: str
    directory: Path
    previous: str | None
    tries_left: int


@attrs.frozen(kw_only=True)
class CommitReport(Report):
    """A trial was passed, durably."""

    bundle: str
    version: str
    release_counter: int
    previous: str | None


@attrs.frozen(kw_only=True)
class RollbackReport(Report):
    """A bundle was left, and why; `active` is what runs now."""

    failed: str
    code: str
    reason: str
    active: str | None
    active_directory: Path | None
    triage: Path | None


@attrs.frozen(kw_only=True)
class RecoverReport(Report):
    """What starting up decided."""

    active: str | None
    on_trial: bool
    tries_left: int | None
    rolled_back: Failure | None
    lost: tuple[str, ...]


@attrs.frozen(kw_only=True)
class SlotFacts(Report):
    """One bundle on the device, from its own manifest.

    `freeze_protection` is false for one that came by hand: nobody vouches that there
    is no newer one.
    """

    bundle: str
    model_name: str
    version: str
    release_counter: int
    directory: Path
    origins: tuple[str, ...]
    freeze_protection: bool = False

    def __str__(self) -> str:
        by_hand = "" if self.freeze_protection else "; by hand, no freeze protection"
        return (
            f"{self.model_name} {self.version} (release {self.release_counter}, "
            f"{self.bundle[:12]}, trained on {' + '.join(self.origins)} data{by_hand})"
        )


@attrs.frozen(kw_only=True)
class StatusReport(Report):
    """What runs, what is good, what failed and why, and what comes next."""

    active: SlotFacts | None
    good: SlotFacts | None
    previous: SlotFacts | None
    staged: SlotFacts | None
    on_trial: bool
    tries_left: int | None
    failed: tuple[Failure, ...]
    triage: Path | None
    release_high: int
    entitlement: str
    next_step: str

    def lines(self) -> tuple[str, str, str, str, str]:
        """Return the five lines that a person reads."""
        runs = "nothing yet" if self.active is None else str(self.active)
        if self.on_trial:
            runs += f", on trial, {self.tries_left} starts left"
        failed = "nothing"
        if self.failed:
            last = self.failed[-1]
            failed = f"{last.bundle[:12]}: {last.code}, {last.reason}"
            if self.triage is not None:
                failed += f" (kept in {self.triage})"
        return (
            f"runs    {runs}",
            f"good    {'nothing yet' if self.good is None else self.good}",
            f"staged  {'nothing' if self.staged is None else self.staged}",
            f"failed  {failed}",
            f"next    {self.next_step}",
        )
