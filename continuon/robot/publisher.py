"""The loop's side of the feed: each tick's senses and command, published in place."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from continuon.clock import ClockOffset
from continuon.rig.protocols import StateSensor
from continuon.robot.feed import CommandRow, Feed, LoopPulse
from continuon.robot.kernel import Verdict
from continuon.robot.loop import Tick, camera_is_why

__all__ = ["FeedPublisher"]

_OFFSET_PERIOD_NS = 1_000_000_000


class Eye(Protocol):
    """What is published of the camera."""

    failures: int

    def clock_offset(self) -> ClockOffset:
        """Return the measured map from the camera's clock to the host's."""
        ...


class FeedPublisher:
    """Writes ticks into `feed`; never waits."""

    def __init__(self, feed: Feed, eye: Eye | None, state: StateSensor | None) -> None:
        self._feed = feed
        self._eye = eye
        self._state = state
        self._offset_due_ns = 0

    def publish(self, tick: Tick, *, executing: bool) -> None:
        """Publish a tick; `executing` is whether commands go out after it."""
        feed = self._feed
        if tick.frame is not None:
            feed.write_frame(tick.frame)
        for sample in tick.states:
            feed.write_state(sample)
        # What the kernel only imagines while idle moves nothing and is no command.
        if tick.executing:
            self._command(tick, executing=executing)
        if tick.now_ns >= self._offset_due_ns:
            self._offset_due_ns = tick.now_ns + _OFFSET_PERIOD_NS
            for which, device in (("camera", self._eye), ("state", self._state)):
                if device is not None:
                    feed.write_offset(which, device.clock_offset())
        feed.write_pulse(
            LoopPulse(
                now_ns=tick.now_ns,
                camera_failures=self._eye.failures if self._eye is not None else 0,
                executing=executing,
            )
        )

    def _command(self, tick: Tick, *, executing: bool) -> None:
        decision, intent = tick.decision, tick.intent
        if decision is None:
            return
        applied = decision.command
        intended = np.full(applied.shape, np.nan, np.float32)
        if intent is not None and intent.action.shape == applied.shape:
            intended = intent.action
        stopped = decision.verdict is Verdict.STOP
        self._feed.write_command(
            CommandRow(
                now_ns=tick.now_ns,
                source=intent.source if intent is not None else None,
                verdict=decision.verdict,
                executing=executing,
                is_blind=stopped and camera_is_why(decision),
                intended=intended,
                applied=applied,
            )
        )
