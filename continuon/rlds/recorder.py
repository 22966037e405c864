"""Record an episode: samples in, one crash-safe MCAP file out.

The caller only hands samples over. A thread per camera stream encodes, one thread
writes in the order of submission, one brings the file to the disk each second. What is
handed over but not yet written is bounded per stream; past the bound a sample is
dropped and counted, or the caller waits (`lossless_pacing`, for virtual time).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import ClockOffset
from continuon.errors import ContractError, DataError, UsageError
from continuon.rlds.depth_codecs import encode_depth
from continuon.rlds.episode import (
    AUDIO,
    DEPTH,
    RGB,
    Codec,
    EndReason,
    EpisodeMetadata,
    StreamSpec,
    role_problem,
)
from continuon.rlds.episode_log import EpisodeLog
from continuon.rlds.file_sink import FileSink, sha256_of
from continuon.rlds.images import encode_colour_png, encode_jpeg
from continuon.rlds.layout import PART_SUFFIX, SUFFIX, Opening, clock_channel
from continuon.rlds.payloads import (
    check_time,
    document_payload,
    image_payload,
    vector_payload,
)
from continuon.rlds.record_session import Encode, RecordSession
from continuon.rlds.sample_queue import Lane, Payload, SampleQueue
from continuon.rlds.sound import audio_payload

__all__ = ["EpisodeRecorder", "RecordingSummary"]

_PICTURES = tuple(c for c in Codec if c in {Codec.JPEG, Codec.PNG} or c.is_depth)


@attrs.frozen(kw_only=True)
class RecordingSummary:
    """What a finished recording holds; `drops` counts samples that are not in it."""

    path: Path
    episode_id: str
    end_reason: EndReason
    counts: Mapping[str, int]
    drops: Mapping[str, int]
    bytes: int

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the file as it stands, as hex: all of it is read."""
        return sha256_of(self.path)

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "path": str(self.path),
            "episode_id": self.episode_id,
            "end_reason": self.end_reason.value,
            "counts": dict(self.counts),
            "drops": dict(self.drops),
            "bytes": self.bytes,
        }


class EpisodeRecorder:
    """Context manager around one open recording; nothing is opened before `with`.

    Leaving the block closes the recording: as `complete`, or as `fault` on an
    exception. One thread hands samples over; the arrays are copied at once.

    Args:
        directory: where `<episode_id>.mcap` will stand; made if absent.
        queue_size: samples of one stream that may wait, raw or encoded.
        lossless_pacing: wait for room in place of dropping.
        jpeg_quality: of frames given as arrays; JPEG bytes are stored as they come.
        open_sink: opens the file; tests put a failing disk here.
    """

    def __init__(
        self,
        directory: Path,
        metadata: EpisodeMetadata,
        streams: Sequence[StreamSpec],
        *,
        queue_size: int = 16,
        lossless_pacing: bool = False,
        jpeg_quality: int = 90,
        open_sink: Callable[[Path], FileSink] = FileSink,
    ) -> None:
        self.directory = Path(directory)
        self.metadata = metadata
        self.streams = tuple(streams)
        self.summary: RecordingSummary | None = None
        self._channels = {spec.name: i for i, spec in enumerate(streams, start=1)}
        self._queue_size = queue_size
        self._lossless = lossless_pacing
        self._jpeg_quality = jpeg_quality
        self._open_sink = open_sink
        self._session: RecordSession | None = None

    @property
    def path(self) -> Path:
        """Where the finished recording stands."""
        return self.directory / f"{self.metadata.episode_id}{SUFFIX}"

    @property
    def ended(self) -> EndReason | None:
        """Why recording has already stopped by itself, None while it goes on."""
        return self._session.queue.ended if self._session else None

    @property
    def drops(self) -> dict[str, int]:
        """Samples refused so far, by stream."""
        lanes = self._opened().queue.lanes
        return {name: lanes[number].drops for name, number in self._channels.items()}

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            self.close(EndReason.COMPLETE if kind is None else EndReason.FAULT)

    def open(self) -> None:
        """Create the file and start the threads.

        Raises:
            ContractError: metadata or streams that no episode may have.
            DataError: this episode was recorded before.
            OSError: the file cannot be made.
        """
        self._check_setup()
        self.directory.mkdir(parents=True, exist_ok=True)
        part = self.directory / f"{self.metadata.episode_id}{PART_SUFFIX}"
        for path in (self.path, part):
            if path.exists():
                raise DataError(
                    "E-RLDS-RECORD-001",
                    "this episode exists already, and nothing recorded is overwritten",
                    where=path,
                    hint="take a new episode id, or run continuon episodes recover",
                )
        sink = self._open_sink(part)
        log = EpisodeLog(sink, Opening(self.metadata, self.streams))
        try:
            log.open()
        except OSError:
            sink.close()
            part.unlink()
            raise
        lanes = {i: Lane(i, s.is_image) for i, s in enumerate(self.streams, start=1)}
        offsets = clock_channel(self.streams)
        lanes[offsets] = Lane(offsets, is_encoded_here=False)
        queue = SampleQueue(lanes, limit=self._queue_size, waits=self._lossless)
        self._session = RecordSession(sink, log, queue)
        self._session.start(
            {
                number: (spec.name, self._encoder(spec.codec))
                for number, spec in enumerate(self.streams, start=1)
                if spec.is_image
            }
        )

    def rgb(
        self,
        image: NDArray[np.uint8] | bytes,
        *,
        capture_ns: int,
        device_ns: int | None = None,
    ) -> bool:
        """Take a colour frame: uint8 [height, width, 3] or JPEG bytes; see `image`."""
        return self.image(RGB, image, capture_ns=capture_ns, device_ns=device_ns)

    def depth(
        self,
        image: NDArray[np.uint16] | bytes,
        *,
        capture_ns: int,
        device_ns: int | None = None,
    ) -> bool:
        """Take a depth frame: uint16 [height, width] or PNG bytes; see `image`."""
        return self.image(DEPTH, image, capture_ns=capture_ns, device_ns=device_ns)

    def image(
        self,
        stream: str,
        image: NDArray[np.uint8] | NDArray[np.uint16] | bytes,
        *,
        capture_ns: int,
        device_ns: int | None = None,
    ) -> bool:
        """Take a frame of any image stream; False where it was dropped.

        Raises:
            ContractError: the image does not fit the stream.
            DataError: the bytes are not of the stream's codec.
            UsageError: no such stream, or the recorder is not open.
        """
        spec = self._spec(stream, *_PICTURES)
        return self._submit(stream, image_payload(spec, image), capture_ns, device_ns)

    def vector(
        self,
        stream: str,
        values: Sequence[float] | NDArray[np.floating],
        *,
        capture_ns: int,
        device_ns: int | None = None,
    ) -> bool:
        """Take one vector sample, stored as float32; False where it was dropped.

        Raises:
            ContractError: wrong length, or an action that is not finite.
            UsageError: no such stream, or the recorder is not open.
        """
        spec = self._spec(stream, Codec.VECTOR)
        return self._submit(stream, vector_payload(spec, values), capture_ns, device_ns)

    def lose(self, stream: str, count: int = 1) -> None:
        """Count samples lost before they came here; their numbers are skipped.

        Raises:
            UsageError: no such stream, or the recorder is not open.
        """
        number = self._channels.get(stream)
        if number is None:
            raise UsageError(
                "E-RLDS-RECORD-007",
                "no such stream in this recording",
                seen=stream,
                allowed=", ".join(self._channels),
            )
        self._opened().queue.skip(number, count)

    def document(self, stream: str, document: bytes, *, capture_ns: int) -> bool:
        """Take one JSON object, already encoded; False where it was dropped.

        Raises:
            ContractError: it does not start and end as a JSON object.
            UsageError: no such stream, or the recorder is not open.
        """
        self._spec(stream, Codec.DOCUMENT)
        payload = document_payload(stream, document)
        return self._submit(stream, payload, capture_ns, None)

    def blob(self, stream: str, blob: bytes, *, capture_ns: int) -> bool:
        """Take bytes of any kind, as they are; False where they were dropped.

        Raises:
            UsageError: no such stream, or the recorder is not open.
        """
        self._spec(stream, Codec.BLOB)
        return self._submit(stream, blob, capture_ns, None)

    def audio(
        self,
        samples: NDArray[np.int16],
        *,
        capture_ns: int,
        device_ns: int | None = None,
    ) -> bool:
        """Take a block of sound, int16 [samples]; False where it was dropped.

        Raises:
            ContractError: it is no such block.
            UsageError: there is no sound in this recording, or it is not open.
        """
        payload = audio_payload(self._spec(AUDIO, Codec.AUDIO), samples)
        return self._submit(AUDIO, payload, capture_ns, device_ns)

    def clock_offset(self, offset: ClockOffset) -> bool:
        """Take a measured map from a device's clock to the host's."""
        channel = clock_channel(self.streams)
        queue = self._opened().queue
        return queue.put(channel, offset, offset.measured_at_ns, None)

    def close(self, reason: EndReason = EndReason.COMPLETE) -> RecordingSummary:
        """Write what still waits, finish the file and give it its final name.

        A recording that had to stop by itself (full disk, a failed encoder) keeps that
        reason. Calling it again returns the same summary.

        Raises:
            DataError: a frame could not be encoded; the file up to there is finished.
            MissingPackageError: what encodes it is not installed; likewise.
            OSError: the disk could not even hold the closing records; the `.mcap.part`
                file stays for `recover`.
        """
        if self.summary is not None:
            return self.summary
        session = self._opened()
        session.drain()
        self._session = None
        try:
            self.summary = self._finish(session, reason)
        finally:
            session.sink.close()
        failure = session.queue.failure
        if isinstance(failure, UsageError):  # a package is missing: say which
            raise failure
        if failure is not None and not isinstance(failure, OSError):
            raise DataError(
                "E-RLDS-RECORD-006",
                f"a frame could not be encoded: {failure}",
                where=self.path,
                hint="the frames before it are in the file",
            ) from failure
        return self.summary

    def _finish(self, session: RecordSession, reason: EndReason) -> RecordingSummary:
        reason, drops = session.finish(reason)
        log = session.log
        counts = log.counts()
        session.sink.publish(self.path)
        return RecordingSummary(
            path=self.path,
            episode_id=self.metadata.episode_id,
            end_reason=reason,
            counts={name: counts.get(n, 0) for name, n in self._channels.items()},
            drops=drops,
            bytes=log.size,
        )

    def _check_setup(self) -> None:
        metadata = self.metadata
        problem = role_problem(
            metadata.xr_mode, metadata.control_role, metadata.action_source
        )
        if problem is not None:
            raise ContractError(
                "E-RLDS-RECORD-002",
                "mode, role and source contradict each other",
                seen=problem,
                allowed="the combinations of R-EPISODE-04",
            )
        if not self.streams or len(self._channels) != len(self.streams):
            raise ContractError(
                "E-RLDS-RECORD-003",
                "an episode has at least one stream, and no name twice",
                seen=[spec.name for spec in self.streams],
            )

    def _encoder(self, codec: Codec) -> Encode:
        if codec.is_depth:
            return lambda image: encode_depth(image.view(np.uint16), codec)
        if codec is Codec.PNG:
            return lambda image: encode_colour_png(image.view(np.uint8))
        quality = self._jpeg_quality
        return lambda image: encode_jpeg(image.view(np.uint8), quality)

    def _opened(self) -> RecordSession:
        if self._session is None:
            raise UsageError("E-RLDS-RECORD-010", "the recorder is not open")
        return self._session

    def _spec(self, stream: str, *codecs: Codec) -> StreamSpec:
        number = self._channels.get(stream)
        spec = None if number is None else self.streams[number - 1]
        if spec is None or spec.codec not in codecs:
            raise UsageError(
                "E-RLDS-RECORD-007",
                f"no such {' or '.join(codecs)} stream in this recording",
                seen=stream,
                allowed=", ".join(self._channels),
            )
        return spec

    def _submit(
        self, stream: str, payload: Payload, capture_ns: int, device_ns: int | None
    ) -> bool:
        check_time(stream, capture_ns)
        device = None if device_ns is None else int(device_ns)
        queue = self._opened().queue
        return queue.put(self._channels[stream], payload, int(capture_ns), device)
