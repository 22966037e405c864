"""The one root directory, and where each thing lives below it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import attrs

__all__ = ["DEFAULT_ROOT", "Home"]

DEFAULT_ROOT = Path("/opt/continuonos/brain")


@attrs.frozen
class Home:
    """Paths below the root; nothing is created until somebody writes there."""

    root: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Home:
        """Return the root named by CONTINUON_HOME, else the default one."""
        env = os.environ if environ is None else environ
        return cls(Path(env.get("CONTINUON_HOME") or DEFAULT_ROOT).expanduser())

    @property
    def episodes(self) -> Path:
        """Recordings, one MCAP file an episode."""
        return self.root / "rlds" / "episodes"

    @property
    def tfrecord(self) -> Path:
        """The TFDS directory made from the recordings."""
        return self.root / "rlds" / "tfrecord"

    @property
    def export(self) -> Path:
        """Anonymised episodes that may leave the robot."""
        return self.root / "rlds" / "export"

    @property
    def model(self) -> Path:
        """Slots and the A/B state record."""
        return self.root / "model"

    @property
    def adapters(self) -> Path:
        """The Mid loop's adapters: candidate, current, history."""
        return self.root / "model" / "adapters"

    @property
    def memory(self) -> Path:
        """The Memory Plane, which no update overwrites."""
        return self.root / "memory" / "plane"

    @property
    def checkpoints(self) -> Path:
        """Trained parameters."""
        return self.root / "trainer" / "checkpoints"

    @property
    def trainer_logs(self) -> Path:
        """Metrics of training runs."""
        return self.root / "trainer" / "logs"

    @property
    def keys(self) -> Path:
        """Signing keys, private ones encrypted or mode 0600."""
        return self.root / "keys"

    @property
    def state(self) -> Path:
        """Latches, calibrations, and other small records of the device."""
        return self.root / "state"

    @property
    def reports(self) -> Path:
        """Receipts of the phases and the report page."""
        return self.root / "reports"
