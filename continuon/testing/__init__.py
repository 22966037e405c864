"""Public checks and fakes: what every device must do, simulated or real."""

from __future__ import annotations

from continuon.testing.conformance import CAMERA_LAWS, SERVO_LAWS, STATE_LAWS
from continuon.testing.watching import watch

__all__ = ["CAMERA_LAWS", "SERVO_LAWS", "STATE_LAWS", "watch"]
