"""An episode as the plan has it: metadata, steps, and the blobs that these name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Protocol, runtime_checkable

import attrs

from continuon.rlds.episode import EndReason, EpisodeMetadata, StreamSpec
from continuon.rlds.step import Step

__all__ = [
    "REQUIRED_BLOCKS",
    "PlanEpisode",
    "blob_sizes",
    "is_inside",
    "required_blocks",
]

REQUIRED_BLOCKS: Mapping[str, tuple[str, ...]] = {
    "headset": ("headset_pose",),
    "hands": ("right_hand_pose", "left_hand_pose"),
    "gaze": ("gaze",),
    "robot": ("robot_state",),
    "arms": ("arm_states", "coordination"),
    "glove": ("glove", "diagnostics"),
    "video": ("video_frame_id",),
    "depth": ("depth_frame_id",),
    "audio": ("audio",),
}
"""Capability -> fields of the observation that each step then has."""

_PLAN_CAPABILITIES = ("headset", "hands", "gaze", "robot", "glove", "video", "depth")


@attrs.frozen(kw_only=True)
class PlanEpisode:
    """One episode in the plan's terms.

    Attributes:
        streams: origin, clock, rate and units of what the steps hold, by name.
        blobs: by the relative uri by which steps name them; read when asked for.
        drops: samples by stream that are not in it.
    """

    metadata: EpisodeMetadata
    streams: tuple[StreamSpec, ...] = ()
    steps: tuple[Step, ...]
    blobs: Mapping[str, bytes] = attrs.field(factory=dict)
    end_reason: EndReason = EndReason.COMPLETE
    drops: Mapping[str, int] = attrs.field(factory=dict)


@runtime_checkable
class Sized(Protocol):
    """Blobs whose sizes are known without reading them."""

    def sizes(self) -> dict[str, int]:
        """Return the size of each blob in bytes, by uri."""
        ...


def blob_sizes(blobs: Mapping[str, bytes]) -> dict[str, int]:
    """Return the size of each blob in bytes; none is read where that can be avoided."""
    if isinstance(blobs, Sized):
        return blobs.sizes()
    return {uri: len(blob) for uri, blob in blobs.items()}


def is_inside(uri: str) -> bool:
    """Return whether a uri is a plain relative path that stays in its directory."""
    path = PurePosixPath(uri)
    plain = bool(uri) and not set(uri) & set(":\\\0")
    return plain and not path.is_absolute() and ".." not in path.parts


def required_blocks(metadata: EpisodeMetadata) -> tuple[str, ...]:
    """Return the fields that every observation must have.

    An episode's capabilities say which; version 1.0 has none, and an episode that names
    none is held to all that the plan lists.
    """
    named = [name for name in metadata.capabilities if name in REQUIRED_BLOCKS]
    if metadata.schema_version == "1.0" or not metadata.capabilities:
        named = list(_PLAN_CAPABILITIES)
    return tuple(field for name in named for field in REQUIRED_BLOCKS[name])
