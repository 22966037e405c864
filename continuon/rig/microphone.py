"""Sound through ALSA's own `arecord`, so that no audio library is needed.

Samples are counted, which is the sound card's clock. A chunk comes through a pipe at
most one period after its last sample was taken and never before, so the smallest delay
seen is the best guess of the map to the host, and one period bounds its error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import Clock, ClockOffset
from continuon.errors import HardwareError
from continuon.rig.offsets import not_measured

__all__ = ["Microphone", "SoundChunk", "SoundSource", "start_arecord"]

PERIOD_S = 0.02
SILENT_NS = 1_000_000_000
KEPT = 64


@attrs.frozen(eq=False, kw_only=True)
class SoundChunk:
    """Consecutive samples.

    Attributes:
        samples: int16 [count], one channel.
        rate_hz: of the samples.
        capture_ns: of the first sample, host timebase.
        device_ns: the same instant by the sound card's count of samples.
        sequence: number of the first sample; a gap is lost sound.
    """

    samples: NDArray[np.int16]
    rate_hz: int
    capture_ns: int
    device_ns: int
    sequence: int


class SoundSource(Protocol):
    """A running recording."""

    def read(self) -> bytes | None:
        """Return what has arrived, nothing if nothing did, None at its end."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class _Arecord:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._process = process
        self._descriptor = process.stdout.fileno()
        os.set_blocking(self._descriptor, False)

    def read(self) -> bytes | None:
        """Return what has arrived, nothing if nothing did, None at its end."""
        try:
            data = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return b""
        return data or None

    def close(self) -> None:
        """End the recording."""
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def start_arecord(
    device: str, rate_hz: int, *, program: str | Path = "arecord"
) -> SoundSource:
    """Start recording one channel of 16-bit samples.

    Raises:
        HardwareError: `arecord` is not installed.
    """
    found = shutil.which(program)
    if found is None:
        raise HardwareError(
            "E-RIG-MIC-001",
            "sound is recorded by arecord, which is not installed",
            hint="sudo apt install alsa-utils",
        )
    frames = round(rate_hz * PERIOD_S)
    words = [found, "-q", "-D", device, "-t", "raw", "-f", "S16_LE", "-c", "1"]
    words += ["-r", str(rate_hz), f"--period-size={frames}"]
    return _Arecord(
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    )


class Microphone:
    """One channel of sound. `poll` never blocks.

    Args:
        clock: the host's.
        device: as ALSA names it; "default", or "plughw:1" for the first USB one.
        rate_hz: of the samples.
        start: starts the recording.
    """

    name = "microphone"

    def __init__(
        self,
        *,
        clock: Clock,
        device: str = "default",
        rate_hz: int = 16_000,
        start: Callable[[str, int], SoundSource] = start_arecord,
    ) -> None:
        self.rate_hz = rate_hz
        self._clock = clock
        self._device = device
        self._start = start
        self._source: SoundSource | None = None
        self._left = b""
        self._count = 0
        self._delays_ns: deque[int] = deque(maxlen=KEPT)
        self._alive_ns = 0

    def open(self) -> None:
        """Start the recording.

        Raises:
            HardwareError: the program for it is missing.
        """
        if self._source is None:
            self._source = self._start(self._device, self.rate_hz)
            self._alive_ns = self._clock.monotonic_ns()

    def poll(self) -> SoundChunk | None:
        """Return all samples not yet returned, or None if there are none.

        Raises:
            HardwareError: the recording ended, or was silent for a second (a quiet room
                is not: it has samples too).
        """
        if self._source is None:
            return None
        data = self._source.read()
        now = self._clock.monotonic_ns()
        if data is None or (not data and now - self._alive_ns > SILENT_NS):
            raise HardwareError(
                "E-RIG-MIC-002",
                "the microphone gives no sound any more",
                where=self._device,
                hint="check its USB cable and `arecord -l`, and that no other program "
                "holds it",
            )
        if not data:
            return None
        self._alive_ns = now
        data = self._left + data
        whole = len(data) // 2 * 2
        self._left = data[whole:]
        samples = np.frombuffer(data[:whole], "<i2").astype(np.int16)
        if not len(samples):
            return None
        first = self._count
        self._count += len(samples)
        self._delays_ns.append(now - self._device_ns(self._count))
        device_ns = self._device_ns(first)
        return SoundChunk(
            samples=samples,
            rate_hz=self.rate_hz,
            capture_ns=self.clock_offset().to_host_ns(device_ns),
            device_ns=device_ns,
            sequence=first,
        )

    def clock_offset(self) -> ClockOffset:
        """Return the map from the count of samples to the host.

        Raises:
            HardwareError: no sound came yet, so nothing was measured.
        """
        if not self._delays_ns:
            raise not_measured(self.name)
        return ClockOffset(
            device=self.name,
            offset_ns=min(self._delays_ns),
            uncertainty_ns=round(PERIOD_S * 1e9),
            measured_at_ns=self._alive_ns,
        )

    def close(self) -> None:
        """Stop the recording; may be called twice."""
        if self._source is not None:
            source, self._source = self._source, None
            source.close()

    def _device_ns(self, samples: int) -> int:
        return samples * 1_000_000_000 // self.rate_hz
