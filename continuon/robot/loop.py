"""The control loop: sense, ask the pilot, judge, command; once per period.

`ControlLoop.tick` is one period as a function of the senses; `run_periodic` calls it at
absolute deadlines and measures how late each call was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import Clock
from continuon.rig.protocols import Camera, Frame, StateSensor, VectorSample
from continuon.robot.kernel import (
    Decision,
    KernelState,
    Reason,
    SafetyLimits,
    Verdict,
    judge,
)
from continuon.robot.observing import Senses
from continuon.robot.outputs import Output
from continuon.robot.pilots import Intent, Pilot

__all__ = ["ControlLoop", "Pulses", "Tick", "camera_is_why", "run_periodic"]

Pulses = Callable[[NDArray[np.float32]], Mapping[int, float]]
_SPEED = "speed_mps"


@attrs.frozen(eq=False, kw_only=True)
class Tick:
    """What happened in one period.

    Attributes:
        now_ns: its start.
        frame: the frame that was fresh, if any.
        states: the state readings that were fresh, oldest first.
        executing: whether a command was judged at all.
        intent: what the pilot wanted.
        decision: what the kernel made of it; while not executing, what it would have
            made of it, sent nowhere.
    """

    now_ns: int
    frame: Frame | None
    states: tuple[VectorSample, ...]
    executing: bool
    intent: Intent | None = None
    decision: Decision | None = None


class ControlLoop:
    """The loop's memory between two periods.

    Args:
        camera, state: the senses; None where the robot has none. With a camera, nothing
            moves on a picture that is too old, whoever drives.
        output: takes judged commands.
        pulses: maps a command to pulse widths by channel.
        limits: the safety envelope.
        always_think: ask pilot and kernel while idle too, so that the pilot is warm and
            can be judged; nothing moves.

    Attributes:
        barred: why nothing may drive now, None where it may.
        instruction: what the pilot is told to do, "" where nothing.
    """

    def __init__(
        self,
        *,
        camera: Camera | None,
        state: StateSensor | None,
        output: Output,
        pulses: Pulses,
        limits: SafetyLimits,
        always_think: bool = False,
    ) -> None:
        self._camera = camera
        self._sensor = state
        self._state_names = state.names if state is not None else ()
        self._output = output
        self._pulses = pulses
        self._always_think = always_think
        self.limits = limits
        self.pilot: Pilot | None = None
        self.barred: Reason | None = None
        self.instruction = ""
        self._latest: VectorSample | None = None
        self._frame_ns: int | None = None
        self._kernel: KernelState | None = None
        self._shadow: KernelState | None = None

    @property
    def executing(self) -> bool:
        """Whether commands go out."""
        return self._kernel is not None

    @property
    def last_command(self) -> tuple[float, ...]:
        """What left last; neutral while idle."""
        return self._kernel.last if self._kernel else self.limits.neutral

    def start(self, now_ns: int) -> None:
        """Begin to execute from neutral, on a person's word."""
        self._kernel = KernelState.start(self.limits, now_ns)
        self._shadow = None

    def stop(self) -> None:
        """Stop executing; the next tick says so to the output."""
        self._kernel = None

    def tick(self, now_ns: int) -> Tick:
        """Do one period."""
        frame = self._camera.poll() if self._camera is not None else None
        self._frame_ns = self._frame_ns if frame is None else frame.capture_ns
        states = self._read_state()
        self._latest = states[-1] if states else self._latest
        intent = None
        if self.pilot is not None and (self._kernel or self._always_think):
            intent = self.pilot(
                Senses(
                    now_ns=now_ns,
                    frame=frame,
                    state=self._latest,
                    state_names=self._state_names,
                    instruction=self.instruction,
                )
            )
        executing, decision = self._kernel is not None, None
        if self._kernel is not None:
            decision = self._command(intent, now_ns, self._kernel)
        else:
            self._output.idle(now_ns=now_ns)
            if self._always_think and self.pilot is not None:
                decision = self._imagine(intent, now_ns)
        return Tick(
            now_ns=now_ns,
            frame=frame,
            states=states,
            executing=executing,
            intent=intent,
            decision=decision,
        )

    def _command(
        self, intent: Intent | None, now_ns: int, memory: KernelState
    ) -> Decision:
        self._kernel, decision = self._judge(intent, now_ns, memory, barred=self.barred)
        if decision.verdict is Verdict.STOP:
            self.stop()
            self._output.idle(now_ns=now_ns)
        else:
            self._output.drive(self._pulses(decision.command), now_ns=now_ns)
        return decision

    def _imagine(self, intent: Intent | None, now_ns: int) -> Decision:
        memory = self._shadow or KernelState.start(self.limits, now_ns)
        self._shadow, decision = self._judge(intent, now_ns, memory)
        if decision.verdict is Verdict.STOP:
            self._shadow = None
        return decision

    def _judge(
        self,
        intent: Intent | None,
        now_ns: int,
        memory: KernelState,
        *,
        barred: Reason | None = None,
    ) -> tuple[KernelState, Decision]:
        proposal: Any = None
        if intent is not None:
            proposal = intent.action if intent.applied is None else intent.applied
        return judge(
            self.limits,
            memory,
            proposal,
            now_ns=now_ns,
            observed_ns=self._observed_ns(intent, now_ns),
            speed_mps=self._speed_mps(now_ns),
            barred=barred,
        )

    def _observed_ns(self, intent: Intent | None, now_ns: int) -> int | None:
        """Return when the oldest of what a command rests on was observed.

        A person drives by the camera, too: where it shows nothing new, nobody drives.
        """
        rests_ns = intent.observed_ns if intent else now_ns
        if self._camera is None or intent is None:
            return rests_ns
        return None if self._frame_ns is None else min(rests_ns, self._frame_ns)

    def _read_state(self) -> tuple[VectorSample, ...]:
        if self._sensor is None:
            return ()
        # A sensor that is faster than the loop may offer what the loop would miss.
        drain = getattr(self._sensor, "drain", None)
        if drain is not None:
            return tuple(drain())
        sample = self._sensor.poll()
        return () if sample is None else (sample,)

    def _speed_mps(self, now_ns: int) -> float | None:
        sample = self._latest
        if sample is None or _SPEED not in self._state_names:
            return None
        if now_ns - sample.capture_ns > self.limits.max_observation_age_ns:
            return math.nan
        return float(sample.values[self._state_names.index(_SPEED)])


def camera_is_why(decision: Decision) -> bool:
    """Return whether a stop came from a camera that sends nothing new."""
    blind = {Reason.STALE_OBSERVATION, Reason.NO_OBSERVATION}
    return decision.verdict is Verdict.STOP and bool(blind & set(decision.reasons))


def run_periodic(
    step: Callable[[int, int], bool],
    *,
    clock: Clock,
    period_ns: int,
    on_done: Callable[[int, int], None] | None = None,
) -> int:
    """Call `step(start_ns, lateness_ns)` at absolute deadlines until it returns False.

    A step that ends after its next deadlines does not get them back: they are skipped.
    `on_done(work_ns, skipped)` follows each step. Returns how many were skipped.
    """
    deadline_ns = clock.monotonic_ns() + period_ns
    skipped_all = 0
    while True:
        clock.sleep_until_ns(deadline_ns)
        begun_ns = clock.monotonic_ns()
        go_on = step(begun_ns, begun_ns - deadline_ns)
        work_ns = clock.monotonic_ns() - begun_ns
        deadline_ns += period_ns
        skipped = max(0, (begun_ns + work_ns - deadline_ns) // period_ns)
        deadline_ns += skipped * period_ns
        skipped_all += skipped
        if on_done is not None:
            on_done(work_ns, skipped)
        if not go_on:
            return skipped_all
