"""Anonymised export: only what an allow-list names leaves, names become keyed tags.

Identifiers are replaced by HMAC-SHA256 under a secret that is never written anywhere,
so that the same robot gets the same tag in two exports and nobody without the secret
can test a guess (RFC 2104). Free text, owner, host, paths and provenance stay behind.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec

import continuon
from continuon.errors import ContractError, DataError, UsageError
from continuon.rlds.episode import (
    ACTION,
    CAR_FRAME,
    DEPTH,
    RGB,
    STATE,
    Codec,
    EpisodeMetadata,
    Share,
    StreamSpec,
)
from continuon.rlds.file_sink import sync_directory, write_atomic
from continuon.rlds.importers.locate import Format
from continuon.rlds.recorder import EpisodeRecorder, RecordingSummary
from continuon.rlds.recording import Recording, open_recording
from continuon.rlds.scrub import bare_jpeg, bare_png
from continuon.rlds.steps import recordings_in
from continuon.rlds.tfds_write import Skipped

__all__ = ["ExportReport", "export_episodes", "pseudonym"]

_MANIFEST = "manifest.json"
_MIN_SECRET_BYTES = 16
_APPLIED = "applied"
"""What the safety kernel let through: numbers, like the action itself."""
_STREAMS = frozenset({RGB, DEPTH, STATE, ACTION, _APPLIED})
_FRAMES = frozenset({"base_link", CAR_FRAME})
_KNOWN_NAME = re.compile(
    r"steering|throttle|speed_mps|steering_position|yaw_rate_rad_s"
    r"|joint_\d{1,2}(_rad|_rad_s|_nm)?|gripper(_\d)?"
)
_ROBOT_MODELS = frozenset({"donkeycar", "car", "arm"})


@attrs.frozen(kw_only=True)
class ExportReport:
    """What left, and what was held back."""

    episodes: tuple[Path, ...]
    manifest_path: Path
    package_id: str
    skipped: tuple[Skipped, ...]

    @property
    def exit_code(self) -> int:
        """0 where every episode was exported, 3 where one was held back."""
        return 3 if self.skipped else 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "episodes": [str(path) for path in self.episodes],
            "manifest_path": str(self.manifest_path),
            "package_id": self.package_id,
            "skipped": [item.as_dict() for item in self.skipped],
            "exit_code": self.exit_code,
        }


def pseudonym(secret: bytes, kind: str, value: str) -> str:
    """Return a tag of 16 hex digits for an identifier of some kind."""
    message = f"{kind}\0{value}".encode()
    return hmac.new(secret, message, hashlib.sha256).hexdigest()[:16]


def export_episodes(
    episodes_dir: Path, output_dir: Path, *, secret: bytes, origin_tag: str
) -> ExportReport:
    """Write an anonymised copy of every recording, and a manifest of digests.

    Pixels are copied as they are (blur faces before, or do not share them), but what
    else a picture file carries, EXIF, comments, thumbnails, stays behind. The output
    is built beside its place and renamed; the same input, secret and tag give the same
    bytes. Recording times become times since the episode's start.

    Raises:
        DataError: no recording, or there is an export already.
        UsageError: a secret below 16 bytes, or a tag that could carry a path or name.
    """
    if len(secret) < _MIN_SECRET_BYTES:
        raise UsageError(
            "E-RLDS-EXPORT-001",
            "the export secret is too short to resist guessing",
            seen=f"{len(secret)} bytes",
            allowed=f"{_MIN_SECRET_BYTES} bytes or more",
            hint="continuon keys new makes one",
        )
    if not origin_tag.replace("-", "").replace("_", "").isalnum():
        raise UsageError(
            "E-RLDS-EXPORT-002",
            "the origin tag is a short word",
            seen=origin_tag,
            allowed="letters, digits, - and _",
        )
    files = recordings_in(Path(episodes_dir))
    output_dir = Path(output_dir)
    if output_dir.exists() and any(output_dir.iterdir()):
        raise DataError(
            "E-RLDS-EXPORT-003",
            "the output directory is not empty, and no export is overwritten",
            where=output_dir,
        )
    work = output_dir.with_name(f".{output_dir.name}.part")
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    summaries: list[RecordingSummary] = []
    skipped: list[Skipped] = []
    windows: list[int] = []
    for file in files:
        try:
            recording = open_recording(file)
            _check_may_leave(recording)
        except DataError as error:
            held = Skipped(pseudonym(secret, "file", file.name), error.code, error.what)
            skipped.append(held)
            continue
        before = set(work.iterdir())
        try:
            summaries.append(_export_one(recording, work, secret, origin_tag))
        except (DataError, ContractError) as error:
            for litter in set(work.iterdir()) - before:
                litter.unlink()
            held = Skipped(pseudonym(secret, "file", file.name), error.code, error.what)
            skipped.append(held)
            continue
        windows.append(recording.metadata.start_wall_ns)
    if not summaries:
        shutil.rmtree(work)
        raise DataError(
            "E-RLDS-EXPORT-004",
            "not one episode may leave",
            where=episodes_dir,
            seen="; ".join(f"{item.code} {item.text}" for item in skipped[:3]),
        )
    package_id = _write_manifest(work, summaries, skipped, windows, origin_tag)
    if output_dir.exists():
        output_dir.rmdir()
    work.rename(output_dir)
    sync_directory(output_dir.parent)
    return ExportReport(
        episodes=tuple(output_dir / summary.path.name for summary in summaries),
        manifest_path=output_dir / _MANIFEST,
        package_id=package_id,
        skipped=tuple(skipped),
    )


def _check_may_leave(recording: Recording) -> None:
    share = recording.metadata.share
    if share.public and (share.pending_review or not share.pii_cleared):
        raise DataError(
            "E-RLDS-EXPORT-006",
            "the episode is to be public, but is not cleared of personal data",
            seen=f"pii_cleared={share.pii_cleared}, pending={share.pending_review}",
            allowed="pii_cleared, and no review pending",
        )
    unknown = sorted(set(recording.streams) - _STREAMS)
    if unknown:
        raise DataError(
            "E-RLDS-EXPORT-005",
            "the episode holds streams that are not on the allow-list",
            seen=f"{len(unknown)} streams",
            allowed=", ".join(sorted(_STREAMS)),
        )


def _export_one(
    recording: Recording, directory: Path, secret: bytes, origin_tag: str
) -> RecordingSummary:
    metadata = _anonymous(recording.metadata, secret, origin_tag)
    specs = tuple(_anonymous_spec(s.spec) for s in recording.streams.values())
    samples: list[tuple[int, int, str, int]] = []
    for order, (name, stream) in enumerate(recording.streams.items()):
        samples += [
            (int(at), order, name, row) for row, at in enumerate(stream.capture_ns)
        ]
    samples.sort()
    start = samples[0][0] if samples else 0
    recorder = EpisodeRecorder(directory, metadata, specs, lossless_pacing=True)
    recorder.open()
    for at, _, name, row in samples:
        stream = recording.streams[name]
        if stream.spec.is_image:
            is_jpeg = stream.spec.codec is Codec.JPEG
            bare = bare_jpeg if is_jpeg else bare_png
            recorder.image(name, bare(stream.blob(row)), capture_ns=at - start)
        else:
            recorder.vector(name, stream.vectors[row], capture_ns=at - start)
    return recorder.close(recording.end_reason)


def _anonymous(
    metadata: EpisodeMetadata, secret: bytes, origin_tag: str
) -> EpisodeMetadata:
    """Build the metadata anew from allowed fields; what is not named here stays."""
    model, frame = metadata.robot_model, metadata.frame_convention
    return EpisodeMetadata(
        schema_version=metadata.schema_version,
        episode_id=f"episode-{pseudonym(secret, 'episode', metadata.episode_id)}",
        origin=metadata.origin,
        xr_mode=metadata.xr_mode,
        control_role=metadata.control_role,
        action_source=metadata.action_source,
        environment_id=pseudonym(secret, "environment", metadata.environment_id),
        robot_id=pseudonym(secret, "robot", metadata.robot_id),
        robot_model=(
            model if model in _ROBOT_MODELS else pseudonym(secret, "model", model)
        ),
        frame_convention=(
            frame if frame in _FRAMES else pseudonym(secret, "frame", frame)
        ),
        tags=(
            f"export-origin:{origin_tag}",
            "anonymization:hmac-sha256",
        ),
        software={"continuon": continuon.__version__},
        start_wall_ns=0,
        control_rate_hz=metadata.control_rate_hz,
        camera_rate_hz=metadata.camera_rate_hz,
        provenance=_allowed_provenance(metadata),
        share=Share(
            public=metadata.share.public,
            pii_cleared=metadata.share.pii_cleared,
            pending_review=metadata.share.pending_review,
        ),
    )


def _allowed_provenance(metadata: EpisodeMetadata) -> dict[str, str]:
    allowed = {
        "stamp_source": {"capture", "write", "conversion", "nominal"},
        "format": {member.value for member in Format},
    }
    facts = metadata.provenance
    return {key: facts[key] for key, ok in allowed.items() if facts.get(key) in ok}


def _anonymous_spec(spec: StreamSpec) -> StreamSpec:
    """Known component names stay; another becomes its number. So do clocks' names."""
    names = tuple(
        name if _KNOWN_NAME.fullmatch(name) else f"component_{number}"
        for number, name in enumerate(spec.names)
    )
    return attrs.evolve(spec, names=names, clock="host")


def _write_manifest(
    work: Path,
    summaries: Sequence[RecordingSummary],
    skipped: Sequence[Skipped],
    windows: Sequence[int],
    origin_tag: str,
) -> str:
    entries = [
        {
            "path": summary.path.name,
            "sha256": summary.sha256,
            "bytes": summary.bytes,
            "counts": dict(summary.counts),
        }
        for summary in summaries
    ]
    day_ns = 86_400 * 1_000_000_000
    known = [at // day_ns for at in windows if at]
    facts = {
        "schema_version": 1,
        "origin_tag": origin_tag,
        "software": f"continuon {continuon.__version__}",
        "anonymization": "allow-list; identifiers hmac-sha256; secret not included",
        "capture_window_utc_days": [min(known), max(known)] if known else None,
        "episodes": entries,
        "skipped": [item.as_dict() for item in skipped],
    }
    content = msgspec.json.encode(facts, order="sorted")
    package_id = hashlib.sha256(content).hexdigest()[:32]
    signed = msgspec.json.encode(facts | {"package_id": package_id}, order="sorted")
    write_atomic(work / _MANIFEST, msgspec.json.format(signed))
    return package_id
