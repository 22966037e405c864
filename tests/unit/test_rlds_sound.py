"""Sound in a recording: Foxglove's message, every sample, and where it may go."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon.clock import ClockOffset
from continuon.errors import ContractError, UsageError
from continuon.rlds.episode import AUDIO, Share, StreamSpec
from continuon.rlds.export import export_episodes
from continuon.rlds.foxglove import image_range
from continuon.rlds.recorder import EpisodeRecorder
from continuon.rlds.recording import open_recording
from continuon.rlds.sharing_level import SharingLevel
from continuon.rlds.sound import audio_message
from continuon.rlds.validate import validate_recording

SPEC = StreamSpec(
    name=AUDIO, codec="audio", clock="microphone", rate_hz=50.0, sample_rate_hz=16_000
)
BLOCK_NS = 20_000_000
SECRET = bytes(range(32))


def with_sound(draft, blocks=12):
    start = min(at for at, _ in draft.samples["rgb"])
    rows = tuple(
        (start + i * BLOCK_NS, np.full(320, i, "<i2").tobytes()) for i in range(blocks)
    )
    offset = ClockOffset("microphone", 0, BLOCK_NS, start)
    return attrs.evolve(
        draft,
        streams=(*draft.streams, SPEC),
        samples={**draft.samples, AUDIO: rows},
        offsets=(*draft.offsets, offset),
    )


@pytest.mark.law
@given(
    pcm=st.binary(max_size=300),
    rate=st.integers(1, 2**32 - 1),
    device=st.none() | st.integers(0, 2**62),
)
def test_the_samples_of_a_message_are_found_again(pcm, rate, device):
    message = audio_message(pcm, sample_rate_hz=rate, capture_ns=7, device_ns=device)
    data = memoryview(message.join())
    start, end, stamp = image_range(data)
    assert bytes(data[start:end]) == pcm
    assert stamp == device


def test_another_reader_sees_foxglove_raw_audio(tmp_path):
    reader = pytest.importorskip("mcap.reader")
    path = write_draft(with_sound(legal_draft(8)), tmp_path)
    with path.open("rb") as file:
        told = [
            (schema.name, message.log_time, bytes(message.data))
            for schema, channel, message in reader.make_reader(file).iter_messages()
            if channel.topic == "/audio"
        ]
    assert {name for name, _, _ in told} == {"foxglove.RawAudio"}
    assert len(told) == 12
    assert b"pcm-s16" in told[0][2]


@pytest.mark.slow
@given(samples=arrays.arrays(np.int16, st.integers(1, 40)))
def test_what_a_microphone_gave_comes_back_sample_for_sample(tmp_path_factory, samples):
    folder = tmp_path_factory.mktemp("sound")
    metadata = legal_metadata(episode_id="one")
    with EpisodeRecorder(folder, metadata, (SPEC,), lossless_pacing=True) as recorder:
        recorder.audio(samples, capture_ns=5, device_ns=3)
        summary = recorder.close()
    with open_recording(summary.path) as recording:
        stream = recording.streams[AUDIO]
        assert stream.device_ns.tolist() == [3]
        found = np.frombuffer(stream.blob(0), "<i2")
        np.testing.assert_array_equal(found, samples)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(3, np.float32), np.zeros((2, 2), np.int16), np.zeros(0, np.int16)],
)
def test_what_is_no_block_of_sound_is_refused(tmp_path, samples):
    with EpisodeRecorder(tmp_path, legal_metadata(), (SPEC,)) as recorder:
        with pytest.raises(ContractError, match="E-RLDS-RECORD-012"):
            recorder.audio(samples, capture_ns=0)
        recorder.close()


def test_a_recording_without_sound_takes_none(tmp_path):
    rgb = StreamSpec(name="rgb", codec="jpeg")
    with EpisodeRecorder(tmp_path, legal_metadata(), (rgb,)) as recorder:
        with pytest.raises(UsageError, match="E-RLDS-RECORD-007"):
            recorder.audio(np.zeros(3, np.int16), capture_ns=0)
        recorder.close()


@pytest.mark.parametrize(("codec", "rate"), [("audio", 0), ("audio", -1), ("blob", 8)])
def test_sound_and_nothing_else_has_a_sample_rate(codec, rate):
    with pytest.raises(ContractError, match="E-RLDS-STREAM-006"):
        StreamSpec(name="audio", codec=codec, sample_rate_hz=rate)


def test_an_episode_with_whole_sound_is_strictly_legal(tmp_path):
    path = write_draft(with_sound(legal_draft(8)), tmp_path)
    report = validate_recording(path)
    assert not report.errors
    assert "E-EPISODE-SOUND-002" not in {f.code for f in report.warnings}


@pytest.mark.slow
@pytest.mark.req("R-EPISODE-63")
@pytest.mark.parametrize(("level", "leaves"), [("training", False), ("partner", True)])
def test_sound_leaves_only_where_the_level_lets_it(tmp_path, level, leaves):
    cleared = Share(pii_cleared=True, pending_review=False)
    draft = with_sound(legal_draft(8))
    metadata = attrs.evolve(draft.metadata, share=cleared)
    (tmp_path / "in").mkdir()
    write_draft(attrs.evolve(draft, metadata=metadata), tmp_path / "in")
    report = export_episodes(
        tmp_path / "in",
        tmp_path / "out",
        secret=SECRET,
        origin_tag="test",
        level=SharingLevel(level),
    )
    (path,) = report.episodes
    with open_recording(path) as recording:
        assert (AUDIO in recording.streams) is leaves
        assert len(recording.streams["rgb"]) == 8
        clocks = {stream.spec.clock for stream in recording.streams.values()}
        measured = {offset.device for offset in recording.clock_offsets}
        assert measured  # the camera's stays
        assert measured <= clocks  # the microphone's goes with its sound
        if leaves:
            block = np.frombuffer(recording.streams[AUDIO].blob(3), "<i2")
            assert (block == 3).all()
    spoken = np.full(320, 7, "<i2").tobytes()
    assert (spoken in path.read_bytes()) is leaves
