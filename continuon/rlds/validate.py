"""Judge a recording by what it holds; nothing is decoded, nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.rlds.episode import (
    ACTION,
    AUDIO,
    DEPTH,
    HOST_CLOCKS,
    NOMINAL_CLOCK,
    RGB,
    Codec,
    EndReason,
)
from continuon.rlds.findings import (
    EpisodeReport,
    Finding,
    Profile,
    found,
    rows_text,
    severity_of,
    unreadable,
    weigh,
)
from continuon.rlds.measure import (
    duplicate_frames,
    episode_figures,
    image_problems,
    median_step_ns,
    rate_hz,
)
from continuon.rlds.metadata_rules import metadata_findings
from continuon.rlds.plan_columns import step_columns
from continuon.rlds.plan_record import holds_plan, plan_in
from continuon.rlds.plan_rules import plan_findings
from continuon.rlds.recording import Recording, Stream, open_recording
from continuon.rlds.sound import missing_share
from continuon.rlds.steps import UNKNOWN_NS, EpisodeSteps, align, nearest
from continuon.rlds.stream_spec import STEPS

__all__ = ["EpisodeReport", "Finding", "judge", "validate_recording"]

MAX_SKEW_MS = 5.0
MIN_CAMERA_DT_NS = 8_000_000
_CODECS = {
    RGB: frozenset({Codec.JPEG, Codec.PNG}),
    DEPTH: frozenset({Codec.PNG16, Codec.DEPTH_LZ4}),
    AUDIO: frozenset({Codec.AUDIO}),
}
_MAX_SILENT_SHARE = 0.05
_NORMALISED = frozenset({"steering", "throttle"})
_FAILED_ENDS = frozenset(
    {EndReason.CAMERA_LOST, EndReason.DISK_FULL, EndReason.FAULT, EndReason.TRUNCATED}
)


def validate_recording(path: Path, *, profile: Profile = "strict") -> EpisodeReport:
    """Return errors, warnings and figures of one recording.

    A file that cannot be opened is reported, not raised: it is one error.

    Raises:
        UsageError: no such profile.
    """
    severity_of("E-EPISODE-OPEN-001", profile)
    path = Path(path)
    try:
        recording = open_recording(path)
    except DataError as error:
        return unreadable(path, error, profile)
    return judge(recording, profile=profile)


def judge(recording: Recording, *, profile: Profile = "strict") -> EpisodeReport:
    """Return the verdict on an open recording."""
    stamp_source = _stamp_source(recording)
    findings = list(metadata_findings(recording.metadata))
    findings += _stream_findings(recording)
    findings += _clock_findings(recording)
    if stamp_source == "conversion":
        step = median_step_ns(recording.streams[RGB].capture_ns) / 1e6
        findings.append(found("TIME-003", RGB, f"median step {step:.1f} ms"))
    if stamp_source == "nominal":
        findings.append(found("TIME-005", "streams", "step number over rate"))
    if recording.end_reason in _FAILED_ENDS:
        findings.append(found("END-001", "end", recording.end_reason.value))
    figures: dict[str, Any] = {"steps": 0, "stamp_source": stamp_source}
    try:
        steps = align(recording)
    except DataError:
        steps = None
    if steps is not None:
        repeated = duplicate_frames(steps.image)
        figures = episode_figures(recording, steps, repeated)
        figures["stamp_source"] = stamp_source
        findings += _step_findings(steps, figures)
    if holds_plan(recording):
        findings += _plan(recording)
    errors, warnings = weigh(findings, profile)
    return EpisodeReport(
        path=str(recording.path),
        episode_id=recording.metadata.episode_id,
        origin=recording.metadata.origin.value,
        profile=profile,
        errors=errors,
        warnings=warnings,
        figures=figures,
    )


def _plan(recording: Recording) -> Iterator[Finding]:
    """Yield what is wrong with the plan's steps that ride along in a recording."""
    try:
        episode = plan_in(recording)
    except DataError as error:
        yield found("STEP-001", STEPS, str(error))
        return
    yield from plan_findings(episode, step_columns(episode.steps))


def _stamp_source(recording: Recording) -> str:
    """Return where the stamps come from: "capture", "write" or "conversion".

    What an importer wrote down stands, unless the frames follow faster than the camera
    can deliver: then the stamps are those of a conversion, whoever says otherwise.
    """
    said = recording.metadata.provenance.get("stamp_source", "capture")
    frames = recording.streams.get(RGB)
    step = 0.0 if frames is None else median_step_ns(frames.capture_ns)
    nominal = recording.metadata.camera_rate_hz
    shortest = 0.4e9 / nominal if nominal else MIN_CAMERA_DT_NS
    return "conversion" if 0 < step < shortest else said


def _stream_findings(recording: Recording) -> Iterator[Finding]:
    if ACTION not in recording.streams:
        yield found("STREAM-003", ACTION, "no such stream")
    for name in (RGB, ACTION):
        stream = recording.streams.get(name)
        if (stream is None and name == RGB) or (stream is not None and not len(stream)):
            yield found("STREAM-001", name, "no samples")
    for name, stream in recording.streams.items():
        unknown = stream.spec.component_units().count(None)
        if unknown:
            yield found("UNIT-003", name, f"{unknown} of {len(stream.spec.names)}")
        if stream.spec.codec not in _CODECS.get(name, {stream.spec.codec}):
            yield found("STREAM-002", name, stream.spec.codec.value)
            continue
        yield from _time_findings(name, stream)
        yield from _drop_findings(name, stream, recording.drops.get(name, 0))
        if stream.spec.is_image:
            for code, row, text in image_problems(stream):
                yield found(code, f"{name}[{row}]", text)
        elif not stream.spec.is_vector:
            sizes = stream.blobs.sizes()
            if not sizes.all():
                yield found("BLOB-001", name, rows_text(sizes == 0))
            if stream.spec.codec is Codec.AUDIO:
                yield from _sound_findings(stream, sizes)
        elif name == ACTION:
            yield from _action_findings(stream)
        else:
            bad = np.logical_not(np.isfinite(stream.vectors))
            if bad.any():
                dead = np.flatnonzero(bad.any(axis=0))
                names = ", ".join(stream.spec.names[i] for i in dead)
                rows = rows_text(bad.any(axis=1))
                yield found("STATE-001", name, f"{rows} of {names}")


def _sound_findings(stream: Stream, sizes: NDArray[np.int64]) -> Iterator[Finding]:
    if (sizes % 2).any():
        yield found("SOUND-001", AUDIO, rows_text(sizes % 2 == 1))
    missing = missing_share(stream.spec, stream.capture_ns, sizes)
    if missing > _MAX_SILENT_SHARE:
        yield found("SOUND-002", AUDIO, f"{100 * missing:.1f} %")


def _time_findings(name: str, stream: Stream) -> Iterator[Finding]:
    step = np.diff(stream.capture_ns)
    if (step < 0).any():
        yield found("TIME-001", name, rows_text(step < 0))
    if (step == 0).any():
        yield found("TIME-002", name, rows_text(step == 0))
    if (step > 1_000_000_000).any():
        yield found("TIME-004", name, f"{step.max() / 1e9:.2f} s")
    measured, nominal = rate_hz(stream.capture_ns), stream.spec.rate_hz
    if measured and nominal and not 0.8 <= measured / nominal <= 1.2:
        yield found("RATE-001", name, f"{measured:.1f} Hz for {nominal:g} Hz")


def _drop_findings(name: str, stream: Stream, drops: int) -> Iterator[Finding]:
    if drops:
        total = drops + len(stream)
        yield found("DROP-001", name, f"{drops} of {total}")
        if drops > 0.05 * total:
            yield found("DROP-002", name, f"{drops} of {total}")


def _action_findings(stream: Stream) -> Iterator[Finding]:
    bad = np.logical_not(np.isfinite(stream.vectors).all(axis=1))
    if bad.any():
        yield found("ACTION-001", ACTION, rows_text(bad))
    columns = [i for i, name in enumerate(stream.spec.names) if name in _NORMALISED]
    if columns:
        beyond = np.abs(stream.vectors[:, columns]).max(axis=1) > 1
        if beyond.any():
            yield found("ACTION-002", ACTION, rows_text(beyond))


def _clock_findings(recording: Recording) -> Iterator[Finding]:
    offsets = recording.clock_offsets
    measured = {offset.device for offset in offsets}
    for name, stream in recording.streams.items():
        clock = stream.spec.clock
        if clock in {*HOST_CLOCKS, NOMINAL_CLOCK} or not len(stream):
            continue
        if clock not in measured:
            yield found("CLOCK-001", name, clock)
            continue
        mine = [offset for offset in offsets if offset.device == clock]
        at = np.array([offset.measured_at_ns for offset in mine], np.int64)
        size = np.array([offset.offset_ns for offset in mine], np.int64)
        rows, _ = nearest(stream.capture_ns, at)
        own = stream.device_ns != stream.capture_ns
        gap = np.abs(stream.capture_ns - stream.device_ns - size[rows])[own]
        if gap.size and np.percentile(gap, 99) > MAX_SKEW_MS * 1e6:
            yield found("CLOCK-002", name, f"p99 {np.percentile(gap, 99) / 1e6:.1f} ms")


def _step_findings(steps: EpisodeSteps, figures: dict[str, Any]) -> Iterator[Finding]:
    if len(steps) < 2:
        yield found("SHORT-001", RGB, f"{len(steps)}")
    for code, pair in (("SKEW-001", "rgb-depth"), ("SKEW-002", "rgb-state")):
        skew = figures["skew_ms"].get(pair)
        if skew is not None and skew["p99"] > MAX_SKEW_MS:
            yield found(code, pair, f"p99 {skew['p99']:.1f} ms")
    if figures["duplicates"] > 0.02 * len(steps):
        yield found("DUP-001", RGB, f"{figures['duplicates']} of {len(steps)}")
    masked = int((~steps.valid).sum())
    if masked:
        yield found("VALID-001", "steps", f"{masked} of {len(steps)}")
        if masked > 0.1 * len(steps):
            yield found("VALID-002", "steps", f"{masked} of {len(steps)}")
    for name, skew in steps.skew_ns.items():
        if (skew == UNKNOWN_NS).all():
            yield found("STREAM-001", name, "no sample for any step")
