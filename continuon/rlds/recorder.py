"""Record an episode: samples in, one crash-safe MCAP file out.

The caller only hands samples over. A thread per camera stream encodes, one thread
writes in the order of submission, one brings the file to the disk each second. What is
handed over but not yet written is bounded per stream; past the bound a sample is
dropped and counted, or the caller waits (`lossless_pacing`, for virtual time).
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import ClockOffset
from continuon.errors import ContinuonError, ContractError, DataError, UsageError
from continuon.rlds.episode import (
    ACTION,
    DEPTH,
    RGB,
    Codec,
    EndReason,
    EpisodeMetadata,
    StreamSpec,
    role_problem,
)
from continuon.rlds.episode_log import EpisodeLog
from continuon.rlds.file_sink import FileSink
from continuon.rlds.images import (
    encode_depth_png,
    encode_jpeg,
    jpeg_size,
    png_size,
)
from continuon.rlds.layout import PART_SUFFIX, SUFFIX, Opening, clock_channel
from continuon.rlds.sample_queue import Lane, Payload, SampleQueue

__all__ = ["EpisodeRecorder", "RecordingSummary"]

_SYNC_PERIOD_S = 1.0
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@attrs.frozen(kw_only=True)
class RecordingSummary:
    """What a finished recording holds; `drops` counts samples that are not in it."""

    path: Path
    episode_id: str
    end_reason: EndReason
    counts: Mapping[str, int]
    drops: Mapping[str, int]
    bytes: int
    sha256: str

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "path": str(self.path),
            "episode_id": self.episode_id,
            "end_reason": self.end_reason.value,
            "counts": dict(self.counts),
            "drops": dict(self.drops),
            "bytes": self.bytes,
            "sha256": self.sha256,
        }


@attrs.define(eq=False)
class _Session:
    """What an open recorder holds."""

    sink: FileSink
    log: EpisodeLog
    queue: SampleQueue
    stop_sync: threading.Event = attrs.field(factory=threading.Event)
    threads: list[threading.Thread] = attrs.field(factory=list)


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
        self._session: _Session | None = None

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
        session = self._session = _Session(sink, log, queue)
        _start(session, partial(_write_all, session), "writer")
        for number, spec in enumerate(self.streams, start=1):
            if spec.is_image:
                encode = self._encoder(spec.codec)
                _start(session, partial(_encode_all, queue, number, encode), spec.name)
        _start(session, partial(_sync_all, session), "sync")

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
            DataError: the bytes are no JPEG or PNG.
            UsageError: no such stream, or the recorder is not open.
        """
        spec = self._spec(stream, is_image=True)
        payload: Payload
        if isinstance(image, bytes):
            is_jpeg = spec.codec is Codec.JPEG
            size = jpeg_size(image) if is_jpeg else png_size(image)
            payload = image
        else:
            _check_image(spec, image)
            size = (image.shape[1], image.shape[0])
            payload = image.copy()
        wanted = (spec.width or size[0], spec.height or size[1])
        if size != wanted:
            raise ContractError(
                "E-RLDS-RECORD-004",
                "a frame of another size than its stream's",
                where=stream,
                seen=size,
                allowed=wanted,
            )
        return self._submit(stream, payload, capture_ns, device_ns)

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
        spec = self._spec(stream, is_image=False)
        array = np.array(values, np.float32)
        if array.shape != (len(spec.names),):
            raise ContractError(
                "E-RLDS-RECORD-005",
                "a vector of another length than its stream's",
                where=stream,
                seen=array.shape,
                allowed=(len(spec.names),),
            )
        if stream == ACTION and not np.isfinite(array).all():
            raise ContractError(
                "E-RLDS-ACTION-001",
                "an action is finite; this one is refused",
                where=stream,
                seen=array.tolist(),
            )
        return self._submit(stream, array, capture_ns, device_ns)

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
            OSError: the disk could not even hold the closing records; the `.mcap.part`
                file stays for `recover`.
        """
        if self.summary is not None:
            return self.summary
        session = self._opened()
        session.queue.close()
        session.stop_sync.set()
        for thread in session.threads:
            thread.join()
        self._session = None
        try:
            self.summary = self._finish(session, reason)
        finally:
            session.sink.close()
        failure = session.queue.failure
        if failure is not None and not isinstance(failure, OSError):
            raise DataError(
                "E-RLDS-RECORD-006",
                f"a frame could not be encoded: {failure}",
                where=self.path,
                hint="the frames before it are in the file",
            ) from failure
        return self.summary

    def _finish(self, session: _Session, reason: EndReason) -> RecordingSummary:
        log, queue = session.log, session.queue
        try:
            log.flush()
        except OSError as error:
            queue.fail(error, _disk_reason(error))
        reason = queue.ended or reason
        drops = log.finish(reason, {n: lane.drops for n, lane in queue.lanes.items()})
        counts = log.counts()
        return RecordingSummary(
            path=self.path,
            episode_id=self.metadata.episode_id,
            end_reason=reason,
            counts={name: counts.get(n, 0) for name, n in self._channels.items()},
            drops=drops,
            bytes=log.size,
            sha256=session.sink.publish(self.path),
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

    def _encoder(self, codec: Codec) -> Callable[[NDArray[np.generic]], bytes]:
        if codec is Codec.PNG16:
            return lambda image: encode_depth_png(image.view(np.uint16))
        quality = self._jpeg_quality
        return lambda image: encode_jpeg(image.view(np.uint8), quality)

    def _opened(self) -> _Session:
        if self._session is None:
            raise UsageError("E-RLDS-RECORD-010", "the recorder is not open")
        return self._session

    def _spec(self, stream: str, *, is_image: bool) -> StreamSpec:
        number = self._channels.get(stream)
        spec = None if number is None else self.streams[number - 1]
        if spec is None or spec.is_image != is_image:
            raise UsageError(
                "E-RLDS-RECORD-007",
                f"no such {'image' if is_image else 'vector'} stream in this recording",
                seen=stream,
                allowed=", ".join(self._channels),
            )
        return spec

    def _submit(
        self, stream: str, payload: Payload, capture_ns: int, device_ns: int | None
    ) -> bool:
        if not 0 <= capture_ns < 1 << 63:
            raise ContractError(
                "E-RLDS-RECORD-008",
                "a capture time is a count of nanoseconds since the clock's epoch",
                where=stream,
                seen=capture_ns,
                allowed="0 to 2**63 - 1",
            )
        device = None if device_ns is None else int(device_ns)
        queue = self._opened().queue
        return queue.put(self._channels[stream], payload, int(capture_ns), device)


def _start(session: _Session, work: Callable[[], None], name: str) -> None:
    thread = threading.Thread(target=work, name=f"record-{name}", daemon=True)
    thread.start()
    session.threads.append(thread)


def _encode_all(
    queue: SampleQueue, channel: int, encode: Callable[[NDArray[np.generic]], bytes]
) -> None:
    while (sample := queue.take_raw(channel)) is not None:
        if queue.failure is None:
            assert isinstance(sample.payload, np.ndarray)
            try:
                sample.payload = encode(sample.payload)
            except (ContinuonError, ValueError) as error:
                queue.fail(error, EndReason.FAULT)
        queue.hand_on(sample)


def _write_all(session: _Session) -> None:
    queue = session.queue
    while (sample := queue.take_ready()) is not None:
        if queue.failure is not None:
            queue.lose(sample.channel)
        else:
            try:
                session.log.add(sample)
            except OSError as error:
                queue.fail(error, _disk_reason(error))
        queue.written(sample)


def _sync_all(session: _Session) -> None:
    while not session.stop_sync.wait(_SYNC_PERIOD_S):
        try:
            session.sink.datasync()
        except OSError as error:
            session.queue.fail(error, _disk_reason(error))
            return


def _disk_reason(error: OSError) -> EndReason:
    return EndReason.DISK_FULL if error.errno in _DISK_FULL else EndReason.FAULT


def _check_image(spec: StreamSpec, image: NDArray[np.generic]) -> None:
    colour = spec.codec is Codec.JPEG
    dtype = np.dtype(np.uint8 if colour else np.uint16)
    channels = image.shape[2:] == (3,) if colour else image.ndim == 2
    if image.dtype != dtype or not channels or image.size == 0:
        raise ContractError(
            "E-RLDS-RECORD-009",
            "an image of another kind than its stream's",
            where=spec.name,
            seen=f"{image.dtype} {image.shape}",
            allowed="uint8 [height, width, 3]" if colour else "uint16 [height, width]",
        )
