"""Record an episode: samples in, one crash-safe MCAP file out.

The caller only hands samples over. A thread per camera stream encodes, one thread
writes in the order of submission, one brings the file to the disk each second. What is
handed over but not yet written is bounded per stream; past the bound a sample is
dropped and counted, or the caller waits (`lossless_pacing`, for virtual time).
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

import continuon
from continuon.clock import ClockOffset
from continuon.errors import ContinuonError, ContractError, DataError, UsageError
from continuon.rlds import foxglove
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
from continuon.rlds.file_sink import FileSink
from continuon.rlds.images import (
    encode_depth_png,
    encode_jpeg,
    jpeg_size,
    png_size,
)
from continuon.rlds.layout import (
    CLOSING,
    PART_SUFFIX,
    SUFFIX,
    Closing,
    Opening,
    closing_table,
    write_opening,
)
from continuon.rlds.mcap_write import McapWriter, MessageRecord

__all__ = ["EpisodeRecorder", "RecordingSummary"]

_MAX_CHUNK_BYTES = 4 << 20
_MAX_CHUNK_MESSAGES = 256
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
        return attrs.asdict(self) | {
            "path": str(self.path),
            "end_reason": self.end_reason.value,
            "counts": dict(self.counts),
            "drops": dict(self.drops),
        }


@attrs.define(eq=False)
class _Sample:
    ticket: int
    stream: int
    sequence: int
    capture_ns: int
    device_ns: int | None
    payload: bytes | NDArray[np.generic] | ClockOffset


@attrs.define(eq=False)
class _Lane:
    """One stream's share of the queue."""

    spec: StreamSpec
    encode: Callable[[NDArray[np.generic]], bytes] | None = None
    sequence: int = 0
    pending: int = 0
    drops: int = 0
    to_encode: deque[_Sample] = attrs.field(factory=deque)


class EpisodeRecorder:
    """Context manager around one open recording; nothing is opened before `with`.

    Args:
        directory: where `<episode_id>.mcap` will stand; made if absent.
        queue_size: samples of one stream that may wait; each holds one raw image.
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
        self._queue_size = queue_size
        self._lossless = lossless_pacing
        self._jpeg_quality = jpeg_quality
        self._open_sink = open_sink
        self._lanes: dict[str, _Lane] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ready: dict[int, _Sample] = {}
        self._next_ticket = 0
        self._next_write = 0
        self._accepting = False
        self._failure: Exception | None = None
        self._ended: EndReason | None = None
        self._stop_sync = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def path(self) -> Path:
        """Where the finished recording stands."""
        return self.directory / f"{self.metadata.episode_id}{SUFFIX}"

    @property
    def ended(self) -> EndReason | None:
        """Why recording has already stopped by itself, None while it goes on."""
        return self._ended

    @property
    def drops(self) -> dict[str, int]:
        """Samples refused so far, by stream."""
        return {name: lane.drops for name, lane in self._lanes.items()}

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.summary is None and self._sink is not None:
            self.close(EndReason.COMPLETE if kind is None else EndReason.FAULT)

    _sink: FileSink | None = None

    def open(self) -> None:
        """Create the file and start the threads.

        Raises:
            ContractError: metadata or streams that no episode may have.
            DataError: this episode was recorded before.
        """
        self._check_setup()
        self.directory.mkdir(parents=True, exist_ok=True)
        part = self.directory / f"{self.metadata.episode_id}{PART_SUFFIX}"
        if self.path.exists() or part.exists():
            raise DataError(
                "E-RLDS-RECORD-001",
                "this episode exists already, and nothing recorded is overwritten",
                where=self.path if self.path.exists() else part,
                hint="take a new episode id, or run continuon episodes recover",
            )
        self._sink = self._open_sink(part)
        self._writer = McapWriter(self._sink)
        library = f"continuon {continuon.__version__}"
        try:
            write_opening(
                self._writer, Opening(self.metadata, self.streams), library=library
            )
        except OSError:
            self._sink.close()
            part.unlink()
            self._sink = None
            raise
        for spec in self.streams:
            self._lanes[spec.name] = _Lane(spec, self._encoder_of(spec))
        self._lanes[""] = _Lane(StreamSpec(name="offsets", codec=Codec.JPEG))
        self._numbers = {name: i for i, name in enumerate(self._lanes, start=1)}
        self._chunk: list[MessageRecord] = []
        self._chunk_bytes = 0
        self._frames_in_chunk: dict[int, int] = {}
        self._accepting = True
        self._start(self._write_all, "writer")
        for lane in self._lanes.values():
            if lane.encode is not None:
                self._start(partial(self._encode_all, lane), lane.spec.name)
        self._start(self._sync_all, "sync")

    def rgb(
        self,
        image: NDArray[np.uint8] | bytes,
        *,
        capture_ns: int,
        device_ns: int | None = None,
    ) -> bool:
        """Take a colour frame: uint8 [height, width, 3] (copied) or JPEG bytes.

        Returns False where it was dropped (queue full, or recording has ended).
        """
        return self.image(RGB, image, capture_ns=capture_ns, device_ns=device_ns)

    def depth(
        self,
        image: NDArray[np.uint16] | bytes,
        *,
        capture_ns: int,
        device_ns: int | None = None,
    ) -> bool:
        """Take a depth frame: uint16 [height, width] (copied) or 16-bit PNG bytes."""
        return self.image(DEPTH, image, capture_ns=capture_ns, device_ns=device_ns)

    def image(
        self,
        stream: str,
        image: NDArray[np.uint8] | NDArray[np.uint16] | bytes,
        *,
        capture_ns: int,
        device_ns: int | None = None,
    ) -> bool:
        """Take a frame of any image stream.

        Raises:
            ContractError: the image does not fit the stream.
            UsageError: no such stream, or the recorder is not open.
        """
        lane = self._lane(stream, vector=False)
        payload: bytes | NDArray[np.generic]
        if isinstance(image, bytes):
            is_jpeg = lane.spec.codec is Codec.JPEG
            width, height = jpeg_size(image) if is_jpeg else png_size(image)
            payload = image
        else:
            _check_image(lane.spec, image)
            height, width = image.shape[:2]
            payload = image.copy()
        wanted = (lane.spec.width or width, lane.spec.height or height)
        if (width, height) != wanted:
            raise ContractError(
                "E-RLDS-RECORD-004",
                "a frame of another size than its stream's",
                where=stream,
                seen=(width, height),
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
        """Take one vector sample, stored as float32.

        Raises:
            ContractError: wrong length, or an action that is not finite.
            UsageError: no such stream, or the recorder is not open.
        """
        lane = self._lane(stream, vector=True)
        array = np.array(values, np.float32)
        if array.shape != (len(lane.spec.names),):
            raise ContractError(
                "E-RLDS-RECORD-005",
                "a vector of another length than its stream's",
                where=stream,
                seen=array.shape,
                allowed=(len(lane.spec.names),),
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
        self._lane("", vector=False)
        return self._submit("", offset, offset.measured_at_ns, None)

    def close(self, reason: EndReason = EndReason.COMPLETE) -> RecordingSummary:
        """Write what still waits, finish the file and give it its final name.

        A recording that had to stop by itself (full disk, a failed encoder) keeps that
        reason. Calling it again returns the same summary.

        Raises:
            DataError: an encoder failed; the file up to there is finished and named.
            OSError: the disk failed and could not even hold the closing records; the
                `.mcap.part` file stays for `recover`.
        """
        if self.summary is not None:
            return self.summary
        if self._sink is None:
            raise _not_open()
        with self._lock:
            self._accepting = False
            self._changed.notify_all()
        self._stop_sync.set()
        for thread in self._threads:
            thread.join()
        end_reason = self._ended or reason
        try:
            self.summary = self._finish(end_reason)
        finally:
            self._sink.close()
        if isinstance(self._failure, ContinuonError):
            raise DataError(
                "E-RLDS-RECORD-006",
                f"a frame could not be encoded: {self._failure}",
                where=self.path,
                hint="the frames before it are in the file",
            ) from self._failure
        return self.summary

    def _check_setup(self) -> None:
        problem = role_problem(
            self.metadata.xr_mode,
            self.metadata.control_role,
            self.metadata.action_source,
        )
        if problem is not None:
            raise ContractError(
                "E-RLDS-RECORD-002",
                "mode, role and source contradict each other",
                seen=problem,
                allowed="see R-EPISODE-04",
            )
        names = [spec.name for spec in self.streams]
        if not names or len(set(names)) != len(names):
            raise ContractError(
                "E-RLDS-RECORD-003",
                "an episode has at least one stream, and no name twice",
                seen=names,
            )

    def _encoder_of(
        self, spec: StreamSpec
    ) -> Callable[[NDArray[np.generic]], bytes] | None:
        if spec.codec is Codec.JPEG:
            quality = self._jpeg_quality
            return lambda image: encode_jpeg(image.view(np.uint8), quality)
        if spec.codec is Codec.PNG16:
            return lambda image: encode_depth_png(image.view(np.uint16))
        return None

    def _lane(self, stream: str, *, vector: bool) -> _Lane:
        if not self._lanes:
            raise _not_open()
        lane = self._lanes.get(stream)
        if lane is None or (lane.spec.codec is Codec.VECTOR) != vector:
            raise UsageError(
                "E-RLDS-RECORD-007",
                f"no such {'vector' if vector else 'image'} stream in this recording",
                seen=stream,
                allowed=", ".join(spec.name for spec in self.streams),
            )
        return lane

    def _submit(
        self,
        stream: str,
        payload: bytes | NDArray[np.generic] | ClockOffset,
        capture_ns: int,
        device_ns: int | None,
    ) -> bool:
        if not 0 <= capture_ns < 1 << 63:
            raise ContractError(
                "E-RLDS-RECORD-008",
                "a capture time is a count of nanoseconds since the clock's epoch",
                where=stream,
                seen=capture_ns,
                allowed="0 to 2**63 - 1",
            )
        lane = self._lanes[stream]
        with self._changed:
            sequence = lane.sequence
            lane.sequence += 1
            while (
                self._lossless and self._accepting and lane.pending >= self._queue_size
            ):
                self._changed.wait()
            if not self._accepting or lane.pending >= self._queue_size:
                lane.drops += 1
                return False
            lane.pending += 1
            sample = _Sample(
                self._next_ticket,
                self._numbers[stream],
                sequence,
                int(capture_ns),
                None if device_ns is None else int(device_ns),
                payload,
            )
            self._next_ticket += 1
            if lane.encode is not None and not isinstance(payload, bytes):
                lane.to_encode.append(sample)
            else:
                self._ready[sample.ticket] = sample
            self._changed.notify_all()
        return True

    def _start(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=f"record-{name}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _encode_all(self, lane: _Lane) -> None:
        encode = lane.encode
        assert encode is not None
        while True:
            with self._changed:
                while not lane.to_encode:
                    if not self._accepting:
                        return
                    self._changed.wait()
                sample = lane.to_encode.popleft()
                failed = self._failure is not None
            if not failed:
                assert isinstance(sample.payload, np.ndarray)
                try:
                    sample.payload = encode(sample.payload)
                except (ContinuonError, ValueError, OSError) as error:
                    self._fail(error, EndReason.FAULT)
            with self._changed:
                self._ready[sample.ticket] = sample
                self._changed.notify_all()

    def _write_all(self) -> None:
        """Write samples in ticket order until the recorder closes and none is left."""
        while True:
            with self._changed:
                while self._next_write not in self._ready:
                    if not self._accepting and self._next_write == self._next_ticket:
                        return
                    self._changed.wait()
                sample = self._ready.pop(self._next_write)
                self._next_write += 1
                failed = self._failure is not None
            lost = 0
            if failed:
                lost = 1
            else:
                try:
                    self._add(sample)
                except OSError as error:
                    full = error.errno in _DISK_FULL
                    reason = EndReason.DISK_FULL if full else EndReason.FAULT
                    self._fail(error, reason)
            with self._changed:
                lane = self._lane_of(sample.stream)
                lane.pending -= 1
                lane.drops += lost
                self._changed.notify_all()

    def _lane_of(self, number: int) -> _Lane:
        specs = self.streams
        return self._lanes[specs[number - 1].name if number <= len(specs) else ""]

    def _fail(self, error: Exception, reason: EndReason) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._ended = self._ended or reason
            self._accepting = False
            self._changed.notify_all()

    def _add(self, sample: _Sample) -> None:
        spec = self._lane_of(sample.stream).spec
        parts: Sequence[bytes | memoryview]
        if isinstance(sample.payload, bytes):
            message = foxglove.image_message(
                sample.payload,
                codec=spec.codec,
                frame_id=spec.name,
                capture_ns=sample.capture_ns,
                device_ns=sample.device_ns,
            )
            parts, size = message.parts, message.size
            frames = self._frames_in_chunk
            frames[sample.stream] = frames.get(sample.stream, 0) + 1
        else:
            if isinstance(sample.payload, ClockOffset):
                data = foxglove.clock_offset_message(sample.payload)
            else:
                values = sample.payload.view(np.float32)
                data = foxglove.vector_message(spec.names, values, sample.device_ns)
            parts, size = [data], len(data)
        self._chunk.append(
            MessageRecord(
                sample.stream,
                sample.sequence,
                sample.capture_ns,
                sample.capture_ns,
                parts,
                size,
            )
        )
        self._chunk_bytes += size
        if self._chunk_is_full():
            self._flush()

    def _chunk_is_full(self) -> bool:
        cameras = sum(spec.is_image for spec in self.streams)
        frames = self._frames_in_chunk
        return (
            (cameras > 0 and len(frames) == cameras)
            or max(frames.values(), default=0) > 1
            or self._chunk_bytes >= _MAX_CHUNK_BYTES
            or len(self._chunk) >= _MAX_CHUNK_MESSAGES
        )

    def _flush(self) -> None:
        if not self._chunk:
            return
        chunk, self._chunk = self._chunk, []
        self._chunk_bytes = 0
        self._frames_in_chunk = {}
        try:
            self._writer.chunk(chunk)
        except OSError:
            with self._changed:
                for message in chunk:
                    self._lane_of(message.channel).drops += 1
            raise

    def _sync_all(self) -> None:
        assert self._sink is not None
        while not self._stop_sync.wait(_SYNC_PERIOD_S):
            try:
                self._sink.datasync()
            except OSError as error:
                self._fail(error, EndReason.FAULT)
                return

    def _finish(self, reason: EndReason) -> RecordingSummary:
        """Write the closing records; on a full disk give up chunks until they fit."""
        assert self._sink is not None
        try:
            self._flush()
        except OSError as error:
            full = error.errno in _DISK_FULL
            reason = EndReason.DISK_FULL if full else EndReason.FAULT
        while True:
            drops = {spec.name: self._lanes[spec.name].drops for spec in self.streams}
            try:
                self._writer.finish(CLOSING, closing_table(Closing(reason, drops)))
                break
            except OSError:
                if not self._writer.chunk_count:
                    raise
                lost = self._writer.drop_last_chunk()
                for channel, count in lost.items():
                    self._lane_of(channel).drops += count
        counts = self._writer.counts()
        return RecordingSummary(
            path=self.path,
            episode_id=self.metadata.episode_id,
            end_reason=reason,
            counts={
                spec.name: counts.get(number, 0)
                for number, spec in enumerate(self.streams, start=1)
            },
            drops=drops,
            bytes=self._writer.size,
            sha256=self._sink.publish(self.path),
        )


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


def _not_open() -> UsageError:
    return UsageError("E-RLDS-RECORD-010", "the recorder is not open")
