"""What one run of the pipeline was asked to do, as a value."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path
from typing import Any, ClassVar

import attrs

from continuon.errors import UsageError
from continuon.home import Home

__all__ = ["Context", "require_source", "workspace"]


@attrs.frozen(kw_only=True)
class Context:
    """Settings of a run; the same settings and inputs give the same figures.

    Attributes:
        root: the home directory that the run reads and writes.
        rig: "sim" or "pi".
        seed: fixes tracks, sensor noise, initial parameters and batch order.
        episodes_from: a recording to import instead of capturing; None captures.
        episodes: how many episodes phase 3 records.
        episode_s: length of each, seconds of the rig's clock.
        preset: name of the HOPE preset that phase 7 trains.
        num_steps: training steps of phase 7.
        starts: closed-loop starts per policy in phase 10.
        soak_ticks: control ticks that the health gate watches after the swap.
        workers: processes that capture and drive at the same time.
        retry: let phase 9 try a bundle that failed here before.
    """

    SHORT: ClassVar[dict[str, Any]] = {
        "episode_s": 6.0,
        "num_steps": 300,
        "proof_seeds": 4,
        "starts": 4,
    }

    root: Path = attrs.field(converter=Path)
    rig: str = attrs.field(default="sim", validator=attrs.validators.in_(("sim", "pi")))
    seed: int = 0
    episodes_from: Path | None = attrs.field(
        default=None, converter=attrs.converters.optional(Path)
    )
    episodes: int = 16
    episode_s: float = 8.0
    preset: str = "nano"
    num_steps: int = 700
    sanity_steps: int = 8
    batch_size: int = 4
    proof_seeds: int = 5
    starts: int = 10
    soak_ticks: int = 150
    workers: int = 2
    retry: bool = False

    @property
    def home(self) -> Home:
        """The paths below the root."""
        return Home(self.root)

    def command(self, only: str | None = None) -> str:
        """Return the command that runs this home again, or one phase of it."""
        words = ["continuon", "pipeline", "run"]
        words += ["--only", only] if only else []
        words += ["--home", str(self.root)]
        if self.episodes_from is not None:
            words += ["--episodes-from", str(self.episodes_from)]
        words += ["--rig", self.rig] if self.rig != "sim" else []
        return shlex.join(words)

    @property
    def receipts(self) -> Path:
        """Where the phases' receipts lie."""
        return self.home.reports / "receipts"

    @property
    def imported(self) -> bool:
        """Whether this run learns from somebody's recording."""
        return self.episodes_from is not None

    @property
    def origin(self) -> str:
        """The origin of the data this run learns from."""
        if self.imported:
            return "imported"
        return "simulated" if self.rig == "sim" else "real"


def workspace(base: Path, episodes_from: Path | None) -> Path:
    """Return the home of a run: runs on different recordings never share one.

    Raises:
        UsageError: the recording to import does not exist.
    """
    require_source(episodes_from)
    if episodes_from is None:
        return base / "sim"
    whole = episodes_from.resolve()
    tag = hashlib.sha256(str(whole).encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(whole.parts[-2:])).strip("-")
    return base / f"{name}-{tag}"


def require_source(episodes_from: Path | None) -> None:
    """Refuse a recording that is not there.

    Raises:
        UsageError: E-PIPE-SOURCE-001.
    """
    if episodes_from is not None and not episodes_from.exists():
        raise UsageError(
            "E-PIPE-SOURCE-001",
            "there is no recording to import",
            where=episodes_from,
            hint="give the folder that holds manifest.json and its catalogs",
        )
