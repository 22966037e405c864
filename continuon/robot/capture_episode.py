"""Record one episode on one rig: the control loop runs, the recorder listens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from continuon.clock import Clock
from continuon.errors import HardwareError
from continuon.rig.protocols import Frame, Rig
from continuon.rlds.episode import (
    ACTION,
    DEPTH,
    RGB,
    STATE,
    ActionSource,
    ControlRole,
    EndReason,
    XrMode,
)
from continuon.rlds.layout import Opening
from continuon.rlds.recorder import EpisodeRecorder
from continuon.robot.feed_facts import (
    APPLIED,
    SURPRISE,
    SURPRISE_STREAM,
    episode_metadata,
    episode_streams,
    facts_of,
)
from continuon.robot.kernel import SafetyLimits
from continuon.robot.loop import ControlLoop, Pulses, Tick, camera_is_why, run_periodic
from continuon.robot.outputs import Output, ServoOutput
from continuon.robot.pilots import Intent, Pilot

__all__ = [
    "APPLIED",
    "EpisodeCapture",
    "EpisodeNotes",
    "planned_opening",
    "record_episode",
]

_OFFSET_PERIOD_NS = 1_000_000_000
_FIRST_FRAME_NS = 5_000_000_000
_CAMERA_LOST_NS = 1_000_000_000
_SETTLE_NS = 10_000_000


@attrs.frozen(kw_only=True)
class EpisodeNotes:
    """What people say about the episodes of one session."""

    task: str = "follow the lane"
    tags: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    xr_mode: XrMode = attrs.field(default=XrMode.TRAINER, converter=XrMode)
    control_role: ControlRole = attrs.field(
        default=ControlRole.HUMAN_TELEOP, converter=ControlRole
    )
    action_source: ActionSource = attrs.field(
        default=ActionSource.HUMAN_TELEOP_XR, converter=ActionSource
    )
    robot_id: str = "car-1"
    robot_model: str = "car"
    frame_convention: str = "base_link: x forward, y left, z up"
    provenance: Mapping[str, str] = attrs.field(factory=dict, converter=dict)

    @classmethod
    def of_policy(cls, bundle_id: str, **more: Any) -> EpisodeNotes:
        """Return the notes of a policy driving under a person's eye."""
        values = {
            "xr_mode": XrMode.OBSERVER,
            "control_role": ControlRole.HUMAN_SUPERVISOR,
            "action_source": ActionSource.VLA_POLICY,
            "provenance": {"bundle_id": bundle_id},
        }
        return cls(**values | more)


@attrs.frozen(kw_only=True)
class EpisodeCapture:
    """What one recording session measured.

    Attributes:
        rates_hz: samples a second of the rig's clock, measured from capture times.
        verdicts: the kernel's, counted.
        refused_actions: intents that were not finite; the held command stands instead.
    """

    path: Path
    episode_id: str
    end_reason: EndReason
    duration_s: float
    ticks: int
    counts: Mapping[str, int]
    drops: Mapping[str, int]
    rates_hz: Mapping[str, float | None]
    verdicts: Mapping[str, int]
    refused_actions: int
    bytes: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return attrs.asdict(self) | {
            "path": str(self.path),
            "end_reason": self.end_reason.value,
        }


@attrs.define
class _Rates:
    first: dict[str, int] = attrs.field(factory=dict)
    last: dict[str, int] = attrs.field(factory=dict)
    count: Counter[str] = attrs.field(factory=Counter)

    def saw(self, stream: str, capture_ns: int) -> None:
        self.first.setdefault(stream, capture_ns)
        self.last[stream] = capture_ns
        self.count[stream] += 1

    def hz(self, stream: str) -> float | None:
        span_ns = self.last.get(stream, 0) - self.first.get(stream, 0)
        return (self.count[stream] - 1) * 1e9 / span_ns if span_ns > 0 else None


class _Session:
    """One recording under way; `step` is one period of the loop."""

    def __init__(
        self,
        rig: Rig,
        loop: ControlLoop,
        recorder: EpisodeRecorder,
        end_ns: int,
        *,
        has_surprise: bool = False,
    ) -> None:
        self._has_surprise = has_surprise
        self._rig = rig
        self._loop = loop
        self._recorder = recorder
        self._end_ns = end_ns
        self._offset_due_ns = 0
        self._frame_ns = rig.clock.monotonic_ns()
        self.rates = _Rates()
        self.verdicts: Counter[str] = Counter()
        self.refused = 0
        self.ticks = 0
        self.reason = EndReason.TIME_LIMIT

    def step(self, now_ns: int, _lateness_ns: int) -> bool:
        """Run one tick, hand over what it gave, and say whether to go on."""
        try:
            tick = self._loop.tick(now_ns)
        except HardwareError:
            return self._end(EndReason.CAMERA_LOST)
        self.ticks += 1
        self._record_offsets(now_ns)
        if tick.frame is not None and self._rig.camera is not None:
            self._frame_ns = now_ns
            self._record_frame(tick.frame)
        for sample in tick.states:
            self._recorder.vector(
                STATE,
                sample.values,
                capture_ns=sample.capture_ns,
                device_ns=sample.device_ns,
            )
            self.rates.saw(STATE, sample.capture_ns)
        self._record_command(tick)
        if self._recorder.ended is not None:
            return self._end(self._recorder.ended)
        if tick.decision is not None and not self._loop.executing:
            lost = camera_is_why(tick.decision)
            return self._end(EndReason.CAMERA_LOST if lost else EndReason.FAULT)
        if self._rig.camera and now_ns - self._frame_ns > _CAMERA_LOST_NS:
            return self._end(EndReason.CAMERA_LOST)
        return now_ns < self._end_ns

    def _end(self, reason: EndReason) -> bool:
        self.reason = reason
        return False

    def _record_offsets(self, now_ns: int) -> None:
        if now_ns < self._offset_due_ns:
            return
        self._offset_due_ns = now_ns + _OFFSET_PERIOD_NS
        for device in (self._rig.camera, self._rig.state):
            if device is not None:
                self._recorder.clock_offset(device.clock_offset())

    def _record_frame(self, frame: Frame) -> None:
        self._recorder.rgb(
            frame.rgb, capture_ns=frame.capture_ns, device_ns=frame.device_ns
        )
        self.rates.saw(RGB, frame.capture_ns)
        if frame.depth is not None:
            depth_ns = frame.depth_capture_ns
            if depth_ns is None:
                depth_ns = frame.capture_ns
            self._recorder.depth(
                frame.depth,
                capture_ns=depth_ns,
                device_ns=frame.device_ns + depth_ns - frame.capture_ns,
            )
            self.rates.saw(DEPTH, depth_ns)

    def _record_command(self, tick: Tick) -> None:
        if tick.decision is None:
            return
        self.verdicts[tick.decision.verdict.value] += 1
        applied = tick.decision.command
        self._recorder.vector(APPLIED, applied, capture_ns=tick.now_ns)
        self.rates.saw(APPLIED, tick.now_ns)
        if tick.intent is None:
            return
        intended = np.asarray(tick.intent.action, np.float32)
        if intended.shape != applied.shape or not np.isfinite(intended).all():
            self.refused += 1
            intended = applied
        self._recorder.vector(ACTION, intended, capture_ns=tick.now_ns)
        self.rates.saw(ACTION, tick.now_ns)
        self._record_surprise(tick.intent)

    def _record_surprise(self, intent: Intent) -> None:
        """Record what a fresh step of a policy said; a held action says nothing new."""
        if not (self._has_surprise and intent.policy_ns):
            return
        if not np.isfinite(intent.surprise):
            self._recorder.lose(SURPRISE)
            return
        self._recorder.vector(
            SURPRISE, [intent.surprise], capture_ns=intent.observed_ns
        )
        self.rates.saw(SURPRISE, intent.observed_ns)


def record_episode(
    rig: Rig,
    pilot: Pilot,
    directory: Path,
    *,
    episode_id: str,
    duration_s: float,
    limits: SafetyLimits,
    pulses: Pulses,
    notes: EpisodeNotes | None = None,
    rate_hz: float = 50.0,
    output: Output | None = None,
    lossless: bool = True,
    open_recorder: Callable[..., EpisodeRecorder] = EpisodeRecorder,
) -> EpisodeCapture:
    """Drive with `pilot` for `duration_s` of the rig's clock and record everything.

    Args:
        rig: already opened devices; its clock may be virtual.
        pilot: drives.
        directory: where `<episode_id>.mcap` will stand.
        episode_id: names the recording.
        duration_s: after which the episode ends as `time_limit`.
        limits: the safety envelope.
        pulses: maps a command to pulse widths by channel.
        notes: what people say about it.
        rate_hz: of the loop.
        output: takes commands; None drives the rig's own servos (virtual time only).
        lossless: wait for the disk in place of dropping; for virtual time.
        open_recorder: makes the recorder; tests put a failing disk behind it.

    Raises:
        HardwareError: no camera, or no first frame.
        DataError: an episode of this name exists.
    """
    clock = rig.clock
    first = _first_frame(rig)
    if output is None:
        assert rig.servos is not None, "a rig without servos cannot be driven"
        output = ServoOutput(rig.servos)
    assert rig.camera is not None
    loop = ControlLoop(
        camera=rig.camera, state=rig.state, output=output, pulses=pulses, limits=limits
    )
    loop.pilot = pilot
    loop.instruction = (notes or EpisodeNotes()).task
    surprise_target = getattr(pilot, "surprise_target", None)
    opening = planned_opening(
        rig,
        episode_id=episode_id,
        limits=limits,
        notes=notes,
        rate_hz=rate_hz,
        first=first,
        surprise_target=surprise_target,
    )
    streams = opening.streams
    recorder = open_recorder(
        directory, opening.metadata, streams, lossless_pacing=lossless
    )
    began_ns = clock.monotonic_ns()
    with recorder:
        session = _Session(
            rig,
            loop,
            recorder,
            began_ns + round(duration_s * 1e9),
            has_surprise=surprise_target is not None,
        )
        loop.start(began_ns)
        try:
            run_periodic(session.step, clock=clock, period_ns=round(1e9 / rate_hz))
        finally:
            loop.stop()
            output.idle(now_ns=clock.monotonic_ns())
        summary = recorder.close(session.reason)
    return EpisodeCapture(
        path=summary.path,
        episode_id=episode_id,
        end_reason=summary.end_reason,
        duration_s=(clock.monotonic_ns() - began_ns) / 1e9,
        ticks=session.ticks,
        counts=summary.counts,
        drops=summary.drops,
        rates_hz={spec.name: session.rates.hz(spec.name) for spec in streams},
        verdicts=dict(session.verdicts),
        refused_actions=session.refused,
        bytes=summary.bytes,
        sha256=summary.sha256,
    )


def planned_opening(
    rig: Rig,
    *,
    episode_id: str,
    limits: SafetyLimits,
    notes: EpisodeNotes | None = None,
    rate_hz: float = 50.0,
    first: Frame | None = None,
    surprise_target: str | None = None,
) -> Opening:
    """Return with what an episode on this rig opens.

    Its `first` frame says whether there is depth; without one it is taken here. Where
    the pilot is surprised at something, the provenance says at what, and its surprise
    has a stream.

    Raises:
        HardwareError: no camera, or no first frame.
    """
    facts = facts_of(rig, limits.names, rate_hz)
    notes = notes or EpisodeNotes()
    if surprise_target is not None:
        told: Any = {**notes.provenance, "surprise_target": surprise_target}
        notes = attrs.evolve(notes, provenance=told)
    metadata = episode_metadata(
        facts,
        notes,
        episode_id=episode_id,
        start_wall_ns=rig.clock.wall_ns(),
    )
    has_depth = (first or _first_frame(rig)).depth is not None
    streams = episode_streams(facts, has_depth=has_depth)
    if surprise_target is not None:
        streams = (*streams, SURPRISE_STREAM)
    return Opening(metadata, streams)


def _first_frame(rig: Rig) -> Frame:
    if rig.camera is None:
        raise HardwareError("E-ROBOT-CAPTURE-001", "this rig has no camera to record")
    rig.camera.open()
    clock: Clock = rig.clock
    until_ns = clock.monotonic_ns() + _FIRST_FRAME_NS
    while clock.monotonic_ns() < until_ns:
        frame = rig.camera.poll()
        if frame is not None:
            return frame
        clock.sleep_until_ns(clock.monotonic_ns() + _SETTLE_NS)
    raise HardwareError(
        "E-ROBOT-CAPTURE-002",
        "the camera gives no frame",
        where=rig.camera.name,
        allowed="a first frame within 5 s",
        hint="check the camera's cable, then `continuon rig scan`",
    )
