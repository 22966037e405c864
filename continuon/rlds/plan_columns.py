"""The plan's steps as columns: what the rules judge, gathered in one walk.

Rules look at arrays, so an episode of 300 steps is judged in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.rlds.episode import HOST_CLOCKS
from continuon.rlds.observation import Observation, Pose, RobotState
from continuon.rlds.step import Step

__all__ = ["StepColumns", "TimeColumn", "step_columns"]


@attrs.frozen(eq=False)
class TimeColumn:
    """One stream's own times within the steps.

    Attributes:
        rows: int64 [n], the steps that have a sample.
        times_ns: int64 [n], its capture time.
        frame_ns: int64 [n], the step's time.
        comparable: False where its clock is neither the step's nor, as that, a host's.
    """

    rows: NDArray[np.int64]
    times_ns: NDArray[np.int64]
    frame_ns: NDArray[np.int64]
    comparable: bool

    @property
    def skew_ns(self) -> NDArray[np.int64]:
        """Return int64 [n], sample time minus step time."""
        return self.times_ns - self.frame_ns


@attrs.frozen(eq=False, kw_only=True)
class StepColumns:
    """T steps as columns.

    Attributes:
        stamp_ns: int64 [T].
        times: by stream, its own times; a stream without a sample is not in it.
        gaze_error, quaternion_error: float64 [T], the largest distance of a length
            from 1 in the step; 0 where the step has none.
        unfinished: (step, field) of every number that is not finite.
        outside: (step, field) of every number that leaves its range 0 to 1.
        glove_valid: bool [n], of the steps that have a glove block.
    """

    stamp_ns: NDArray[np.int64]
    times: dict[str, TimeColumn]
    gaze_error: NDArray[np.float64]
    quaternion_error: NDArray[np.float64]
    unfinished: tuple[tuple[int, str], ...]
    outside: tuple[tuple[int, str], ...]
    glove_valid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.stamp_ns)

    def block_finite(self) -> NDArray[np.bool_]:
        """Return bool [T]: every number of the step is finite."""
        finite = np.ones(len(self), bool)
        finite[[row for row, _ in self.unfinished]] = False
        return finite


def step_columns(steps: Sequence[Step]) -> StepColumns:
    """Return the columns of steps."""
    count = len(steps)
    gaze, quaternion = np.zeros(count), np.zeros(count)
    gathered: dict[str, list[tuple[int, int, int]]] = {}
    apart: set[str] = set()
    unfinished: list[tuple[int, str]] = []
    outside: list[tuple[int, str]] = []
    glove: list[bool] = []
    for row, step in enumerate(steps):
        seen = step.observation
        host = step.clock in HOST_CLOCKS
        for name, at, clock in _stamps(step):
            gathered.setdefault(name, []).append((row, at, step.timestamp_ns))
            if clock != step.clock and not (host and clock in HOST_CLOCKS):
                apart.add(name)
        for name, values in _numbers(step):
            if not math.isfinite(math.fsum(map(abs, values))):
                unfinished.append((row, name))
        outside += [(row, name) for name in _out_of_range(step)]
        if seen.gaze is not None:
            gaze[row] = abs(math.hypot(*seen.gaze.direction) - 1)
        lengths = [math.hypot(*q) for q in _quaternions(seen)]
        if lengths:
            quaternion[row] = max(abs(length - 1) for length in lengths)
        if seen.glove is not None:
            glove.append(seen.glove.valid)
    return StepColumns(
        stamp_ns=np.array([step.timestamp_ns for step in steps], np.int64),
        times={
            name: _column(rows, comparable=name not in apart)
            for name, rows in gathered.items()
        },
        gaze_error=gaze,
        quaternion_error=quaternion,
        unfinished=tuple(unfinished),
        outside=tuple(outside),
        glove_valid=np.array(glove, bool),
    )


def _column(rows: list[tuple[int, int, int]], *, comparable: bool) -> TimeColumn:
    table = np.array(rows, np.int64).T
    return TimeColumn(table[0], table[1], table[2], comparable)


def _stamps(step: Step) -> Iterator[tuple[str, int, str]]:
    """Yield (stream, time, clock) of every block that carries a time of its own."""
    seen = step.observation
    if seen.video is not None:
        yield "video", seen.video.timestamp_ns, seen.video.clock
    if seen.depth is not None:
        yield "depth", seen.depth.timestamp_ns, seen.depth.clock
    if seen.robot_state is not None:
        yield "robot_state", seen.robot_state.timestamp_nanos, seen.robot_state.clock
    for arm in seen.arm_states:
        state = arm.robot_state
        yield f"arm {arm.arm_id}", state.timestamp_nanos, state.clock
    if seen.glove is not None:
        yield "glove", seen.glove.timestamp_nanos, seen.glove.clock
    if seen.audio is not None:
        yield "audio", seen.audio.timestamp_ns, seen.audio.clock
    if seen.gaze is not None and seen.gaze.timestamp_ns is not None:
        yield "gaze", seen.gaze.timestamp_ns, seen.gaze.clock
    if step.action.timestamp_ns is not None:
        yield "action", step.action.timestamp_ns, step.action.clock


def _numbers(step: Step) -> Iterator[tuple[str, Iterable[float]]]:
    """Yield (field, its numbers) of everything in a step that is a real number."""
    seen, done = step.observation, step.action
    for name, pose in _poses(seen):
        yield name, (*pose.position, *pose.orientation_quat)
    if seen.gaze is not None:
        gaze = seen.gaze
        yield "gaze", (*gaze.origin, *gaze.direction, gaze.confidence)
    if seen.robot_state is not None:
        yield "robot_state", _state_numbers(seen.robot_state)
    for arm in seen.arm_states:
        yield f"arm_states {arm.arm_id}", _state_numbers(arm.robot_state)
    if seen.glove is not None:
        glove = seen.glove
        yield "glove", (*glove.flex, *glove.fsr, *glove.orientation_quat, *glove.accel)
    if seen.world_model is not None:
        yield "world_model", (seen.world_model.surprise or 0.0,)
    if seen.diagnostics is not None:
        links = seen.diagnostics
        yield (
            "diagnostics",
            (links.latency_ms or 0.0, links.glove_sample_rate_hz or 0.0),
        )
    yield "action.command", done.command
    for command in done.arm_commands:
        yield f"action.arm_commands {command.arm_id}", command.command
    if step.reward is not None:
        yield "reward", (step.reward,)
    if done.planner is not None:
        yield "action.planner", (done.planner.confidence or 0.0,)


def _state_numbers(state: RobotState) -> tuple[float, ...]:
    numbers = (*state.joint_positions, *state.joint_velocities, *state.joint_efforts)
    if state.end_effector_pose is not None:
        pose = state.end_effector_pose
        numbers += (*pose.position, *pose.orientation_quat)
    if state.end_effector_twist is not None:
        numbers += state.end_effector_twist
    return (*numbers, state.gripper_open or 0.0)


def _poses(seen: Observation) -> Iterator[tuple[str, Pose]]:
    for name, pose in (
        ("headset_pose", seen.headset_pose),
        ("right_hand_pose", seen.right_hand_pose),
        ("left_hand_pose", seen.left_hand_pose),
    ):
        if pose is not None:
            yield name, pose


def _quaternions(seen: Observation) -> Iterator[tuple[float, ...]]:
    """Yield every attitude that claims to be one: invalid poses may be all zero."""
    for _, pose in _poses(seen):
        if pose.valid:
            yield pose.orientation_quat
    states = [arm.robot_state for arm in seen.arm_states]
    if seen.robot_state is not None:
        states.append(seen.robot_state)
    for state in states:
        if state.end_effector_pose is not None and state.end_effector_pose.valid:
            yield state.end_effector_pose.orientation_quat
    if seen.glove is not None and seen.glove.valid:
        yield seen.glove.orientation_quat


def _out_of_range(step: Step) -> Iterator[str]:
    seen, planner = step.observation, step.action.planner
    if seen.gaze is not None and not 0 <= seen.gaze.confidence <= 1:
        yield "gaze.confidence"
    if planner is not None and not 0 <= (planner.confidence or 0.0) <= 1:
        yield "action.planner.confidence"
    states = [arm.robot_state for arm in seen.arm_states]
    if seen.robot_state is not None:
        states.append(seen.robot_state)
    if any(not 0 <= (state.gripper_open or 0.0) <= 1 for state in states):
        yield "robot_state.gripper_open"
    glove = seen.glove
    if glove is not None and glove.valid:
        pads = (*glove.flex, *glove.fsr)
        if min(pads) < 0 or max(pads) > 1:
            yield "glove"
