"""Samples into chunks: one chunk a camera tick, closing records that always fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

import continuon
from continuon.clock import ClockOffset
from continuon.rlds import foxglove
from continuon.rlds.episode import Codec, EndReason
from continuon.rlds.layout import (
    CLOSING,
    Closing,
    Opening,
    clock_channel,
    closing_table,
    write_opening,
)
from continuon.rlds.mcap_write import McapWriter, MessageRecord, Sink
from continuon.rlds.sample_queue import Sample
from continuon.rlds.sound import audio_message

__all__ = ["EpisodeLog"]

_MAX_CHUNK_BYTES = 4 << 20
_MAX_CHUNK_MESSAGES = 256


class EpisodeLog:
    """Writes one episode to a sink. Not thread-safe: one thread owns it.

    `lost` counts, by channel, samples given here that are not in the file.
    """

    def __init__(self, sink: Sink, opening: Opening) -> None:
        self.lost: dict[int, int] = {}
        self._streams = opening.streams
        self._cameras = sum(spec.is_image for spec in opening.streams)
        self._writer = McapWriter(sink)
        self._chunk: list[MessageRecord] = []
        self._chunk_bytes = 0
        self._frames: dict[int, int] = {}
        self._opening = opening

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._writer.size

    def counts(self) -> dict[int, int]:
        """Return samples in the file by channel."""
        return self._writer.counts()

    def open(self) -> None:
        """Write all that stands before the first sample; raises OSError."""
        library = f"continuon {continuon.__version__}"
        write_opening(self._writer, self._opening, library=library)

    def add(self, sample: Sample) -> None:
        """Add a sample, its image encoded; raises OSError where the disk refuses."""
        parts, size = self._message(sample)
        self._chunk.append(
            MessageRecord(
                sample.channel,
                sample.sequence,
                sample.capture_ns,
                sample.capture_ns,
                parts,
                size,
            )
        )
        self._chunk_bytes += size
        if self._is_tick_complete():
            self.flush()

    def flush(self) -> None:
        """Write what is collected; on OSError that is lost and the file stays whole."""
        if not self._chunk:
            return
        chunk, self._chunk = self._chunk, []
        self._chunk_bytes = 0
        self._frames = {}
        try:
            self._writer.chunk(chunk)
        except OSError:
            for message in chunk:
                self._lose({message.channel: 1})
            raise

    def finish(self, reason: EndReason, drops: Mapping[int, int]) -> dict[str, int]:
        """Write the closing records, giving up last chunks until they fit.

        Args:
            reason: why the episode ended.
            drops: samples by channel that never came here.

        Returns:
            All samples by stream that are not in the file.

        Raises:
            OSError: not even an episode without chunks fits.
        """
        while True:
            total = {
                spec.name: drops.get(number, 0) + self.lost.get(number, 0)
                for number, spec in enumerate(self._streams, start=1)
            }
            try:
                self._writer.finish(CLOSING, closing_table(Closing(reason, total)))
            except OSError:
                if not self._writer.chunk_count:
                    raise
                self._lose(self._writer.drop_last_chunk())
            else:
                return total

    def _message(self, sample: Sample) -> tuple[Sequence[bytes | memoryview], int]:
        payload = sample.payload
        if sample.channel == clock_channel(self._streams):
            assert isinstance(payload, ClockOffset)
            data = foxglove.clock_offset_message(payload)
            return [data], len(data)
        spec = self._streams[sample.channel - 1]
        if isinstance(payload, np.ndarray):
            values = payload.view(np.float32)
            data = foxglove.vector_message(spec.names, values, sample.device_ns)
            return [data], len(data)
        assert isinstance(payload, bytes)
        if spec.codec is Codec.DOCUMENT:
            return [payload], len(payload)
        if spec.codec is Codec.AUDIO:
            sound = audio_message(
                payload,
                sample_rate_hz=spec.sample_rate_hz,
                capture_ns=sample.capture_ns,
                device_ns=sample.device_ns,
            )
            return sound.parts, sound.size
        message = foxglove.image_message(
            payload,
            codec=spec.codec,
            frame_id=spec.name,
            capture_ns=sample.capture_ns,
            device_ns=sample.device_ns,
        )
        if spec.is_image:
            self._frames[sample.channel] = self._frames.get(sample.channel, 0) + 1
        return message.parts, message.size

    def _is_tick_complete(self) -> bool:
        frames = self._frames
        return (
            0 < self._cameras == len(frames)
            or max(frames.values(), default=0) > 1
            or self._chunk_bytes >= _MAX_CHUNK_BYTES
            or len(self._chunk) >= _MAX_CHUNK_MESSAGES
        )

    def _lose(self, counts: Mapping[int, int]) -> None:
        for channel, count in counts.items():
            self.lost[channel] = self.lost.get(channel, 0) + count
