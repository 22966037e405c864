"""Judge a recording by what it holds; nothing is decoded, nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from continuon.errors import DataError
from continuon.rlds.episode import (
    ACTION,
    DEPTH,
    HOST_CLOCKS,
    RGB,
    Codec,
    EndReason,
    EpisodeMetadata,
    role_problem,
)
from continuon.rlds.findings import (
    RULES,
    EpisodeReport,
    Finding,
    Profile,
    Severity,
    severity_of,
)
from continuon.rlds.measure import (
    duplicate_frames,
    episode_figures,
    image_problems,
    median_step_ns,
    rate_hz,
)
from continuon.rlds.recording import Recording, Stream, open_recording
from continuon.rlds.steps import UNKNOWN_NS, EpisodeSteps, align, nearest

__all__ = ["EpisodeReport", "Finding", "judge", "validate_recording"]

MAX_SKEW_MS = 5.0
MIN_CAMERA_DT_NS = 8_000_000
_CODECS = {
    RGB: frozenset({Codec.JPEG, Codec.PNG}),
    DEPTH: frozenset({Codec.PNG16}),
}
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
        finding = Finding("E-EPISODE-OPEN-001", path.name, str(error))
        return EpisodeReport(
            path=str(path),
            episode_id=None,
            origin="unknown",
            profile=profile,
            errors=(finding,),
            warnings=(),
            figures={},
        )
    return judge(recording, profile=profile)


def judge(recording: Recording, *, profile: Profile = "strict") -> EpisodeReport:
    """Return the verdict on an open recording."""
    stamp_source = _stamp_source(recording)
    findings = list(_metadata_findings(recording.metadata))
    findings += _stream_findings(recording)
    findings += _clock_findings(recording)
    if stamp_source == "conversion":
        step = median_step_ns(recording.streams[RGB].capture_ns) / 1e6
        findings.append(_found("TIME-003", RGB, f"median step {step:.1f} ms"))
    if recording.end_reason in _FAILED_ENDS:
        findings.append(_found("END-001", "end", recording.end_reason.value))
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
    errors: list[Finding] = []
    warnings: list[Finding] = []
    for finding in findings:
        is_error = severity_of(finding.code, profile) is Severity.ERROR
        (errors if is_error else warnings).append(finding)
    return EpisodeReport(
        path=str(recording.path),
        episode_id=recording.metadata.episode_id,
        origin=recording.metadata.origin.value,
        profile=profile,
        errors=tuple(errors),
        warnings=tuple(warnings),
        figures=figures,
    )


def _found(code: str, where: str, seen: str) -> Finding:
    code = f"E-EPISODE-{code}"
    return Finding(code, where, f"{RULES[code][2]}: {seen}")


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


def _metadata_findings(metadata: EpisodeMetadata) -> Iterator[Finding]:
    problem = role_problem(
        metadata.xr_mode, metadata.control_role, metadata.action_source
    )
    if problem:
        yield _found("ROLE-001", "metadata", problem)
    required = ("environment_id", "robot_id", "robot_model", "frame_convention")
    for field in (*required, "software"):
        if not getattr(metadata, field):
            yield _found("META-001", f"metadata.{field}", "empty")
    if not metadata.start_wall_ns:
        yield _found("META-002", "metadata.start_wall_ns", "0")
    share = metadata.share
    if share.public and (not share.pii_cleared or share.pending_review):
        yield _found("SHARE-001", "metadata.share", "public")


def _stream_findings(recording: Recording) -> Iterator[Finding]:
    for name in (RGB, ACTION):
        if name not in recording.streams or not len(recording.streams[name]):
            yield _found("STREAM-001", name, "no samples")
    for name, stream in recording.streams.items():
        if stream.spec.codec not in _CODECS.get(name, {stream.spec.codec}):
            yield _found("STREAM-002", name, stream.spec.codec.value)
            continue
        yield from _time_findings(name, stream)
        yield from _drop_findings(name, stream, recording.drops.get(name, 0))
        if stream.spec.is_image:
            for code, row, text in image_problems(stream):
                yield _found(code, f"{name}[{row}]", text)
        elif name == ACTION:
            yield from _action_findings(stream)
        else:
            bad = np.logical_not(np.isfinite(stream.vectors).all(axis=1))
            if bad.any():
                yield _found("STATE-001", name, _rows(bad))


def _time_findings(name: str, stream: Stream) -> Iterator[Finding]:
    step = np.diff(stream.capture_ns)
    if (step < 0).any():
        yield _found("TIME-001", name, _rows(step < 0))
    if (step == 0).any():
        yield _found("TIME-002", name, _rows(step == 0))
    if (step > 1_000_000_000).any():
        yield _found("TIME-004", name, f"{step.max() / 1e9:.2f} s")
    measured, nominal = rate_hz(stream.capture_ns), stream.spec.rate_hz
    if measured and nominal and not 0.8 <= measured / nominal <= 1.2:
        yield _found("RATE-001", name, f"{measured:.1f} Hz for {nominal:g} Hz")


def _drop_findings(name: str, stream: Stream, drops: int) -> Iterator[Finding]:
    if drops:
        total = drops + len(stream)
        yield _found("DROP-001", name, f"{drops} of {total}")
        if drops > 0.05 * total:
            yield _found("DROP-002", name, f"{drops} of {total}")


def _action_findings(stream: Stream) -> Iterator[Finding]:
    bad = np.logical_not(np.isfinite(stream.vectors).all(axis=1))
    if bad.any():
        yield _found("ACTION-001", ACTION, _rows(bad))
    columns = [i for i, name in enumerate(stream.spec.names) if name in _NORMALISED]
    if columns:
        beyond = np.abs(stream.vectors[:, columns]).max(axis=1) > 1
        if beyond.any():
            yield _found("ACTION-002", ACTION, _rows(beyond))


def _clock_findings(recording: Recording) -> Iterator[Finding]:
    offsets = recording.clock_offsets
    measured = {offset.device for offset in offsets}
    for name, stream in recording.streams.items():
        clock = stream.spec.clock
        if clock in HOST_CLOCKS or not len(stream):
            continue
        if clock not in measured:
            yield _found("CLOCK-001", name, clock)
            continue
        mine = [offset for offset in offsets if offset.device == clock]
        at = np.array([offset.measured_at_ns for offset in mine], np.int64)
        size = np.array([offset.offset_ns for offset in mine], np.int64)
        rows, _ = nearest(stream.capture_ns, at)
        own = stream.device_ns != stream.capture_ns
        gap = np.abs(stream.capture_ns - stream.device_ns - size[rows])[own]
        if gap.size and np.percentile(gap, 99) > MAX_SKEW_MS * 1e6:
            yield _found(
                "CLOCK-002", name, f"p99 {np.percentile(gap, 99) / 1e6:.1f} ms"
            )


def _step_findings(steps: EpisodeSteps, figures: dict[str, Any]) -> Iterator[Finding]:
    if len(steps) < 2:
        yield _found("SHORT-001", RGB, f"{len(steps)}")
    for code, pair in (("SKEW-001", "rgb-depth"), ("SKEW-002", "rgb-state")):
        skew = figures["skew_ms"].get(pair)
        if skew is not None and skew["p99"] > MAX_SKEW_MS:
            yield _found(code, pair, f"p99 {skew['p99']:.1f} ms")
    if figures["duplicates"] > 0.02 * len(steps):
        yield _found("DUP-001", RGB, f"{figures['duplicates']} of {len(steps)}")
    masked = int((~steps.valid).sum())
    if masked:
        yield _found("VALID-001", "steps", f"{masked} of {len(steps)}")
        if masked > 0.1 * len(steps):
            yield _found("VALID-002", "steps", f"{masked} of {len(steps)}")
    for name, skew in steps.skew_ns.items():
        if (skew == UNKNOWN_NS).all():
            yield _found("STREAM-001", name, "no sample for any step")


def _rows(bad: ArrayLike) -> str:
    rows = np.flatnonzero(bad)
    shown = ", ".join(map(str, rows[:5]))
    return f"{rows.size} rows ({shown}{', ...' if rows.size > 5 else ''})"
