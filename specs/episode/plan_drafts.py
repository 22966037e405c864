"""Legal episodes of the plan as plain values, to be changed or drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np

from continuon._specs.episode.drafts import legal_metadata
from continuon.rlds.action import Action
from continuon.rlds.episode import EpisodeMetadata, StreamSpec
from continuon.rlds.images import encode_depth_png, encode_jpeg
from continuon.rlds.observation import (
    Audio,
    Diagnostics,
    EgocentricFrame,
    Gaze,
    Glove,
    Observation,
    Pose,
    RobotState,
)
from continuon.rlds.plan_episode import PlanEpisode
from continuon.rlds.step import Step

__all__ = ["legal_plan", "legal_plan_metadata", "legal_step"]

_PERIOD_NS = 33_333_333
_START_NS = 1_000_000_000
UPRIGHT = (0.0, 0.0, 0.0, 1.0)
_FULL = ("headset", "hands", "gaze", "robot", "glove", "video", "depth", "audio")


def legal_plan_metadata(**changes: Any) -> EpisodeMetadata:
    """Return metadata of an episode that has all that the plan lists, and sound."""
    return legal_metadata(**({"capabilities": _FULL} | changes))


def legal_step(row: int, count: int, *, sizes: tuple[int, int] = (16, 12)) -> Step:
    """Return step `row` of `count`, every block there and within its limits."""
    at = _START_NS + row * _PERIOD_NS
    frame = f"frame-{row}"
    pose = Pose(position=(0.1 * row, 0.0, 1.5), orientation_quat=UPRIGHT)
    width, height = sizes
    return Step(
        step_index=row,
        timestamp_ns=at,
        observation=Observation(
            headset_pose=pose,
            right_hand_pose=pose,
            left_hand_pose=pose,
            gaze=Gaze(
                origin=(0.0, 0.0, 1.5),
                direction=(0.6, 0.0, 0.8),
                confidence=0.9,
                timestamp_ns=at + 1_000_000,
            ),
            robot_state=RobotState(
                timestamp_nanos=at + 2_000_000,
                joint_positions=(0.25 * row, -0.5),
                joint_velocities=(0.0, 0.125),
                end_effector_pose=pose,
                end_effector_twist=(0.0,) * 6,
                gripper_open=0.5,
                frame_id=frame,
            ),
            glove=Glove(
                timestamp_nanos=at - 1_000_000,
                flex=(0.5,) * 5,
                fsr=(0.25,) * 8,
                orientation_quat=UPRIGHT,
                accel=(0.0, 0.0, 9.81),
            ),
            video_frame_id=frame,
            depth_frame_id=frame,
            video=EgocentricFrame(
                uri=f"blobs/rgb/{row:06d}.jpg",
                timestamp_ns=at,
                encoding="jpeg",
                width=width,
                height=height,
            ),
            depth=EgocentricFrame(
                uri=f"blobs/depth/{row:06d}.png",
                timestamp_ns=at + 900_000,
                encoding="png16",
                depth_unit_m=0.001,
            ),
            audio=Audio(
                uri=f"blobs/audio/{row:06d}.wav",
                sample_rate_hz=16_000,
                num_channels=1,
                format="wav",
                timestamp_ns=at,
                frame_id=frame,
                delta_ms_to_frame=0.0,
            ),
            diagnostics=Diagnostics(latency_ms=4.0, glove_drops=0),
        ),
        action=Action(
            command=(0.5, -0.25), source="human_teleop_xr", timestamp_ns=at - 5_000_000
        ),
        reward=None,
        is_first=row == 0,
        is_last=row == count - 1,
        is_terminal=row == count - 1,
        language_instruction="follow the line",
        step_metadata={"note": "as it was"},
    )


def legal_plan(steps: int = 4, **metadata: Any) -> PlanEpisode:
    """Return an episode without fault, with a blob for every uri."""
    made = tuple(legal_step(row, steps) for row in range(steps))
    pixels = np.zeros((12, 16, 3), np.uint8)
    depth = np.arange(192, dtype=np.uint16).reshape(12, 16)
    blobs: dict[str, bytes] = {}
    for row in range(steps):
        blobs[f"blobs/rgb/{row:06d}.jpg"] = encode_jpeg(pixels + row % 256)
        blobs[f"blobs/depth/{row:06d}.png"] = encode_depth_png(depth + row)
        blobs[f"blobs/audio/{row:06d}.wav"] = b"RIFF" + bytes([row % 256]) * 40
    return PlanEpisode(
        metadata=legal_plan_metadata(**metadata),
        streams=(
            StreamSpec(name="rgb", codec="jpeg", rate_hz=30.0, origin="simulated"),
            StreamSpec(name="action", codec="vector", names=("steering", "throttle")),
        ),
        steps=made,
        blobs=blobs,
    )
