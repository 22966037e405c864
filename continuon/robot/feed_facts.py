"""A robot's senses and outputs by name, and how an episode of them is laid out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

import continuon
from continuon.rig.protocols import Rig
from continuon.rlds.episode import (
    ACTION,
    DEPTH,
    RGB,
    STATE,
    Codec,
    EpisodeMetadata,
    StreamSpec,
)

__all__ = [
    "APPLIED",
    "SURPRISE",
    "SURPRISE_STREAM",
    "FeedFacts",
    "episode_metadata",
    "episode_streams",
    "facts_of",
]

APPLIED = "applied"
"""Stream of what the safety kernel let out, beside the intended `action`."""
SURPRISE = "surprise"
"""Stream of how wrong the policy's world model was, a sample for each step it took."""
SURPRISE_STREAM = StreamSpec(
    name=SURPRISE, codec=Codec.VECTOR, names=(SURPRISE,), units=("1",)
)


@attrs.frozen(kw_only=True)
class FeedFacts:
    """The senses and outputs of one robot, as values.

    Attributes:
        rig, origin: of the body.
        width, height: of its camera in pixels; 0 where there is none.
        camera_clock, state_clock: names of the devices' clocks.
        state_names: () where the robot measures nothing of itself.
    """

    rig: str
    origin: str
    width: int = 0
    height: int = 0
    camera_rate_hz: float | None = None
    camera_clock: str = "host"
    state_names: tuple[str, ...] = ()
    state_rate_hz: float | None = None
    state_clock: str = "host"
    action_names: tuple[str, ...] = ()
    control_rate_hz: float = 50.0

    def to_json(self) -> bytes:
        """Return it as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> FeedFacts:
        """Return what `to_json` spelt."""
        return msgspec.json.decode(data, type=cls)


def facts_of(rig: Rig, action_names: Sequence[str], rate_hz: float) -> FeedFacts:
    """Return the facts of a rig whose camera is open."""
    facts: dict[str, Any] = {}
    if rig.camera is not None:
        facts |= {
            "width": rig.camera.width,
            "height": rig.camera.height,
            "camera_rate_hz": rig.camera.rate_hz,
            "camera_clock": rig.camera.clock_offset().device,
        }
    if rig.state is not None:
        facts |= {
            "state_names": tuple(rig.state.names),
            "state_rate_hz": rig.state.rate_hz,
            "state_clock": rig.state.clock_offset().device,
        }
    return FeedFacts(
        rig=rig.name,
        origin=rig.origin,
        action_names=tuple(action_names),
        control_rate_hz=rate_hz,
        **facts,
    )


def episode_streams(facts: FeedFacts, *, has_depth: bool) -> tuple[StreamSpec, ...]:
    """Return the streams that an episode of this robot has."""
    eye: dict[str, Any] = {
        "clock": facts.camera_clock,
        "rate_hz": facts.camera_rate_hz,
        "width": facts.width,
        "height": facts.height,
    }
    streams = [StreamSpec(name=RGB, codec=Codec.JPEG, **eye)]
    if has_depth:
        streams.append(StreamSpec(name=DEPTH, codec=Codec.PNG16, **eye))
    vectors: list[dict[str, Any]] = [
        {"name": name, "names": facts.action_names, "rate_hz": facts.control_rate_hz}
        for name in (ACTION, APPLIED)
    ]
    if facts.state_names:
        vectors.append(
            {
                "name": STATE,
                "names": facts.state_names,
                "clock": facts.state_clock,
                "rate_hz": facts.state_rate_hz,
            }
        )
    streams += [StreamSpec(codec=Codec.VECTOR, **vector) for vector in vectors]
    return tuple(streams)


def episode_metadata(
    facts: FeedFacts, notes: Any, *, episode_id: str, start_wall_ns: int
) -> EpisodeMetadata:
    """Return what an episode says of itself; `notes` are what people say of it."""
    return EpisodeMetadata(
        episode_id=episode_id,
        origin=facts.origin,
        environment_id=facts.rig,
        software={"continuon": continuon.__version__},
        start_wall_ns=start_wall_ns,
        control_rate_hz=facts.control_rate_hz,
        camera_rate_hz=facts.camera_rate_hz,
        **attrs.asdict(notes, recurse=False),
    )
