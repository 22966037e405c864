"""The sound of an episode: a microphone's blocks, handed to the recorder as they come.

Sound is a companion of an episode, never a condition: a microphone that falls silent
is counted as lost, and the episode goes on without it.
"""

from __future__ import annotations

from typing import Protocol

from continuon.clock import ClockOffset
from continuon.errors import HardwareError
from continuon.rig.microphone import PERIOD_S, SoundChunk
from continuon.rlds.episode import AUDIO, Codec, Origin, StreamSpec
from continuon.rlds.recorder import EpisodeRecorder

__all__ = ["Ear", "SoundInput", "sound_stream"]

_OFFSET_PERIOD_NS = 1_000_000_000


class SoundInput(Protocol):
    """What gives sound; `continuon.rig.microphone.Microphone` does."""

    rate_hz: int

    def open(self) -> None:
        """Start it."""
        ...

    def poll(self) -> SoundChunk | None:
        """Return what has come since, None where nothing has; never wait."""
        ...

    def clock_offset(self) -> ClockOffset:
        """Return the map from its clock to the host's."""
        ...

    def close(self) -> None:
        """Stop it."""
        ...


def sound_stream(sample_rate_hz: int) -> StreamSpec:
    """Return the stream of a microphone: real, whatever the rest of the episode is."""
    return StreamSpec(
        name=AUDIO,
        codec=Codec.AUDIO,
        clock="microphone",
        rate_hz=1.0 / PERIOD_S,
        sample_rate_hz=sample_rate_hz,
        origin=Origin.REAL,
    )


class Ear:
    """One episode's sound.

    Args:
        microphone: already open; closed with the episode, or when it fails.
        recorder: has a stream from `sound_stream`.
    """

    def __init__(self, microphone: SoundInput, recorder: EpisodeRecorder) -> None:
        self._microphone = microphone
        self._recorder = recorder
        self._offset_due_ns = 0
        self._last_ns = -1
        self._next = 0
        self.lost = False

    def pump(self, now_ns: int) -> None:
        """Hand over what has come since."""
        while not self.lost:
            try:
                chunk = self._microphone.poll()
            except HardwareError:
                self.lost = True
                self._recorder.lose(AUDIO)
                self.close()
                return
            if chunk is None:
                return
            self._take(chunk)
            if now_ns >= self._offset_due_ns:
                self._offset_due_ns = now_ns + _OFFSET_PERIOD_NS
                self._recorder.clock_offset(self._microphone.clock_offset())

    def close(self) -> None:
        """Stop the microphone; may be called twice."""
        self._microphone.close()

    def _take(self, chunk: SoundChunk) -> None:
        if chunk.sequence > self._next:
            self._recorder.lose(AUDIO)
        self._next = chunk.sequence + len(chunk.samples)
        # The offset gets better as blocks come, which must not turn time back.
        self._last_ns = max(chunk.capture_ns, self._last_ns + 1)
        self._recorder.audio(
            chunk.samples, capture_ns=self._last_ns, device_ns=chunk.device_ns
        )
