"""Hypothesis strategies: legal metadata, legal streams of samples."""

from __future__ import annotations

import attrs
import numpy as np
from hypothesis import strategies as st

from continuon._specs.episode.drafts import legal_metadata
from continuon._specs.episode.plan_drafts import legal_plan, legal_step
from continuon.rlds.action import Annotation, ArmCommand, Planner, ToolCall, UiAction
from continuon.rlds.episode import (
    ActionSource,
    ControlRole,
    EpisodeMetadata,
    Origin,
    Share,
    XrMode,
)
from continuon.rlds.observation import (
    COORDINATION_MODES,
    ArmState,
    Coordination,
    DialogTurn,
    Media,
    Pose,
    UiContext,
    WorldModel,
)
from continuon.rlds.plan_episode import PlanEpisode
from continuon.rlds.step import Step

__all__ = ["actions", "depth_images", "metadata", "plan_episodes", "stamps"]

_COMBINATIONS = (
    (XrMode.TRAINER, ControlRole.HUMAN_TELEOP, ActionSource.HUMAN_TELEOP_XR),
    (XrMode.WORKSTATION, ControlRole.HUMAN_DEV_XR, ActionSource.HUMAN_DEV_XR),
    (XrMode.OBSERVER, ControlRole.HUMAN_SUPERVISOR, ActionSource.HUMAN_SUPERVISOR),
    (XrMode.OBSERVER, ControlRole.HUMAN_SUPERVISOR, ActionSource.VLA_POLICY),
)
_TEXT = st.text(max_size=20)
_WORDS = st.dictionaries(_TEXT, _TEXT, max_size=2)


@st.composite
def metadata(draw: st.DrawFn) -> EpisodeMetadata:
    """Draw metadata that a recorder accepts."""
    mode, role, source = draw(st.sampled_from(_COMBINATIONS))
    letters = "abcXYZ019._-"
    name = draw(st.sampled_from("aZ0_")) + draw(st.text(letters, max_size=20))
    return legal_metadata(
        episode_id=name,
        origin=draw(st.sampled_from(Origin)),
        xr_mode=mode,
        control_role=role,
        action_source=source,
        task=draw(_TEXT),
        tags=tuple(draw(st.lists(_TEXT, max_size=3))),
        provenance=draw(st.dictionaries(_TEXT, _TEXT, max_size=3)),
        camera_rate_hz=draw(st.none() | st.floats(0.1, 1000.0)),
        owner=draw(st.none() | _TEXT),
        share=draw(st.builds(Share)),
    )


@st.composite
def stamps(draw: st.DrawFn, *, min_size: int = 1) -> np.ndarray:
    """Draw int64 [n] capture times that never go back."""
    steps = draw(st.lists(st.integers(0, 10**9), min_size=min_size, max_size=20))
    return np.cumsum(np.array(steps, np.int64))


@st.composite
def actions(draw: st.DrawFn, count: int) -> np.ndarray:
    """Draw float32 [count, 2] within -1..1."""
    value = st.floats(-1, 1, width=32)
    rows = draw(st.lists(st.tuples(value, value), min_size=count, max_size=count))
    return np.array(rows, np.float32).reshape(count, 2)


def _unit(draw: st.DrawFn, size: int) -> tuple[float, ...]:
    """Draw a vector of length 1."""
    part = st.floats(-1, 1)
    values = np.array(draw(st.tuples(*[part] * size)))
    length = float(np.linalg.norm(values))
    if length < 0.1:
        return (*(0.0,) * (size - 1), 1.0)
    return tuple(float(v) for v in values / length)


@st.composite
def _plan_step(draw: st.DrawFn, row: int, count: int, blocks: frozenset[str]) -> Step:
    """Draw step `row`: numbers within their limits, optional blocks there or not."""
    step = legal_step(row, count)
    seen, at = step.observation, step.timestamp_ns
    part, share = st.floats(-1, 1), st.floats(0, 1)
    near = at + draw(st.integers(-5_000_000, 5_000_000))
    quat = _unit(draw, 4)
    pose = Pose(
        position=draw(st.tuples(*[st.floats(-9, 9)] * 3)), orientation_quat=quat
    )
    finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
    state = attrs.evolve(
        seen.robot_state,
        timestamp_nanos=near,
        joint_positions=draw(st.tuples(finite, finite)),
        end_effector_pose=pose,
        gripper_open=draw(st.none() | share),
    )
    gaze = attrs.evolve(seen.gaze, direction=_unit(draw, 3), confidence=draw(share))
    turns = tuple(
        draw(st.lists(st.builds(DialogTurn, speaker=_TEXT, text=_TEXT), max_size=2))
    )
    observation = attrs.evolve(
        seen,
        headset_pose=pose,
        gaze=gaze,
        robot_state=state,
        audio=seen.audio if "audio" in blocks else None,
        arm_states=(ArmState(arm_id="left", robot_state=state),)
        if "arms" in blocks
        else (),
        coordination=draw(
            st.builds(Coordination, mode=st.sampled_from(COORDINATION_MODES))
        )
        if "arms" in blocks
        else None,
        dialog=turns,
        ui_context=draw(
            st.none() | st.builds(UiContext, active_panel=_TEXT, layout=_WORDS)
        ),
        media=draw(st.none() | st.builds(Media, kind=_TEXT, uri=_TEXT)),
        world_model=draw(
            st.none()
            | st.builds(
                WorldModel, codebook_id=st.just("c"), surprise=st.none() | share
            )
        ),
    )
    action = attrs.evolve(
        step.action,
        command=draw(st.tuples(part, part)),
        arm_commands=draw(
            st.just(())
            | st.builds(
                lambda c: (ArmCommand(arm_id="left", command=c),), st.tuples(part)
            )
        ),
        annotation=draw(st.none() | st.builds(Annotation, kind=_TEXT, fields=_WORDS)),
        ui_action=draw(
            st.none() | st.builds(UiAction, action_type=_TEXT, context=_WORDS)
        ),
        planner=draw(
            st.none() | st.builds(Planner, intent=_TEXT, confidence=st.none() | share)
        ),
        tool_calls=draw(
            st.just(()) | st.builds(lambda n: (ToolCall(tool="rag", name=n),), _TEXT)
        ),
    )
    return attrs.evolve(
        step,
        observation=observation,
        action=action,
        reward=draw(st.none() | finite),
        step_metadata=draw(_WORDS),
    )


@st.composite
def plan_episodes(draw: st.DrawFn) -> PlanEpisode:
    """Draw an episode of the plan that strict accepts."""
    count = draw(st.integers(1, 4))
    blocks = draw(st.frozensets(st.sampled_from(("audio", "arms"))))
    base = legal_plan(count)
    have = {"headset", "hands", "gaze", "robot", "glove", "video", "depth", *blocks}
    return attrs.evolve(
        base,
        metadata=attrs.evolve(
            base.metadata,
            origin=draw(st.sampled_from(Origin)),
            capabilities=tuple(sorted(have)),
            tags=tuple(draw(st.lists(_TEXT, max_size=3))),
            provenance=draw(_WORDS),
        ),
        streams=base.streams[1:],
        steps=tuple(draw(_plan_step(row, count, blocks)) for row in range(count)),
        blobs={
            uri: blob
            for uri, blob in base.blobs.items()
            if "audio" in blocks or "/audio/" not in uri
        },
    )


@st.composite
def depth_images(draw: st.DrawFn) -> np.ndarray:
    """Draw uint16 [height, width] up to 9 by 9."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    values = st.integers(0, 65_535)
    size = height * width
    pixels = draw(st.lists(values, min_size=size, max_size=size))
    return np.array(pixels, np.uint16).reshape(height, width)
