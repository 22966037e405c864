"""Everything that the control process needs to know, as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from continuon.rig.calibration import CarCalibration
from continuon.robot.factory import Factory
from continuon.robot.kernel import SafetyLimits

__all__ = ["EDGE_LOADER", "ControlConfig"]

EDGE_LOADER = "continuon.robot.policies:load_edge_policy"


@attrs.frozen(kw_only=True)
class ControlConfig:
    """Settings of one control process.

    Attributes:
        rig: builds the senses inside the process; its servos are never touched there.
        limits: the safety envelope.
        calibration: of the outputs; None takes the rig's own.
        rate_hz: of the loop.
        artifact_dir, backend: the policy to begin with; None begins without one.
        loader: `module:function` of (directory, backend) -> (policy, golden check).
        preload: modules to import before the loop starts, so that a swap need not.
        fifo_priority: SCHED_FIFO priority to ask for; 0 asks for none.
        lock_memory: ask for mlockall.
        log_capacity: ticks that the log holds.
        instruction: what the robot is told to do from the start on, "" for nothing.
        without_gauge: the owner said that this robot has no battery gauge, and that a
            policy may drive it all the same.
    """

    rig: Factory
    limits: SafetyLimits
    calibration: CarCalibration | None = None
    rate_hz: float = 50.0
    artifact_dir: str | None = None
    backend: str = "litert"
    loader: str = EDGE_LOADER
    preload: tuple[str, ...] = ()
    fifo_priority: int = 50
    lock_memory: bool = True
    log_capacity: int = 180_000
    instruction: str = ""
    without_gauge: bool = False

    @property
    def period_ns(self) -> int:
        """Time between two ticks."""
        return round(1e9 / self.rate_hz)

    def as_message(self) -> dict[str, Any]:
        """Return it as JSON values."""
        message: dict[str, Any] = msgspec.to_builtins(self)
        return message

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> ControlConfig:
        """Return what `as_message` spelt."""
        return msgspec.convert(message, cls)
