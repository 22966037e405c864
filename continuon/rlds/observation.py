"""What a step saw: the plan's observation, each block with its own time and clock.

Field names are the plan's, so that its JSON is ours; where it left a unit or a frame
open, this says which. Times are int64 nanoseconds in the clock that the block names,
quaternions are x, y, z, w, vectors right-handed metres in the episode's
`frame_convention`. A block that is None was not there; a value that was not measured is
None, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from continuon.rlds.vocabulary import Int64

__all__ = [
    "COORDINATION_MODES",
    "COORDINATION_PHASES",
    "SYNC_INTENTS",
    "ArmState",
    "Audio",
    "Coordination",
    "Diagnostics",
    "DialogTurn",
    "EgocentricFrame",
    "Gaze",
    "Glove",
    "Media",
    "Observation",
    "Pose",
    "RobotState",
    "Segmentation",
    "UiContext",
    "WorldModel",
]

COORDINATION_MODES = ("independent", "mirrored", "coordinated_task", "handoff")
COORDINATION_PHASES = ("approach", "engage", "manipulate", "release")
SYNC_INTENTS = (
    "independent",
    "synchronous_execute",
    "mirror_left_to_right",
    "mirror_right_to_left",
    "bimanual_task",
)

Vector3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
Twist = tuple[float, float, float, float, float, float]
FiveFingers = tuple[float, float, float, float, float]
EightPads = tuple[float, float, float, float, float, float, float, float]


@attrs.frozen(kw_only=True)
class Pose:
    """A place and an attitude: metres, and a unit quaternion x, y, z, w."""

    position: Vector3
    orientation_quat: Quaternion
    valid: bool = True


@attrs.frozen(kw_only=True)
class Gaze:
    """Where the eyes look: a ray of unit direction; confidence 0 to 1."""

    origin: Vector3
    direction: Vector3
    confidence: float
    target_id: str | None = None
    timestamp_ns: Int64 | None = None
    clock: str = "host"


@attrs.frozen(kw_only=True)
class Audio:
    """One block of sound, its bytes in the blob that `uri` names.

    `timestamp_ns` is the time of its first sample; `delta_ms_to_frame` that time minus
    the video frame's, in milliseconds.
    """

    uri: str
    sample_rate_hz: Int64
    num_channels: Int64
    format: str
    timestamp_ns: Int64
    clock: str = "host"
    frame_id: str | None = None
    delta_ms_to_frame: float | None = None


@attrs.frozen(kw_only=True)
class EgocentricFrame:
    """A picture from the robot's or the wearer's own eyes, in the blob `uri`.

    `encoding` is `jpeg` for colour and `png16` for depth, of which one count is
    `depth_unit_m` metres. `device_ns` is the camera's own stamp where it has one.
    """

    uri: str
    timestamp_ns: Int64
    encoding: str
    clock: str = "host"
    device_ns: Int64 | None = None
    width: Int64 = 0
    height: Int64 = 0
    depth_unit_m: float | None = None


@attrs.frozen(kw_only=True)
class RobotState:
    """Joints (rad or m by joint), end effector, gripper (1 open, 0 closed).

    `timestamp_nanos` is the time of the reading, never that of a frame;
    `end_effector_twist` is linear m/s then angular rad/s.
    """

    timestamp_nanos: Int64
    joint_positions: tuple[float, ...]
    joint_velocities: tuple[float, ...] = ()
    joint_efforts: tuple[float, ...] = ()
    end_effector_pose: Pose | None = None
    end_effector_twist: Twist | None = None
    gripper_open: float | None = None
    frame_id: str | None = None
    wall_time_millis: Int64 | None = None
    clock: str = "host"


@attrs.frozen(kw_only=True)
class ArmState:
    """The state of one of several arms, named as in `Action.arm_commands`."""

    arm_id: str
    robot_state: RobotState


@attrs.frozen(kw_only=True)
class Coordination:
    """How two arms work together; values as listed at the top of this module."""

    mode: str
    phase: str | None = None
    sync_intent: str | None = None


@attrs.frozen(kw_only=True)
class Glove:
    """A data glove: flex and force 0 to 1, attitude, acceleration in m/s2."""

    timestamp_nanos: Int64
    flex: FiveFingers
    fsr: EightPads
    orientation_quat: Quaternion
    accel: Vector3
    valid: bool = True
    clock: str = "host"


@attrs.frozen(kw_only=True)
class UiContext:
    """What the workstation showed."""

    active_panel: str
    layout: Mapping[str, str] = attrs.field(factory=dict)
    focus_context: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Media:
    """Something that was played or shown."""

    kind: str
    uri: str
    title: str | None = None
    timestamp_ms: Int64 | None = None


@attrs.frozen(kw_only=True)
class DialogTurn:
    """One utterance: personal data, so it stays behind unless it is cleared."""

    speaker: str
    text: str
    timestamp_ns: Int64 | None = None
    conversation_id: str | None = None


@attrs.frozen(kw_only=True)
class WorldModel:
    """What a world model made of it; tokens mean nothing without their codebook."""

    latent_tokens: tuple[Int64, ...] = ()
    codebook_id: str | None = None
    surprise: float | None = None
    belief_state_id: str | None = None


@attrs.frozen(kw_only=True)
class Segmentation:
    """Masks over the video frame, in the blob `uri`, and the classes they count."""

    uri: str
    frame_id: str
    class_names: tuple[str, ...] = ()
    model: str | None = None


@attrs.frozen(kw_only=True)
class Diagnostics:
    """How the links did; None where it was not measured."""

    latency_ms: float | None = None
    glove_drops: Int64 | None = None
    ble_rssi: Int64 | None = None
    ble_mtu_bytes: Int64 | None = None
    glove_sample_rate_hz: float | None = None


@attrs.frozen(kw_only=True)
class Observation:
    """All that one step saw. `timestamp_ns` of the step is the video frame's."""

    headset_pose: Pose | None = None
    right_hand_pose: Pose | None = None
    left_hand_pose: Pose | None = None
    gaze: Gaze | None = None
    robot_state: RobotState | None = None
    arm_states: tuple[ArmState, ...] = ()
    coordination: Coordination | None = None
    glove: Glove | None = None
    video_frame_id: str | None = None
    depth_frame_id: str | None = None
    video: EgocentricFrame | None = None
    depth: EgocentricFrame | None = None
    audio: Audio | None = None
    ui_context: UiContext | None = None
    media: Media | None = None
    dialog: tuple[DialogTurn, ...] = ()
    world_model: WorldModel | None = None
    segmentation: Segmentation | None = None
    diagnostics: Diagnostics | None = None
