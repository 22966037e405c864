"""Named illegal changes of a legal episode of the plan, and the code of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from continuon.rlds.action import ToolCall
from continuon.rlds.episode import (
    ActionSource,
    ControlRole,
    Origin,
    Share,
    StreamSpec,
    XrMode,
)
from continuon.rlds.observation import Coordination, DialogTurn, WorldModel
from continuon.rlds.plan_episode import PlanEpisode
from continuon.rlds.sharing import ContentRating, Safety

__all__ = ["PLAN_MUTATIONS"]

Change = Callable[[PlanEpisode], PlanEpisode]
NAN, LATE_NS = float("nan"), 6_000_000


def _metadata(**changes: Any) -> Change:
    return lambda e: attrs.evolve(e, metadata=attrs.evolve(e.metadata, **changes))


def _steps(change: Callable[[int, Any], Any]) -> Change:
    return lambda e: attrs.evolve(
        e, steps=tuple(change(at, step) for at, step in enumerate(e.steps))
    )


def _step(row: int, **changes: Any) -> Change:
    return _steps(lambda at, s: attrs.evolve(s, **changes) if at == row else s)


def _seen(**changes: Any) -> Change:
    """Change a field of every observation; a dict changes fields of its block."""

    def change(_: int, step: Any) -> Any:
        seen = step.observation
        made = {
            name: attrs.evolve(getattr(seen, name), **value)
            if isinstance(value, dict)
            else value
            for name, value in changes.items()
        }
        return attrs.evolve(step, observation=attrs.evolve(seen, **made))

    return _steps(change)


def _done(**changes: Any) -> Change:
    return _steps(
        lambda _, s: attrs.evolve(s, action=attrs.evolve(s.action, **changes))
    )


def _late(name: str, field: str) -> Change:
    def change(_: int, step: Any) -> Any:
        block = getattr(step.observation, name)
        moved = attrs.evolve(block, **{field: step.timestamp_ns + LATE_NS})
        seen = attrs.evolve(step.observation, **{name: moved})
        return attrs.evolve(step, observation=seen)

    return _steps(change)


def _one_late_depth(episode: PlanEpisode) -> PlanEpisode:
    """Move one exposure so little that the 99th percentile stays below 5 ms."""

    def change(row: int, step: Any) -> Any:
        late_ns = 5_050_000 if row == 1 else 0
        moved = attrs.evolve(
            step.observation.depth, timestamp_ns=step.timestamp_ns + late_ns
        )
        seen = attrs.evolve(step.observation, depth=moved)
        return attrs.evolve(step, observation=seen)

    return _steps(change)(episode)


def _both(*changes: Change) -> Change:
    def change(episode: PlanEpisode) -> PlanEpisode:
        for one in changes:
            episode = one(episode)
        return episode

    return change


def _streams(*specs: StreamSpec) -> Change:
    return lambda e: attrs.evolve(e, streams=specs)


def _blobs(change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> Change:
    return lambda e: attrs.evolve(e, blobs=change(dict(e.blobs)))


def _some_glove_invalid(at: int, step: Any) -> Any:
    if at % 2:
        return step
    glove = attrs.evolve(step.observation.glove, valid=False)
    return attrs.evolve(step, observation=attrs.evolve(step.observation, glove=glove))


CLEARED = Share(
    public=True,
    pii_attested=True,
    pii_cleared=True,
    pending_review=False,
    license="CC-BY-4.0",
)
RATED = Safety(content_rating=ContentRating())

PLAN_MUTATIONS: Mapping[str, tuple[Change, str]] = {
    "no steps": (lambda e: attrs.evolve(e, steps=()), "EMPTY-001"),
    "role contradicts mode": (
        _metadata(control_role=ControlRole.HUMAN_DEV_XR),
        "ROLE-001",
    ),
    "robot has no name": (_metadata(robot_id=""), "META-001"),
    "rating of its own": (
        _metadata(safety=Safety(content_rating=ContentRating(audience="robots"))),
        "META-003",
    ),
    "source that nobody knows": (_done(source="agent"), "SOURCE-001"),
    "source of another mode": (_done(source="human_dev_xr"), "SOURCE-002"),
    "workstation without a ui_action": (
        _both(
            _metadata(
                xr_mode=XrMode.WORKSTATION,
                control_role=ControlRole.HUMAN_DEV_XR,
                action_source=ActionSource.HUMAN_DEV_XR,
            ),
            _done(source="human_dev_xr"),
        ),
        "MODE-001",
    ),
    "observer without an annotation": (
        _both(
            _metadata(
                xr_mode=XrMode.OBSERVER,
                control_role=ControlRole.HUMAN_SUPERVISOR,
                action_source=ActionSource.HUMAN_SUPERVISOR,
            ),
            _done(source="human_supervisor"),
        ),
        "MODE-002",
    ),
    "coordination of its own": (
        _seen(coordination=Coordination(mode="together")),
        "ENUM-001",
    ),
    "1.1 fields in 1.0": (
        _both(
            _metadata(schema_version="1.0"), _seen(world_model=WorldModel(surprise=0.5))
        ),
        "VERSION-001",
    ),
    "1.0 without gaze": (
        _both(_metadata(schema_version="1.0", capabilities=()), _seen(gaze=None)),
        "BLOCK-001",
    ),
    "no capability named, and no hands": (
        _both(_metadata(capabilities=()), _seen(left_hand_pose=None)),
        "BLOCK-001",
    ),
    "no robot state": (_seen(robot_state=None), "BLOCK-001"),
    "no command": (_done(command=()), "BLOCK-002"),
    "commands of two lengths": (
        _steps(
            lambda at, s: (
                attrs.evolve(s, action=attrs.evolve(s.action, command=(0.5,)))
                if at
                else s
            )
        ),
        "BLOCK-003",
    ),
    "numbers with a gap": (_step(2, step_index=7), "INDEX-001"),
    "first in the middle": (_step(2, is_first=True), "FLAG-001"),
    "no last": (_step(3, is_last=False, is_terminal=False), "FLAG-001"),
    "half of it masked": (
        _steps(lambda at, s: attrs.evolve(s, valid=bool(at % 2))),
        "VALID-002",
    ),
    "depth of another frame": (_seen(depth_frame_id="other"), "FRAME-001"),
    "state of another frame": (
        _seen(robot_state={"frame_id": "base_link"}),
        "FRAME-001",
    ),
    "one frame id for all": (
        _seen(
            video_frame_id="x",
            depth_frame_id="x",
            robot_state={"frame_id": None},
            audio={"frame_id": None},
        ),
        "FRAME-002",
    ),
    "depth 6 ms late": (_late("depth", "timestamp_ns"), "SKEW-001"),
    "state 6 ms late": (_late("robot_state", "timestamp_nanos"), "SKEW-002"),
    "one depth 5.05 ms late": (_one_late_depth, "SKEW-004"),
    "glove 6 ms late": (_late("glove", "timestamp_nanos"), "SKEW-003"),
    "sound 6 ms late": (
        _both(_late("audio", "timestamp_ns"), _seen(audio={"delta_ms_to_frame": None})),
        "SKEW-003",
    ),
    "a clock that nobody compared": (_seen(glove={"clock": "glove"}), "CLOCK-003"),
    "time goes back": (_step(2, timestamp_ns=1_000_000_001), "TIME-001"),
    "two steps at one time": (_step(1, timestamp_ns=1_000_000_000), "TIME-002"),
    "glove's time goes back": (
        _steps(
            lambda at, s: attrs.evolve(
                s,
                observation=attrs.evolve(
                    s.observation,
                    glove=attrs.evolve(s.observation.glove, timestamp_nanos=10 - at),
                ),
            )
        ),
        "TIME-001",
    ),
    "gaze twice as long": (_seen(gaze={"direction": (1.2, 0.0, 1.6)}), "UNIT-001"),
    "gaze of length zero": (_seen(gaze={"direction": (0.0,) * 3}), "UNIT-001"),
    "pose of no attitude": (
        _seen(headset_pose={"orientation_quat": (0.0,) * 4}),
        "UNIT-002",
    ),
    "glove of no attitude": (
        _seen(glove={"orientation_quat": (0.0, 0.0, 0.0, 2.0)}),
        "UNIT-002",
    ),
    "gaze is not a number": (_seen(gaze={"confidence": NAN}), "FINITE-001"),
    "joint is not a number": (
        _seen(robot_state={"joint_positions": (NAN, 0.0)}),
        "FINITE-001",
    ),
    "reward is infinite": (_step(1, reward=float("inf")), "FINITE-001"),
    "command is not a number": (_done(command=(NAN, 0.0)), "ACTION-001"),
    "command beyond full scale": (_done(command=(1.5, 0.0)), "ACTION-002"),
    "confidence of two": (_seen(gaze={"confidence": 2.0}), "RANGE-001"),
    "glove valid half of the time": (_steps(_some_glove_invalid), "GLOVE-001"),
    "sound at 5 Hz": (_seen(audio={"sample_rate_hz": 5}), "AUDIO-001"),
    "sound without channels": (_seen(audio={"num_channels": 0}), "AUDIO-001"),
    "sound in no known form": (_seen(audio={"format": "tape"}), "AUDIO-001"),
    "sound that misstates its distance": (
        _seen(audio={"delta_ms_to_frame": 3.0}),
        "AUDIO-003",
    ),
    "sound that changes": (
        _steps(
            lambda at, s: attrs.evolve(
                s,
                observation=attrs.evolve(
                    s.observation,
                    audio=attrs.evolve(
                        s.observation.audio, sample_rate_hz=8_000 * (1 + at % 2)
                    ),
                ),
            )
        ),
        "AUDIO-002",
    ),
    "a component without a unit": (
        _streams(StreamSpec(name="state", codec="vector", names=("speed",))),
        "UNIT-003",
    ),
    "a stream of a real episode made up": (
        _both(
            _metadata(origin=Origin.REAL),
            _streams(StreamSpec(name="rgb", codec="jpeg", origin=Origin.SYNTHETIC)),
        ),
        "ORIGIN-001",
    ),
    "tokens of no codebook": (
        _seen(world_model=WorldModel(latent_tokens=(1, 2))),
        "WORLD-001",
    ),
    "tool called with a torn argument": (
        _done(tool_calls=(ToolCall(tool="rag", name="find", args_json='{"q"'),)),
        "TOOL-001",
    ),
    "a blob is empty": (
        _blobs(lambda blobs: blobs | {"blobs/audio/000001.wav": b""}),
        "BLOB-001",
    ),
    "a blob is absent": (
        _blobs(lambda b: {k: v for k, v in b.items() if not k.endswith("1.jpg")}),
        "BLOB-002",
    ),
    "a blob outside": (_seen(audio={"uri": "../../etc/passwd"}), "BLOB-003"),
    "a blob at an address": (_seen(audio={"uri": "https://x/y.wav"}), "BLOB-003"),
    "public and pending": (_metadata(share=Share(public=True)), "SHARE-001"),
    "public with an owner": (
        _metadata(share=CLEARED, safety=RATED, owner="somebody"),
        "SHARE-002",
    ),
    "public with an address in a tag": (
        _metadata(share=CLEARED, safety=RATED, tags=("email:a@b.org",)),
        "SHARE-002",
    ),
    "public with what was said": (
        _both(
            _metadata(share=CLEARED, safety=RATED),
            _seen(dialog=(DialogTurn(speaker="a", text="hello"),)),
        ),
        "SHARE-002",
    ),
    "public and never rated": (_metadata(share=CLEARED), "SHARE-003"),
    "some drops": (lambda e: attrs.evolve(e, drops={"rgb": 1}), "DROP-002"),
}
"""Name -> (change, code without `E-EPISODE-`). Others may come along; this one must."""
