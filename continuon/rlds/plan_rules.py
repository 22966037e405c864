"""The plan's rules over steps: each yields findings, none stops another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from continuon.rlds.episode import (
    ACTION,
    ActionSource,
    EpisodeMetadata,
    XrMode,
    role_problem,
)
from continuon.rlds.findings import Finding, found, rows_text
from continuon.rlds.observation import (
    COORDINATION_MODES,
    COORDINATION_PHASES,
    SYNC_INTENTS,
)
from continuon.rlds.plan_columns import StepColumns
from continuon.rlds.plan_episode import (
    PlanEpisode,
    blob_sizes,
    is_inside,
    required_blocks,
)
from continuon.rlds.step import Step, blob_refs
from continuon.rlds.units import is_normalised

__all__ = [
    "MAX_LENGTH_ERROR",
    "MAX_SKEW_NS",
    "MIN_GLOVE_COVERAGE",
    "plan_findings",
]

MAX_SKEW_NS = 5_000_000
MAX_LENGTH_ERROR = 1e-3
MIN_GLOVE_COVERAGE = 0.95
_AUDIO_FORMATS = frozenset({"pcm16", "pcm-s16", "wav", "flac", "opus"})
_AUDIO_RATES_HZ = (8_000, 192_000)
_MAX_CHANNELS = 16
_DELTA_TOLERANCE_MS = 0.5
_SKEW_CODES = {"depth": "SKEW-001", "robot_state": "SKEW-002"}
_NEW_IN_1_1 = ("media", "dialog", "world_model", "segmentation")
_NEW_ACTION_IN_1_1 = ("dialog", "planner", "tool_calls")


def plan_findings(episode: PlanEpisode, columns: StepColumns) -> Iterator[Finding]:
    """Yield all that is wrong or odd with an episode's steps and blobs."""
    steps, metadata = episode.steps, episode.metadata
    if not steps:
        yield found("EMPTY-001", "steps", "0 steps")
        return
    yield from _order(steps)
    yield from _blocks(steps, metadata)
    yield from _version(steps, metadata)
    yield from _roles(steps, metadata)
    yield from _words(steps)
    yield from _frames(steps)
    yield from _times(columns)
    yield from _numbers(episode, columns)
    yield from _audio(steps)
    yield from _blobs(episode)


def _order(steps: Sequence[Step]) -> Iterator[Finding]:
    index = np.array([step.step_index for step in steps])
    bad = index != index[0] + np.arange(len(steps))
    if bad.any() or index[0] < 0:
        yield found("INDEX-001", "steps", rows_text(bad))
    first = np.array([step.is_first for step in steps])
    last = np.array([step.is_last for step in steps])
    terminal = np.array([step.is_terminal for step in steps])
    at = np.arange(len(steps))
    wrong = (first != (at == 0)) | (last != (at == len(steps) - 1)) | (terminal & ~last)
    if wrong.any():
        yield found("FLAG-001", "steps", rows_text(wrong))
    masked = sum(not step.valid for step in steps)
    if masked:
        yield found("VALID-001", "steps", f"{masked} of {len(steps)}")
        if masked > 0.1 * len(steps):
            yield found("VALID-002", "steps", f"{masked} of {len(steps)}")


def _blocks(steps: Sequence[Step], metadata: EpisodeMetadata) -> Iterator[Finding]:
    for field in required_blocks(metadata):
        absent = _where(not getattr(step.observation, field) for step in steps)
        if absent.any():
            yield found("BLOCK-001", f"observation.{field}", rows_text(absent))
    observer = metadata.xr_mode is XrMode.OBSERVER
    empty = _where(
        not (step.action.command or step.action.arm_commands)
        and not (observer and step.action.annotation)
        for step in steps
    )
    if empty.any():
        yield found("BLOCK-002", "action.command", rows_text(empty))
    sizes = Counter(len(step.action.command) for step in steps)
    if len(sizes) > 1:
        yield found("BLOCK-003", "action.command", f"lengths {sorted(sizes)}")


def _version(steps: Sequence[Step], metadata: EpisodeMetadata) -> Iterator[Finding]:
    if metadata.schema_version != "1.0":
        return
    newer = {n for n in _NEW_IN_1_1 for s in steps if getattr(s.observation, n)}
    newer |= {n for n in _NEW_ACTION_IN_1_1 for s in steps if getattr(s.action, n)}
    if newer:
        yield found("VERSION-001", "steps", ", ".join(sorted(newer)))


def _roles(steps: Sequence[Step], metadata: EpisodeMetadata) -> Iterator[Finding]:
    known = {source.value: source for source in ActionSource}
    unknown = sorted({step.action.source for step in steps} - set(known))
    if unknown:
        yield found("SOURCE-001", "action.source", ", ".join(unknown[:5]))
    for name in sorted({step.action.source for step in steps} & set(known)):
        problem = role_problem(metadata.xr_mode, metadata.control_role, known[name])
        if problem:
            yield found("SOURCE-002", "action.source", problem)
    if metadata.xr_mode is XrMode.WORKSTATION:
        if not any(step.action.ui_action for step in steps):
            yield found("MODE-001", "action.ui_action", "none in any step")
    elif metadata.xr_mode is XrMode.OBSERVER and (
        metadata.action_source is ActionSource.HUMAN_SUPERVISOR
        and not any(step.action.annotation for step in steps)
    ):
        yield found("MODE-002", "action.annotation", "none in any step")


def _words(steps: Sequence[Step]) -> Iterator[Finding]:
    for field, allowed in (
        ("mode", COORDINATION_MODES),
        ("phase", COORDINATION_PHASES),
        ("sync_intent", SYNC_INTENTS),
    ):
        said = {
            getattr(step.observation.coordination, field)
            for step in steps
            if step.observation.coordination is not None
        }
        foreign = sorted(map(str, said - {*allowed, None}))
        if foreign:
            yield found("ENUM-001", f"coordination.{field}", ", ".join(foreign[:5]))
    models = [step.observation.world_model for step in steps]
    if any(m is not None and m.latent_tokens and not m.codebook_id for m in models):
        yield found("WORLD-001", "world_model", "latent_tokens")
    bad = _where(
        any(not _is_json(c.args_json) for c in s.action.tool_calls) for s in steps
    )
    if bad.any():
        yield found("TOOL-001", "action.tool_calls", rows_text(bad))


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True


def _frames(steps: Sequence[Step]) -> Iterator[Finding]:
    seen = [step.observation for step in steps]
    video = [o.video_frame_id for o in seen]
    states = [o.robot_state and o.robot_state.frame_id for o in seen]
    sounds = [o.audio and o.audio.frame_id for o in seen]
    for name, others in (
        ("depth_frame_id", [o.depth_frame_id for o in seen]),
        ("robot_state.frame_id", states),
        ("audio.frame_id", sounds),
    ):
        pairs = zip(others, video, strict=True)
        differ = _where(bool(a) and bool(b) and a != b for a, b in pairs)
        if differ.any():
            yield found("FRAME-001", name, rows_text(differ))
    ids = [name for name in video if name]
    if len(set(ids)) != len(ids):
        repeated = sum(count - 1 for count in Counter(ids).values())
        yield found("FRAME-002", "video_frame_id", f"{repeated} repeat another step's")


def _times(columns: StepColumns) -> Iterator[Finding]:
    steps = np.diff(columns.stamp_ns)
    if (steps < 0).any():
        yield found("TIME-001", "steps", rows_text(steps < 0))
    if (steps == 0).any():
        yield found("TIME-002", "steps", rows_text(steps == 0))
    if (steps > 1_000_000_000).any():
        yield found("TIME-004", "steps", f"{steps.max() / 1e9:.2f} s")
    for name, column in columns.times.items():
        backwards = np.diff(column.times_ns) < 0
        if backwards.any():
            yield found("TIME-001", name, rows_text(backwards))
        if name == ACTION:  # a command holds: its age is no skew
            continue
        if not column.comparable:
            yield found("CLOCK-003", name, "another clock than the step's")
            continue
        far = np.abs(column.skew_ns) > MAX_SKEW_NS
        if far.any():
            p99 = np.percentile(np.abs(column.skew_ns), 99) / 1e6
            code = _SKEW_CODES.get(name.split()[0].replace("arm", "robot_state"))
            if p99 > MAX_SKEW_NS / 1e6:
                yield found(code or "SKEW-003", name, f"p99 {p99:.1f} ms")
            else:
                yield found("SKEW-004", name, rows_text(far))


def _numbers(episode: PlanEpisode, columns: StepColumns) -> Iterator[Finding]:
    for name, count in Counter(field for _, field in columns.unfinished).items():
        code = "ACTION-001" if name.startswith("action.") else "FINITE-001"
        yield found(code, name, f"{count} steps")
    for name, count in Counter(field for _, field in columns.outside).items():
        yield found("RANGE-001", name, f"{count} steps")
    gaze, quaternion = columns.gaze_error, columns.quaternion_error
    for code, name, error in (
        ("UNIT-001", "gaze.direction", gaze),
        ("UNIT-002", "orientation_quat", quaternion),
    ):
        off = ~(error <= MAX_LENGTH_ERROR)
        if off.any():
            yield found(code, name, rows_text(off))
    valid = columns.glove_valid
    if valid.size:
        coverage = float(valid.sum()) / len(columns)
        if coverage < MIN_GLOVE_COVERAGE:
            yield found("GLOVE-001", "glove", f"{coverage:.1%} of the steps")
    names = next((s.names for s in episode.streams if s.name == ACTION), ())
    scaled = [at for at, name in enumerate(names) if is_normalised(name)]
    if scaled and len(scaled) <= min(len(s.action.command) for s in episode.steps):
        beyond = _where(
            any(
                abs(s.action.command[at]) > 1
                for at in scaled
                if at < len(s.action.command)
            )
            for s in episode.steps
        )
        if beyond.any():
            yield found("ACTION-002", "action.command", rows_text(beyond))


def _audio(steps: Sequence[Step]) -> Iterator[Finding]:
    sounds = [(at, s) for at, s in enumerate(steps) if s.observation.audio is not None]
    kinds: set[tuple[int, int, str]] = set()
    off = np.zeros(len(steps), bool)
    for at, step in sounds:
        audio = step.observation.audio
        assert audio is not None
        kinds.add((audio.sample_rate_hz, audio.num_channels, audio.format))
        delta = audio.delta_ms_to_frame
        measured = (audio.timestamp_ns - step.timestamp_ns) / 1e6
        off[at] = delta is not None and not abs(delta - measured) <= _DELTA_TOLERANCE_MS
    for kind in sorted(kinds):
        if not _is_sound(*kind):
            yield found("AUDIO-001", "audio", "{} Hz, {} channels, {}".format(*kind))
    if len(kinds) > 1:
        yield found("AUDIO-002", "audio", f"{len(kinds)} kinds of sound")
    if off.any():
        yield found("AUDIO-003", "audio.delta_ms_to_frame", rows_text(off))


def _is_sound(rate_hz: int, channels: int, form: str) -> bool:
    low, high = _AUDIO_RATES_HZ
    return (
        low <= rate_hz <= high
        and 1 <= channels <= _MAX_CHANNELS
        and form in _AUDIO_FORMATS
    )


def _blobs(episode: PlanEpisode) -> Iterator[Finding]:
    named = {ref.uri: ref.kind for step in episode.steps for ref in blob_refs(step)}
    astray = sorted(uri for uri in named if not is_inside(uri))
    if astray:
        yield found("BLOB-003", "blobs", f"{len(astray)} ({', '.join(astray[:3])})")
    absent = sorted(uri for uri in named if is_inside(uri) and uri not in episode.blobs)
    if absent:
        yield found("BLOB-002", "blobs", f"{len(absent)} ({', '.join(absent[:3])})")
    sizes = blob_sizes(episode.blobs)
    empty = sorted(uri for uri, size in sizes.items() if not size)
    if empty:
        yield found("BLOB-001", "blobs", f"{len(empty)} ({', '.join(empty[:3])})")


def _where(flags: Iterable[bool]) -> NDArray[np.bool_]:
    return np.fromiter(flags, bool)
