"""Anonymised export: only what an allow-list names leaves, names become keyed tags.

Free text, owner, host, paths and provenance stay behind; how far an episode may go its
owner's consent decides (`sharing_level`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from continuon.clock import ClockOffset
from continuon.durable import sync_directory
from continuon.errors import ContractError, DataError, UsageError
from continuon.rlds.anonymous import Anonymiser, pseudonym
from continuon.rlds.anonymous_step import anonymous_plan
from continuon.rlds.episode import (
    ACTION,
    AUDIO,
    DEPTH,
    RGB,
    STATE,
    Codec,
    EpisodeMetadata,
)
from continuon.rlds.export_manifest import MANIFEST, Packed, Signer, write_manifest
from continuon.rlds.layout import Opening, clock_channel
from continuon.rlds.payloads import image_payload, vector_payload
from continuon.rlds.plan_dir import plan_dirs, read_plan
from continuon.rlds.plan_episode import PlanEpisode
from continuon.rlds.plan_record import holds_plan, plan_in, record_plan
from continuon.rlds.recorder import RecordingSummary
from continuon.rlds.recording import Recording, Stream, open_recording
from continuon.rlds.redact import FindBoxes, Redactor
from continuon.rlds.rewrite import write_recording
from continuon.rlds.sample_queue import Payload, Sample
from continuon.rlds.scrub import bare_picture
from continuon.rlds.sharing_level import LEAVES, SharingLevel, check_may_leave
from continuon.rlds.steps import nearest, recordings_in
from continuon.rlds.tfds_write import Skipped

__all__ = ["ExportReport", "export_episodes", "pseudonym"]

_MIN_SECRET_BYTES = 16
_APPLIED = "applied"
"""What the safety kernel let through: numbers, like the action itself."""
_SURPRISE = "surprise"
"""How wrong the policy's world model was: one number a step."""
_STREAMS = frozenset({RGB, DEPTH, STATE, ACTION, AUDIO, _APPLIED, _SURPRISE})


@attrs.frozen(kw_only=True)
class ExportReport:
    """What left, and what was held back."""

    episodes: tuple[Path, ...]
    manifest_path: Path
    package_id: str
    skipped: tuple[Skipped, ...]
    level: SharingLevel
    is_signed: bool

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
            "level": self.level.value,
            "is_signed": self.is_signed,
            "skipped": [item.as_dict() for item in self.skipped],
            "exit_code": self.exit_code,
        }


def export_episodes(
    episodes_dir: Path,
    output_dir: Path,
    *,
    secret: bytes,
    origin_tag: str,
    level: SharingLevel = SharingLevel.TRAINING,
    signer: Signer | None = None,
    find_boxes: FindBoxes | None = None,
) -> ExportReport:
    """Write an anonymised copy of every episode, and a manifest of digests.

    Recordings and directories of the plan both become recordings. Pictures lose all
    that is not needed to show their pixels; `find_boxes` makes what it finds in them
    unreadable. The output is built beside its place and renamed; the same input,
    secret, key and tag give the same bytes. Recording times become times since the
    episode's start.

    Raises:
        DataError: no episode, none that may leave, or there is an export already.
        UsageError: a secret below 16 bytes, or a tag that could carry a path or name.
    """
    _check_arguments(secret, origin_tag)
    sources = _sources(Path(episodes_dir))
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
    anonymiser = Anonymiser(secret, level, origin_tag)
    redactor = None if find_boxes is None else Redactor(find_boxes)
    packed: list[Packed] = []
    skipped: list[Skipped] = []
    for source in sources:
        before = set(work.iterdir())
        try:
            packed.append(_pack(source, work, anonymiser, redactor))
        except (DataError, ContractError) as error:
            for litter in set(work.iterdir()) - before:
                litter.unlink()
            name = pseudonym(secret, "file", source.name)
            skipped.append(Skipped(name, error.code, error.what))
    if not packed:
        shutil.rmtree(work)
        raise DataError(
            "E-RLDS-EXPORT-004",
            "not one episode may leave",
            where=episodes_dir,
            seen="; ".join(f"{item.code} {item.text}" for item in skipped[:3]),
        )
    package_id = write_manifest(
        work,
        packed,
        skipped,
        origin_tag=origin_tag,
        level=level.value,
        signer=signer,
    )
    if output_dir.exists():
        output_dir.rmdir()
    work.rename(output_dir)
    sync_directory(output_dir.parent)
    return ExportReport(
        episodes=tuple(output_dir / one.summary.path.name for one in packed),
        manifest_path=output_dir / MANIFEST,
        package_id=package_id,
        skipped=tuple(skipped),
        level=level,
        is_signed=signer is not None,
    )


def _check_arguments(secret: bytes, origin_tag: str) -> None:
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


def _sources(folder: Path) -> list[Path]:
    """Return recordings by start time, then the plan's directories by name."""
    plans = plan_dirs(folder) if folder.is_dir() else []
    if plans and not any(folder.glob("*.mcap")):
        return plans
    return [*recordings_in(folder), *plans]


def _pack(
    source: Path, work: Path, anonymiser: Anonymiser, redactor: Redactor | None
) -> Packed:
    plan: PlanEpisode | None = None
    recording: Recording | None = None
    if source.is_dir():
        plan = read_plan(source)
    else:
        recording = open_recording(source)
        if holds_plan(recording):
            plan = plan_in(recording)
    if plan is not None:
        metadata = plan.metadata
        check_may_leave(metadata, anonymiser.level)
        bare = anonymous_plan(plan, anonymiser)
        redacted = None
        if redactor is not None:
            bare, redacted = _redacted_plan(bare, redactor)
        summary, _ = record_plan(bare, work)
    else:
        assert recording is not None
        metadata = recording.metadata
        _check_streams(recording)
        check_may_leave(metadata, anonymiser.level)
        copy = _Copy(recording, anonymiser, redactor)
        summary = copy.write(work)
        redacted = None if redactor is None else copy.redacted
    return Packed(
        summary=summary,
        origin=metadata.origin.value,
        start_ns=metadata.start_wall_ns,
        redacted=redacted,
    )


def _check_streams(recording: Recording) -> None:
    unknown = sorted(
        name
        for name, stream in recording.streams.items()
        if name not in _STREAMS or (name == AUDIO) != (stream.spec.codec is Codec.AUDIO)
    )
    if unknown:
        raise DataError(
            "E-RLDS-EXPORT-005",
            "the episode holds streams that are not on the allow-list",
            seen=f"{len(unknown)} streams",
            allowed=", ".join(sorted(_STREAMS)),
        )


def _marked(metadata: EpisodeMetadata, redacted: int) -> EpisodeMetadata:
    """Say in the episode how many pictures were changed, whatever the number."""
    facts = {**metadata.provenance, "redacted_pictures": str(redacted)}
    return attrs.evolve(metadata, provenance=facts)


def _redacted_plan(episode: PlanEpisode, redactor: Redactor) -> tuple[PlanEpisode, int]:
    blobs = dict(episode.blobs)
    count = 0
    for step in episode.steps:
        video, depth = step.observation.video, step.observation.depth
        if video is None:
            continue
        blobs[video.uri], boxes, size = redactor.colour(blobs[video.uri])
        count += bool(boxes)
        if depth is not None:
            blobs[depth.uri] = redactor.depth(blobs[depth.uri], boxes, size)
    metadata = _marked(episode.metadata, count)
    return attrs.evolve(episode, blobs=blobs, metadata=metadata), count


class _Copy:
    """Copies one recording, sample by sample, in the order of their times."""

    def __init__(
        self, recording: Recording, anonymiser: Anonymiser, redactor: Redactor | None
    ) -> None:
        self._recording = recording
        self._anonymiser = anonymiser
        self._redactor = redactor
        self._pictures: dict[tuple[str, int], bytes] = {}
        self.redacted = 0

    def write(self, directory: Path) -> RecordingSummary:
        """Write the copy; returns its summary."""
        recording, anonymiser = self._recording, self._anonymiser
        metadata = anonymiser.metadata(recording.metadata)
        if self._redactor is not None:
            self._redact(self._redactor)
            metadata = _marked(metadata, self.redacted)
        streams = self._leaving()
        stamps = [s.capture_ns.min() for s in streams.values() if len(s)]
        start = int(min(stamps, default=0))
        specs = tuple(anonymiser.spec(s.spec) for s in streams.values())
        return write_recording(
            directory,
            Opening(metadata, specs),
            self._samples(start, clock_channel(specs)),
            end_reason=recording.end_reason,
            drops={k: v for k, v in recording.drops.items() if k in streams},
        )

    def _leaving(self) -> dict[str, Stream]:
        """Return the streams that go: sound only where the level lets it."""
        sound = LEAVES[self._anonymiser.level].sound
        return {
            name: stream
            for name, stream in self._recording.streams.items()
            if sound or name != AUDIO
        }

    def _samples(self, start_ns: int, clock: int) -> Iterator[Sample]:
        """Yield samples by time, their numbers kept; their clocks' offsets first."""
        streams = list(self._leaving().items())
        clocks = {stream.spec.clock for _, stream in streams}
        offsets = (o for o in self._recording.clock_offsets if o.device in clocks)
        for number, offset in enumerate(offsets):
            kept = self._offset(offset, start_ns)
            yield Sample(clock, number, kept.measured_at_ns, None, kept)
        rows = sorted(
            (at, order, row)
            for order, (_, stream) in enumerate(streams)
            for row, at in enumerate(stream.capture_ns.tolist())
        )
        for at, order, row in rows:
            name, stream = streams[order]
            payload: Payload
            if stream.spec.is_image:
                picture = self._picture(name, row, stream)
                payload = image_payload(stream.spec, picture)
            elif stream.spec.is_vector:
                payload = vector_payload(stream.spec, stream.vectors[row])
            else:
                payload = bytes(stream.blob(row))
            sequence = int(stream.sequence[row])
            yield Sample(order + 1, sequence, at - start_ns, None, payload)

    def _offset(self, offset: ClockOffset, start_ns: int) -> ClockOffset:
        """Keep how well two clocks compare; the device's own stamps stay behind."""
        return ClockOffset(
            device=self._anonymiser.clock(offset.device),
            offset_ns=0,
            uncertainty_ns=offset.uncertainty_ns,
            measured_at_ns=max(offset.measured_at_ns - start_ns, 0),
        )

    def _picture(self, name: str, row: int, stream: Stream) -> bytes:
        changed = self._pictures.get((name, row))
        if changed is not None:
            return changed
        return bare_picture(stream.blob(row), stream.spec.codec)

    def _redact(self, redactor: Redactor) -> None:
        """Make every picture anew in which something was found."""
        frames = self._recording.streams.get(RGB)
        depths = self._recording.streams.get(DEPTH)
        if frames is None or not len(frames):
            return
        found: dict[int, Any] = {}
        for row in range(len(frames)):
            changed, boxes, size = redactor.colour(frames.blob(row))
            if boxes:
                found[row] = (boxes, size)
                self._pictures[RGB, row] = changed
                self.redacted += 1
        if depths is None or not len(depths):
            return
        near, _ = nearest(depths.capture_ns, frames.capture_ns)
        for row, frame in enumerate(near.tolist()):
            if frame in found:
                blob = redactor.depth(depths.blob(row), *found[frame])
                self._pictures[DEPTH, row] = blob
