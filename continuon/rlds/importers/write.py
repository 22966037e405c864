"""Write an imported episode: whole or not at all, and a second time not again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from continuon.clock import ClockOffset
from continuon.errors import ContinuonError, DataError
from continuon.rlds.episode import Codec, EndReason, EpisodeMetadata, StreamSpec
from continuon.rlds.file_sink import FileSink
from continuon.rlds.layout import PART_SUFFIX, SUFFIX
from continuon.rlds.plan_episode import PlanEpisode
from continuon.rlds.plan_record import plan_in, record_plan
from continuon.rlds.recorder import EpisodeRecorder
from continuon.rlds.recording import Recording, open_recording
from continuon.rlds.stream_spec import STEPS
from continuon.rlds.wire import Buffer

__all__ = [
    "ImportedEpisode",
    "ImportedPlan",
    "Reading",
    "write_episode",
    "write_plan_episode",
]


class Reading(NamedTuple):
    """One sample on its way into an episode: an image, its bytes, or numbers."""

    stream: str
    value: Any
    capture_ns: int
    device_ns: int | None = None


@attrs.frozen(eq=False, kw_only=True)
class ImportedEpisode:
    """An episode as its importer read it.

    Attributes:
        readings: gives all samples in time order; called once, and only if needed.
        counts: samples that it will give, by stream.
        jpeg_quality: of pictures that are given as arrays and stored as JPEG.
        shorter: gives, once reading it failed, the episode up to the damage that was
            found; None where nothing is left of it.
    """

    metadata: EpisodeMetadata
    streams: tuple[StreamSpec, ...]
    readings: Callable[[], Iterator[Reading]]
    counts: Mapping[str, int]
    end_reason: EndReason = EndReason.SLICE
    jpeg_quality: int = 95
    clock_offsets: tuple[ClockOffset, ...] = ()
    shorter: Callable[[], ImportedEpisode | None] = lambda: None

    @property
    def samples(self) -> int:
        """How many samples it will give."""
        return sum(self.counts.values())


@attrs.frozen(eq=False)
class ImportedPlan:
    """An episode in the plan's own terms, its steps to ride along as documents."""

    plan: PlanEpisode

    @property
    def metadata(self) -> EpisodeMetadata:
        """The episode's metadata."""
        return self.plan.metadata

    @property
    def counts(self) -> dict[str, int]:
        """How many steps it has."""
        return {STEPS: len(self.plan.steps)}


def write_plan_episode(episode: ImportedPlan, directory: Path) -> Path:
    """Write an episode of the plan; one that is there already is left as it is.

    Raises:
        DataError: another episode of this name is there, or the disk is full.
        ContractError: a sample that no episode may hold.
    """
    path = directory / f"{episode.metadata.episode_id}{SUFFIX}"
    if path.exists():
        there = open_recording(path)
        _check_same(
            path, there, episode.metadata, same_content=episode.plan == plan_in(there)
        )
        return path
    try:
        summary, _ = record_plan(episode.plan, directory)
    except OSError as error:
        if isinstance(error, ContinuonError):
            raise
        raise _does_not_fit(path, error) from error
    return summary.path


def write_episode(episode: ImportedEpisode, directory: Path) -> Path:
    """Write an episode; one that is there already, the same, is left as it is.

    What an import that was killed left half written is written anew. Where a sample is
    refused or the disk is full, no file of the episode remains.

    Raises:
        DataError: another episode of this name is there, the disk is full, or the
            source does not give what it promised.
        ContractError: a sample that no episode may hold.
    """
    metadata = episode.metadata
    sinks: list[_WholeOrNothing] = []

    def opened(path: Path) -> FileSink:
        sinks.append(_WholeOrNothing(path))
        return sinks[-1]

    recorder = EpisodeRecorder(
        directory,
        metadata,
        episode.streams,
        lossless_pacing=True,
        jpeg_quality=episode.jpeg_quality,
        open_sink=opened,
    )
    if recorder.path.exists():
        there = open_recording(recorder.path)
        counts = {name: len(stream) for name, stream in there.streams.items()}
        same = counts == dict(episode.counts)
        _check_same(recorder.path, there, metadata, same_content=same)
        return recorder.path
    part = directory / f"{metadata.episode_id}{PART_SUFFIX}"
    if part.exists():
        FileSink(part, create=False).close()
        part.unlink()
    try:
        recorder.open()
        _hand_over(recorder, episode)
        return recorder.close(episode.end_reason).path
    except BaseException as error:
        for sink in sinks:
            sink.is_spoilt = True
        with contextlib.suppress(ContinuonError, OSError):
            recorder.close(episode.end_reason)
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, ContinuonError):
            raise _does_not_fit(recorder.path, error) from error
        raise


def _hand_over(recorder: EpisodeRecorder, episode: ImportedEpisode) -> None:
    codecs = {spec.name: spec.codec for spec in episode.streams}
    given = dict.fromkeys(episode.counts, 0)
    for offset in episode.clock_offsets:
        recorder.clock_offset(offset)
    for name, value, capture_ns, device_ns in episode.readings():
        match codecs[name]:
            case Codec.DOCUMENT:
                taken = recorder.document(name, value, capture_ns=capture_ns)
            case Codec.BLOB:
                taken = recorder.blob(name, value, capture_ns=capture_ns)
            case Codec.VECTOR:
                taken = recorder.vector(
                    name, value, capture_ns=capture_ns, device_ns=device_ns
                )
            case _:
                taken = recorder.image(
                    name, value, capture_ns=capture_ns, device_ns=device_ns
                )
        if not taken:
            raise _does_not_fit(recorder.path, recorder.ended)
        given[name] = given.get(name, 0) + 1
    if given != dict(episode.counts):
        raise DataError(
            "E-RLDS-IMPORT-009",
            "the source did not give the samples that its tables promise",
            where=recorder.path.name,
            seen=given,
            allowed=dict(episode.counts),
        )


def _does_not_fit(path: Path, why: object) -> DataError:
    return DataError(
        "E-RLDS-IMPORT-006",
        "the disk did not hold the episode, and no part of it was kept",
        where=path,
        seen=why,
        hint="make room and import again: what is there already is kept",
    )


class _WholeOrNothing(FileSink):
    """A file that is not published once a write to it has failed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.is_spoilt = False
        self._failure: OSError | None = None

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Append, and remember where that fails."""
        try:
            super().append(buffers)
        except OSError as error:
            self._failure = error
            raise

    def datasync(self) -> None:
        """Bring what was appended to the disk, and remember where that fails."""
        try:
            super().datasync()
        except OSError as error:
            self._failure = error
            raise

    def publish(self, final: Path) -> None:
        """Publish what is whole.

        Raises:
            DataError: something was not written, or the episode was given up.
        """
        if self._failure is not None or self.is_spoilt:
            raise _does_not_fit(final, self._failure)
        super().publish(final)


def _check_same(
    path: Path, there: Recording, metadata: EpisodeMetadata, *, same_content: bool
) -> None:
    software = there.metadata.software
    same = attrs.evolve(there.metadata, software=metadata.software) == metadata
    if not same or not same_content:
        raise DataError(
            "E-RLDS-IMPORT-007",
            "another episode of this name is there already",
            where=path,
            seen=f"written by {dict(software)}",
            hint="import into an empty directory",
        )
