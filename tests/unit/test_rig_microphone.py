"""Sound: counted samples, their times on the host, gaps, ends."""

from __future__ import annotations

import numpy as np
import pytest

from continuon.clock import ManualClock, SystemClock
from continuon.errors import HardwareError
from continuon.rig.microphone import Microphone, start_arecord

RATE_HZ = 16_000
CHUNK = 320
CHUNK_NS = 20_000_000


class Source:
    """Chunks of a rising count; each arrives late by what the test says."""

    def __init__(self):
        self.waiting, self.closed, self.sent = [], 0, 0

    def arrive(self, samples=CHUNK):
        values = np.arange(self.sent, self.sent + samples).astype("<i2")
        self.sent += samples
        self.waiting.append(values.tobytes())

    def read(self):
        if not self.waiting:
            return b""
        return self.waiting.pop(0)

    def close(self):
        self.closed += 1


@pytest.fixture
def bench():
    source, clock = Source(), ManualClock(10**10)
    ear = Microphone(clock=clock, rate_hz=RATE_HZ, start=lambda *_: source)
    ear.open()
    ear.open()
    return ear, source, clock


@pytest.mark.req("R-RIG-24")
def test_a_chunks_time_is_right_to_a_period_however_late_it_comes(bench):
    ear, source, clock = bench
    begin = clock.now_ns
    rng = np.random.default_rng(0)
    for number in range(100):
        late = int(rng.integers(0, 15_000_000))
        source.arrive()
        clock.now_ns = begin + (number + 1) * CHUNK_NS + late
        chunk = ear.poll()
        true_ns = begin + number * CHUNK_NS
        offset = ear.clock_offset()
        assert 0 <= chunk.capture_ns - true_ns <= offset.uncertainty_ns
        assert chunk.sequence == number * CHUNK
        assert chunk.samples[0] == number * CHUNK
        assert ear.poll() is None
    assert chunk.samples.dtype == np.int16
    assert offset.offset_ns - begin < 1_000_000


def test_half_a_sample_waits_for_its_other_half(bench):
    ear, source, clock = bench
    clock.advance_ns(CHUNK_NS)
    source.waiting = [b"\x01", b"\x02\x03", b"\x04"]
    assert ear.poll() is None
    assert ear.poll().samples.tolist() == [0x0201]
    assert ear.poll().samples.tolist() == [0x0403]


@pytest.mark.req("R-RIG-24")
def test_a_microphone_that_stops_is_an_error(bench):
    ear, source, clock = bench
    source.arrive()
    assert ear.poll() is not None
    clock.advance_ns(900_000_000)
    assert ear.poll() is None
    clock.advance_ns(200_000_000)
    with pytest.raises(HardwareError) as caught:
        ear.poll()
    assert caught.value.code == "E-RIG-MIC-002"
    source.waiting = [None]
    with pytest.raises(HardwareError):
        ear.poll()


def test_closed_or_unopened_it_gives_nothing(bench):
    ear, source, _ = bench
    with pytest.raises(HardwareError) as caught:
        ear.clock_offset()
    assert caught.value.code == "E-RIG-CLOCK-001"
    ear.close()
    ear.close()
    assert (source.closed, ear.poll()) == (1, None)


def test_without_arecord_the_error_says_apt(tmp_path):
    with pytest.raises(HardwareError) as caught:
        start_arecord("default", RATE_HZ, program=tmp_path / "none")
    assert "alsa-utils" in caught.value.hint


@pytest.mark.slow
def test_a_real_process_is_read_without_blocking_and_ended(tmp_path):
    program = tmp_path / "arecord"
    program.write_text(
        "#!/bin/sh\n"
        'test "$3 $4" = "plughw:1 -t" || exit 9\n'
        "head -c 640 /dev/zero\nexec sleep 60\n"
    )
    program.chmod(0o755)
    ear = Microphone(
        clock=ManualClock(),
        device="plughw:1",
        start=lambda device, rate: start_arecord(device, rate, program=program),
    )
    ear.open()
    chunk = None
    patience = SystemClock()
    end_ns = patience.monotonic_ns() + 20_000_000_000
    while chunk is None and patience.monotonic_ns() < end_ns:
        patience.sleep_until_ns(patience.monotonic_ns() + 1_000_000)
        chunk = ear.poll()
    assert len(chunk.samples) == 320
    assert ear.poll() is None
    ear.close()
