"""The plan's steps built anew from an allow-list, times since the episode's start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from continuon.errors import DataError
from continuon.rlds.action import Action, ArmCommand, Planner
from continuon.rlds.anonymous import Anonymiser
from continuon.rlds.episode import ActionSource, StreamSpec
from continuon.rlds.observation import (
    COORDINATION_MODES,
    COORDINATION_PHASES,
    SYNC_INTENTS,
    ArmState,
    Audio,
    Coordination,
    EgocentricFrame,
    Observation,
    RobotState,
    WorldModel,
)
from continuon.rlds.plan_columns import step_columns
from continuon.rlds.plan_episode import PlanEpisode
from continuon.rlds.scrub import Scrub, bare_jpeg, bare_png
from continuon.rlds.sharing_level import LEAVES
from continuon.rlds.step import Step
from continuon.rlds.vocabulary import Codec

__all__ = ["anonymous_plan"]

_ARMS = frozenset({"left", "right"})
_AUDIO_FORMATS = frozenset({"pcm16", "pcm-s16", "wav", "flac", "opus"})
_PICTURES = {"jpeg": (bare_jpeg, "jpg"), "png16": (bare_png, "png")}
_NUMERIC_NOTES = frozenset({"state_nearest_ns"})
_MAX_DIGITS = 20


def anonymous_plan(episode: PlanEpisode, anonymiser: Anonymiser) -> PlanEpisode:
    """Return an episode of the plan that may leave at the anonymiser's level.

    Blobs get new names; pictures lose everything but their pixels; a blob of another
    kind, and all sound below its level, stays behind.

    Raises:
        DataError: a picture cannot be followed to its end.
    """
    start_ns = _earliest_ns(episode.steps)
    blobs: dict[str, bytes] = {}
    steps = [
        _Maker(anonymiser, start_ns, row, episode.blobs, blobs).step(step)
        for row, step in enumerate(episode.steps)
    ]
    specs = [spec for spec in episode.streams if spec.codec is not Codec.DOCUMENT]
    streams: list[StreamSpec] = [
        anonymiser.spec(spec) for spec in specs if spec.name in _STREAMS
    ]
    return PlanEpisode(
        metadata=anonymiser.metadata(episode.metadata),
        streams=tuple(streams),
        steps=tuple(steps),
        blobs=blobs,
        end_reason=episode.end_reason,
        drops={k: v for k, v in episode.drops.items() if k in _STREAMS},
    )


def _earliest_ns(steps: Sequence[Step]) -> int:
    """Return the first time that anything in the steps carries."""
    columns = step_columns(steps)
    times = [column.times_ns for column in columns.times.values()]
    return int(np.concatenate((columns.stamp_ns, *times)).min()) if steps else 0


_STREAMS = frozenset({"rgb", "depth", "state", "action"})


@attrs.frozen
class _Maker:
    """Makes one step; blobs that may leave are put into `made` under new names."""

    anonymiser: Anonymiser
    start_ns: int
    row: int
    blobs: Mapping[str, bytes]
    made: dict[str, bytes]

    def step(self, step: Step) -> Step:
        leaves = LEAVES[self.anonymiser.level]
        return Step(
            step_index=step.step_index,
            timestamp_ns=step.timestamp_ns - self.start_ns,
            clock=self.anonymiser.clock(step.clock),
            observation=self._observation(step.observation),
            action=self._action(step.action),
            reward=step.reward,
            is_first=step.is_first,
            is_last=step.is_last,
            is_terminal=step.is_terminal,
            valid=step.valid,
            language_instruction=step.language_instruction if leaves.task else None,
            step_metadata={
                key: value
                for key, value in step.step_metadata.items()
                if key in _NUMERIC_NOTES and _is_number(value)
            },
        )

    def _time(self, at_ns: int | None) -> int | None:
        return None if at_ns is None else at_ns - self.start_ns

    def _frame_id(self, name: str | None, video: str | None) -> str | None:
        """Return the step's number for the video's own frame, else a pseudonym."""
        if name is None:
            return None
        if name == video:
            return f"frame-{self.row}"
        return f"frame-{self.anonymiser.tag('frame', name)}"

    def _observation(self, seen: Observation) -> Observation:
        leaves, tag = LEAVES[self.anonymiser.level], self.anonymiser.tag
        video = seen.video_frame_id
        gaze, glove, world = seen.gaze, seen.glove, seen.world_model
        clock = self.anonymiser.clock
        return Observation(
            headset_pose=seen.headset_pose,
            right_hand_pose=seen.right_hand_pose,
            left_hand_pose=seen.left_hand_pose,
            gaze=gaze
            and attrs.evolve(
                gaze,
                target_id=tag("target", gaze.target_id),
                timestamp_ns=self._time(gaze.timestamp_ns),
                clock=clock(gaze.clock),
            ),
            robot_state=seen.robot_state and self._state(seen.robot_state, video),
            arm_states=tuple(
                ArmState(
                    arm_id=self._arm(arm.arm_id),
                    robot_state=self._state(arm.robot_state, video),
                )
                for arm in seen.arm_states
            ),
            coordination=seen.coordination and _coordination(seen.coordination),
            glove=glove
            and attrs.evolve(
                glove,
                timestamp_nanos=glove.timestamp_nanos - self.start_ns,
                clock=clock(glove.clock),
            ),
            video_frame_id=self._frame_id(video, video),
            depth_frame_id=self._frame_id(seen.depth_frame_id, video),
            video=self._picture(seen.video, "rgb"),
            depth=self._picture(seen.depth, "depth"),
            audio=self._sound(seen.audio, video) if leaves.sound else None,
            ui_context=seen.ui_context if leaves.words else None,
            dialog=seen.dialog if leaves.words else (),
            world_model=world
            and WorldModel(
                latent_tokens=world.latent_tokens,
                codebook_id=tag("codebook", world.codebook_id),
                surprise=world.surprise,
                belief_state_id=tag("belief", world.belief_state_id),
            ),
            diagnostics=seen.diagnostics,
        )

    def _action(self, done: Action) -> Action:
        leaves = LEAVES[self.anonymiser.level]
        sources = {source.value for source in ActionSource}
        planner = done.planner
        confidence = None if planner is None else planner.confidence
        return Action(
            command=done.command,
            source=done.source if done.source in sources else "unknown",
            timestamp_ns=self._time(done.timestamp_ns),
            clock=self.anonymiser.clock(done.clock),
            arm_commands=tuple(
                ArmCommand(arm_id=self._arm(arm.arm_id), command=arm.command)
                for arm in done.arm_commands
            ),
            annotation=done.annotation if leaves.words else None,
            ui_action=done.ui_action if leaves.words else None,
            dialog=done.dialog if leaves.words else (),
            planner=planner
            and (
                planner if leaves.words else Planner(intent="", confidence=confidence)
            ),
            tool_calls=done.tool_calls if leaves.words else (),
        )

    def _state(self, state: RobotState, video: str | None) -> RobotState:
        return attrs.evolve(
            state,
            timestamp_nanos=state.timestamp_nanos - self.start_ns,
            frame_id=self._frame_id(state.frame_id, video),
            wall_time_millis=None,
            clock=self.anonymiser.clock(state.clock),
        )

    def _arm(self, name: str) -> str:
        return name if name in _ARMS else f"arm-{self.anonymiser.tag('arm', name)}"

    def _picture(
        self, block: EgocentricFrame | None, folder: str
    ) -> EgocentricFrame | None:
        if block is None or block.encoding not in _PICTURES:
            return None
        bare, suffix = _PICTURES[block.encoding]
        uri = f"blobs/{folder}/{self.row:06d}.{suffix}"
        self._keep(block.uri, uri, bare)
        return attrs.evolve(
            block,
            uri=uri,
            timestamp_ns=block.timestamp_ns - self.start_ns,
            device_ns=None,
            clock=self.anonymiser.clock(block.clock),
        )

    def _sound(self, block: Audio | None, video: str | None) -> Audio | None:
        if block is None or block.format not in _AUDIO_FORMATS:
            return None
        uri = f"blobs/audio/{self.row:06d}.{block.format}"
        self._keep(block.uri, uri, lambda data: data)
        return attrs.evolve(
            block,
            uri=uri,
            timestamp_ns=block.timestamp_ns - self.start_ns,
            frame_id=self._frame_id(block.frame_id, video),
            clock=self.anonymiser.clock(block.clock),
        )

    def _keep(self, old: str, new: str, bare: Scrub) -> None:
        blob = self.blobs.get(old)
        if blob is None:
            raise DataError(
                "E-RLDS-EXPORT-007", "a blob that a step names is absent", seen=self.row
            )
        self.made[new] = bare(blob)


def _coordination(said: Coordination) -> Coordination | None:
    if said.mode not in COORDINATION_MODES:
        return None
    return Coordination(
        mode=said.mode,
        phase=said.phase if said.phase in COORDINATION_PHASES else None,
        sync_intent=said.sync_intent if said.sync_intent in SYNC_INTENTS else None,
    )


def _is_number(text: str) -> bool:
    return len(text) <= _MAX_DIGITS and text.removeprefix("-").isdecimal()
