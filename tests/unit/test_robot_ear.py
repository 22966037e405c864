"""Sound goes with an episode, and its loss costs no more than the sound."""

from __future__ import annotations

import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_metadata
from continuon.clock import ClockOffset
from continuon.errors import HardwareError
from continuon.rig.microphone import SoundChunk
from continuon.rlds.recorder import EpisodeRecorder
from continuon.rlds.recording import open_recording
from continuon.robot.ear import Ear, sound_stream

RATE_HZ, BLOCK = 16_000, 320
BLOCK_NS = 20_000_000


class FakeMicrophone:
    """Gives what the script says: a chunk, None, or a failure."""

    rate_hz = RATE_HZ

    def __init__(self, script):
        self.script = list(script)
        self.closed = 0

    def poll(self):
        told = self.script.pop(0) if self.script else None
        if isinstance(told, Exception):
            raise told
        return told

    def clock_offset(self):
        return ClockOffset("microphone", 5, BLOCK_NS, 0)

    def open(self):
        raise AssertionError("it is opened by whoever gives it")

    def close(self):
        self.closed += 1


def chunk(number, *, capture_ns=None, sequence=None):
    at = number * BLOCK_NS
    return SoundChunk(
        samples=np.full(BLOCK, number, np.int16),
        rate_hz=RATE_HZ,
        capture_ns=at if capture_ns is None else capture_ns,
        device_ns=at,
        sequence=number * BLOCK if sequence is None else sequence,
    )


def heard(tmp_path, script, pumps=1):
    microphone = FakeMicrophone(script)
    streams = (sound_stream(RATE_HZ),)
    with EpisodeRecorder(
        tmp_path, legal_metadata(), streams, lossless_pacing=True
    ) as recorder:
        ear = Ear(microphone, recorder)
        for turn in range(pumps):
            ear.pump(turn * BLOCK_NS)
        ear.close()
        summary = recorder.close()
    with open_recording(summary.path) as recording:
        stream = recording.streams["audio"]
        blocks = [int(np.frombuffer(b, "<i2")[0]) for b in stream.blobs]
        return microphone, summary, ear, blocks, stream.capture_ns.tolist()


def test_every_block_is_recorded_with_its_clock(tmp_path):
    _, summary, ear, blocks, times = heard(tmp_path, [chunk(0), chunk(1), None])
    assert blocks == [0, 1]
    assert times == [0, BLOCK_NS]
    assert not ear.lost
    assert not any(summary.drops.values())
    assert sound_stream(RATE_HZ).origin == "real"


def test_a_microphone_that_fails_is_lost_once_and_stopped(tmp_path):
    script = [chunk(0), HardwareError("E-RIG-MIC-002", "silent"), chunk(1)]
    microphone, summary, ear, blocks, _ = heard(tmp_path, script, pumps=3)
    assert blocks == [0]
    assert ear.lost
    assert microphone.closed
    assert summary.drops == {"audio": 1}


def test_a_gap_in_the_count_of_samples_is_a_drop(tmp_path):
    _, summary, _, blocks, _ = heard(tmp_path, [chunk(0), chunk(3)])
    assert blocks == [0, 3]
    assert summary.drops == {"audio": 1}


def test_a_better_offset_never_turns_time_back(tmp_path):
    script = [chunk(0, capture_ns=9), chunk(1, capture_ns=4), chunk(2, capture_ns=50)]
    _, _, _, _, times = heard(tmp_path, script)
    assert times == [9, 10, 50]


@pytest.mark.parametrize("polls", [1, 3])
def test_offsets_are_recorded_once_a_second(tmp_path, polls):
    _, summary, *_ = heard(tmp_path, [chunk(i) for i in range(3)], pumps=polls)
    with open_recording(summary.path) as recording:
        assert len(recording.clock_offsets) == 1
