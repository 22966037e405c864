"""A phase as a value: what it reads, what it does, what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import attrs

from continuon.errors import UsageError
from continuon.pipeline.context import Context

__all__ = [
    "MINIMUM_EPISODES",
    "PHASES",
    "Outcome",
    "Phase",
    "Progress",
    "load_phase",
    "quiet",
]

MINIMUM_EPISODES = 16

Progress = Callable[[int, int, str], None]


def quiet(*_: object) -> None:
    """Say nothing about progress."""


PHASES = (
    "health",
    "boot",
    "capture",
    "sanity",
    "proof",
    "tfrecord",
    "train",
    "bundle",
    "ota",
    "validate",
)


@attrs.frozen(kw_only=True)
class Outcome:
    """What a phase measured and left behind.

    Attributes:
        figures: measured values by the names that gates.toml asks for, and more.
        outputs: files and folders below the home that later phases read.
        origin: origin of the data that the figures speak of.
        notes: plain sentences for a person.
    """

    figures: Mapping[str, Any]
    outputs: tuple[Path, ...]
    origin: str
    notes: tuple[str, ...] = ()


class Phase(Protocol):
    """A module in `continuon.pipeline.phases`.

    `ROOMS` names the packages whose code decides the outcome: when that code changes,
    the phase is no longer up to date.
    """

    ROOMS: tuple[str, ...]

    def inputs(self, context: Context) -> dict[str, Path | str]:
        """Return everything that goes in: paths, and settings as text."""
        ...

    def run(self, context: Context, progress: Progress) -> Outcome:
        """Do the work; figures are measured, never assumed."""
        ...


def load_phase(name: str) -> Phase:
    """Return the phase's module.

    Raises:
        UsageError: there is no such phase.
    """
    if name not in PHASES:
        raise UsageError(
            "E-PIPE-PHASE-001",
            "there is no such phase",
            seen=name,
            allowed=", ".join(PHASES),
        )
    return cast("Phase", import_module(f"continuon.pipeline.phases.{name}"))
