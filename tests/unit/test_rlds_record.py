"""Recording: what goes in comes out, and what goes wrong ends with its reason."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from continuon.clock import ClockOffset
from continuon.errors import ContractError, DataError, UsageError
from continuon.rlds.episode import EndReason, EpisodeMetadata, StreamSpec
from continuon.rlds.file_sink import FileSink
from continuon.rlds.images import decode_depth_png, decode_jpeg, encode_jpeg
from continuon.rlds.recorder import EpisodeRecorder
from continuon.rlds.recording import open_recording
from continuon.rlds.recovery import Outcome, recover_recordings

STREAMS = (
    StreamSpec(name="rgb", codec="jpeg", clock="camera", width=16, height=12),
    StreamSpec(name="depth", codec="png16", clock="camera", width=16, height=12),
    StreamSpec(name="state", codec="vector", names=("speed_mps", "yaw_rate_rad_s")),
    StreamSpec(name="action", codec="vector", names=("steering", "throttle")),
)


def metadata(episode_id="e1", **changes):
    facts = {
        "origin": "simulated",
        "xr_mode": "trainer",
        "control_role": "human_teleop",
        "action_source": "human_teleop_xr",
        "environment_id": "desk",
        "robot_id": "car-1",
        "robot_model": "car",
        "frame_convention": "base_link",
        "software": {"continuon": "0"},
        "start_wall_ns": 5,
        "camera_rate_hz": 30.0,
    }
    return EpisodeMetadata(episode_id=episode_id, **(facts | changes))


def frame(step):
    return np.full((12, 16, 3), 10 * step % 256, np.uint8)


def depth(step):
    return np.arange(192, dtype=np.uint16).reshape(12, 16) + step


def record(directory, steps=4, episode_id="e1", reason=EndReason.COMPLETE, **options):
    recorder = EpisodeRecorder(
        directory, metadata(episode_id), STREAMS, lossless_pacing=True, **options
    )
    recorder.open()
    recorder.clock_offset(ClockOffset("camera", 7, 100_000, 0))
    for step in range(steps):
        at = 33_000_000 * step
        recorder.rgb(frame(step), capture_ns=at, device_ns=at - 7)
        recorder.depth(depth(step), capture_ns=at + 1_000_000)
        recorder.vector("state", [step, 0.1], capture_ns=at)
        recorder.vector("action", [0.5, -step / 10], capture_ns=at)
    return recorder.close(reason)


@pytest.mark.req("R-EPISODE-03")
@pytest.mark.req("R-EPISODE-10")
def test_what_is_recorded_comes_back_with_every_streams_own_time(tmp_path):
    summary = record(tmp_path)
    with open_recording(summary.path) as episode:
        assert episode.metadata == metadata()
        assert episode.end_reason is EndReason.COMPLETE
        rgb, states = episode.streams["rgb"], episode.streams["state"]
        assert rgb.device_ns.tolist() == [33_000_000 * i - 7 for i in range(4)]
        assert episode.streams["depth"].capture_ns[1] == 34_000_000
        np.testing.assert_array_equal(
            states.vectors, np.float32([[i, 0.1] for i in range(4)])
        )
        np.testing.assert_array_equal(
            decode_depth_png(episode.streams["depth"].blob(3)), depth(3)
        )
        assert decode_jpeg(rgb.blob(2)).shape == (12, 16, 3)
        assert [offset.device for offset in episode.clock_offsets] == ["camera"]


def test_the_summary_holds_counts_and_the_files_digest(tmp_path):
    summary = record(tmp_path)
    assert summary.counts == dict.fromkeys(("rgb", "depth", "state", "action"), 4)
    assert summary.sha256 == hashlib.sha256(summary.path.read_bytes()).hexdigest()
    assert summary.bytes == summary.path.stat().st_size
    assert summary.as_dict()["end_reason"] == "complete"


@pytest.mark.req("R-EPISODE-16")
def test_the_same_samples_make_the_same_bytes(tmp_path):
    digests = {record(tmp_path / str(i), steps=6).sha256 for i in range(3)}
    assert len(digests) == 1


@pytest.mark.req("R-EPISODE-11")
def test_the_mcap_package_reads_a_recording_and_finds_no_fault(tmp_path):
    reader = pytest.importorskip("mcap.reader")
    summary = record(tmp_path)
    with summary.path.open("rb") as file:
        mcap = reader.make_reader(file, validate_crcs=True)
        statistics = mcap.get_summary().statistics
        messages = list(mcap.iter_messages())
    assert statistics.message_count == len(messages) == 17
    assert statistics.chunk_count == 5
    assert {schema.name for schema, *_ in messages} == {
        "foxglove.CompressedImage",
        "continuon.state",
        "continuon.action",
        "continuon.ClockOffset",
    }


@pytest.mark.req("R-EPISODE-11")
def test_protobuf_itself_decodes_our_images_with_the_schema_in_the_file(tmp_path):
    reader = pytest.importorskip("mcap.reader")
    descriptors = pytest.importorskip("google.protobuf.descriptor_pb2")
    pool_module = pytest.importorskip("google.protobuf.descriptor_pool")
    factory = pytest.importorskip("google.protobuf.message_factory")
    summary = record(tmp_path, steps=2)
    with summary.path.open("rb") as file:
        schema, _, message = next(
            reader.make_reader(file).iter_messages(topics=["/rgb"], reverse=True)
        )
    pool = pool_module.DescriptorPool()
    for item in descriptors.FileDescriptorSet.FromString(schema.data).file:
        pool.Add(item)
    kind = factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))
    image = kind.FromString(message.data)
    assert (image.format, image.frame_id) == ("jpeg", "rgb")
    assert image.timestamp.nanos == 33_000_000
    assert image.device_ns == 33_000_000 - 7
    assert decode_jpeg(image.data).shape == (12, 16, 3)


def test_a_cameras_own_jpeg_is_stored_as_it_came(tmp_path):
    blob = encode_jpeg(frame(3), quality=50)
    with EpisodeRecorder(tmp_path, metadata(), STREAMS) as recorder:
        recorder.rgb(blob, capture_ns=1)
    assert open_recording(recorder.path).streams["rgb"].blob(0) == blob


def test_the_caller_may_reuse_its_buffer_at_once(tmp_path):
    buffer = depth(0)
    with EpisodeRecorder(tmp_path, metadata(), STREAMS) as recorder:
        recorder.depth(buffer, capture_ns=1)
        buffer[:] = 0
    stored = open_recording(recorder.path).streams["depth"].blob(0)
    np.testing.assert_array_equal(decode_depth_png(stored), depth(0))


@pytest.mark.req("R-EPISODE-12")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_is_refused(tmp_path, bad):
    with EpisodeRecorder(tmp_path, metadata(), STREAMS) as recorder:
        with pytest.raises(ContractError, match="E-RLDS-ACTION-001"):
            recorder.vector("action", [bad, 0.0], capture_ns=1)
        recorder.vector("action", [0.0, 0.0], capture_ns=2)
    assert recorder.summary.counts["action"] == 1


def test_a_state_without_a_reading_is_kept_as_unknown(tmp_path):
    with EpisodeRecorder(tmp_path, metadata(), STREAMS) as recorder:
        recorder.vector("state", [np.nan, 1.0], capture_ns=1)
    vectors = open_recording(recorder.path).streams["state"].vectors
    assert np.isnan(vectors[0, 0])
    assert vectors[0, 1] == 1.0


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda r: r.rgb(np.zeros((12, 17, 3), np.uint8), capture_ns=1), "RECORD-004"),
        (lambda r: r.rgb(np.zeros((12, 16), np.uint8), capture_ns=1), "RECORD-009"),
        (lambda r: r.depth(np.zeros((12, 16), np.uint8), capture_ns=1), "RECORD-009"),
        (lambda r: r.vector("state", [1.0], capture_ns=1), "RECORD-005"),
        (lambda r: r.rgb(frame(0), capture_ns=-1), "RECORD-008"),
        (lambda r: r.rgb(b"", capture_ns=1), "JPEG-001"),
    ],
)
def test_a_sample_that_does_not_fit_its_stream_is_refused(tmp_path, act, code):
    with (
        EpisodeRecorder(tmp_path, metadata(), STREAMS) as recorder,
        pytest.raises((ContractError, DataError), match=code),
    ):
        act(recorder)


def test_a_stream_that_was_not_declared_is_a_usage_error(tmp_path):
    with (
        EpisodeRecorder(tmp_path, metadata(), STREAMS) as recorder,
        pytest.raises(UsageError, match="RECORD-007"),
    ):
        recorder.vector("rgb", [1.0], capture_ns=1)


def test_a_recorder_opens_nothing_before_it_is_entered(tmp_path):
    recorder = EpisodeRecorder(tmp_path / "none", metadata(), STREAMS)
    assert not (tmp_path / "none").exists()
    with pytest.raises(UsageError, match="RECORD-010"):
        recorder.rgb(frame(0), capture_ns=1)


@pytest.mark.req("R-EPISODE-13")
def test_an_episode_is_never_recorded_over(tmp_path):
    record(tmp_path)
    with pytest.raises(DataError, match="E-RLDS-RECORD-001"):
        EpisodeRecorder(tmp_path, metadata(), STREAMS).open()


@pytest.mark.req("R-EPISODE-04")
def test_contradicting_mode_role_and_source_are_refused_before_a_file_exists(tmp_path):
    wrong = metadata(action_source="human_supervisor")
    with pytest.raises(ContractError, match="E-RLDS-RECORD-002"):
        EpisodeRecorder(tmp_path, wrong, STREAMS).open()
    assert not list(tmp_path.iterdir())


class StuckSink(FileSink):
    """A disk that does not answer until it is told to."""

    go = threading.Event()

    def append(self, buffers):
        if len(buffers) > 100:
            self.go.wait(20)
        super().append(buffers)


@pytest.mark.req("R-EPISODE-14")
def test_a_full_queue_drops_counts_and_says_so_in_the_file(tmp_path):
    StuckSink.go = threading.Event()
    recorder = EpisodeRecorder(
        tmp_path, metadata(), STREAMS[2:], queue_size=300, open_sink=StuckSink
    )
    recorder.open()
    taken = [recorder.vector("state", [i, i], capture_ns=i) for i in range(700)]
    assert taken[0]
    assert not all(taken)
    StuckSink.go.set()
    summary = recorder.close()
    assert summary.counts["state"] + summary.drops["state"] == 700
    assert summary.drops["state"] == taken.count(False)
    states = open_recording(summary.path)
    assert states.drops["state"] == summary.drops["state"]
    kept = [i for i, was_taken in enumerate(taken) if was_taken]
    assert states.streams["state"].sequence.tolist() == kept


class SmallSink(FileSink):
    """A disk with room for a few kilobytes, which tears the write that passes it."""

    room = 6_000

    def append(self, buffers):
        used = os.fstat(self._fd).st_size
        if used + sum(map(len, buffers)) > self.room:
            super().append([b"".join(buffers)[: self.room - used]])
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(buffers)


@pytest.mark.req("R-EPISODE-15")
@pytest.mark.parametrize("room", [8_000, 9_000, 11_111])
def test_a_full_disk_ends_the_episode_with_its_reason(tmp_path, monkeypatch, room):
    monkeypatch.setattr(SmallSink, "room", room)
    summary = record(tmp_path, steps=30, open_sink=SmallSink)
    assert summary.end_reason is EndReason.DISK_FULL
    assert 0 < summary.counts["rgb"] < 30
    assert summary.counts["rgb"] + summary.drops["rgb"] == 30
    episode = open_recording(summary.path)
    assert episode.end_reason is EndReason.DISK_FULL
    assert episode.drops == summary.drops
    assert summary.sha256 == hashlib.sha256(summary.path.read_bytes()).hexdigest()


def test_a_disk_without_room_for_one_record_leaves_nothing_behind(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(SmallSink, "room", 40)
    with pytest.raises(OSError, match="No space"):
        record(tmp_path, open_sink=SmallSink)
    assert not list(tmp_path.iterdir())


@pytest.mark.req("R-EPISODE-15")
def test_an_encoder_that_fails_ends_the_episode_and_is_named(tmp_path, monkeypatch):
    def broken(image, codec):
        raise DataError("E-TEST-CODEC-001", "codec broke")

    monkeypatch.setattr("continuon.rlds.recorder.encode_depth", broken)
    with pytest.raises(DataError, match=r"E-RLDS-RECORD-006.*codec broke"):
        record(tmp_path)
    assert open_recording(tmp_path / "e1.mcap").end_reason is EndReason.FAULT


def test_an_exception_in_the_block_is_a_fault_and_keeps_the_data(tmp_path):
    recorder = EpisodeRecorder(tmp_path, metadata(), STREAMS)

    def block():
        with recorder:
            recorder.rgb(frame(0), capture_ns=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    episode = open_recording(recorder.path)
    assert episode.end_reason is EndReason.FAULT
    assert len(episode.streams["rgb"]) == 1


def test_closing_twice_returns_the_same_summary(tmp_path):
    recorder = EpisodeRecorder(tmp_path, metadata(), STREAMS)
    recorder.open()
    assert recorder.close(EndReason.CAMERA_LOST) is recorder.close()
    assert recorder.summary.end_reason is EndReason.CAMERA_LOST


CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_rlds_record as t
recorder = t.EpisodeRecorder(Path(sys.argv[2]), t.metadata(), t.STREAMS)
recorder.open()
for step in range(40):
    at = 33_000_000 * step
    recorder.vector("action", [0, 0], capture_ns=at)
    recorder.rgb(t.frame(step), capture_ns=at)
    recorder.depth(t.depth(step), capture_ns=at)
    while recorder._session.queue.lanes[2].pending > 0:
        pass
print("recorded", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.req("R-EPISODE-17")
def test_a_killed_recorder_loses_nothing_that_was_written(tmp_path):
    here = str(Path(__file__).parent)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, here, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"recorded\n"
    part = tmp_path / "e1.mcap.part"
    busy = recover_recordings(tmp_path).episodes
    assert [episode.outcome for episode in busy] == [Outcome.IN_USE]
    child.send_signal(signal.SIGKILL)
    child.communicate()
    with part.open("ab") as file:
        file.write(part.read_bytes()[-3000:-1000])
    report = recover_recordings(tmp_path)
    assert report.exit_code == 3
    assert report.episodes[0].saved["rgb"] == 40
    episode = open_recording(tmp_path / "e1.mcap")
    assert episode.end_reason is EndReason.TRUNCATED
    assert episode.cut_bytes == report.episodes[0].cut_bytes == 2000
    assert len(episode.streams["rgb"]) == 40
    assert not part.exists()
    assert not recover_recordings(tmp_path).episodes


@pytest.mark.req("R-EPISODE-17")
def test_an_unfinished_recording_is_not_opened_but_says_what_to_do(tmp_path):
    summary = record(tmp_path)
    part = tmp_path / "x.mcap.part"
    part.write_bytes(summary.path.read_bytes()[:-100])
    with pytest.raises(DataError, match="episodes recover"):
        open_recording(part)


def test_a_torn_copy_is_kept_aside_and_its_whole_part_takes_its_place(tmp_path):
    summary = record(tmp_path, steps=8)
    torn = summary.path.read_bytes()[:-2500]
    summary.path.write_bytes(torn)
    with pytest.raises(DataError, match="E-RLDS-RECORDING-005"):
        open_recording(summary.path)
    report = recover_recordings(tmp_path)
    assert report.episodes[0].outcome is Outcome.RECOVERED
    assert (tmp_path / "e1.mcap.torn").read_bytes() == torn
    assert 0 < len(open_recording(summary.path).streams["rgb"]) <= 8
    assert report.as_dict()["exit_code"] == report.exit_code


@pytest.mark.req("R-EPISODE-18")
def test_one_flipped_bit_in_a_picture_is_noticed(tmp_path):
    summary = record(tmp_path)
    data = bytearray(summary.path.read_bytes())
    at = data.find(b"\xff\xd8\xff") + 40
    data[at] ^= 1
    summary.path.write_bytes(data)
    with pytest.raises(DataError, match="CRC"):
        open_recording(summary.path)


def test_another_programs_uncompressed_mcap_is_read_but_is_no_episode(tmp_path):
    writer_module = pytest.importorskip("mcap.writer")
    path = tmp_path / "other.mcap"
    with path.open("wb") as file:
        writer = writer_module.Writer(
            file, compression=writer_module.CompressionType.NONE
        )
        writer.start("", "other")
        schema = writer.register_schema("s", "jsonschema", b"{}")
        channel = writer.register_channel("/t", "json", schema, {"a": "b"})
        for i in range(5):
            writer.add_message(channel, i, b"{}", i)
        writer.add_metadata("m", {"k": "v"})
        writer.finish()
    from continuon.rlds.mcap_read import scan_mcap

    contents = scan_mcap(memoryview(path.read_bytes()))
    assert contents.is_finished
    assert contents.damage is None
    assert [at.log_ns for at in contents.messages] == list(range(5))
    assert contents.channels[channel].metadata == {"a": "b"}
    with pytest.raises(DataError, match="E-RLDS-RECORDING-001"):
        open_recording(path)


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "FILE-004"), (b"not an mcap file at all", "MCAP-001")],
)
def test_what_is_no_mcap_is_refused_with_its_code(tmp_path, content, code):
    path = tmp_path / "x.mcap"
    path.write_bytes(content)
    with pytest.raises(DataError, match=code) as caught:
        open_recording(path)
    assert caught.value.where == str(path)


def test_a_folder_is_no_recording_and_said_to_be_one(tmp_path):
    with pytest.raises(DataError, match="E-RLDS-FILE-005"):
        open_recording(tmp_path)


def test_a_recording_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(DataError, match="E-RLDS-FILE-003"):
        open_recording(tmp_path / "none.mcap")
    with pytest.raises(DataError, match="E-RLDS-FILE-003"):
        recover_recordings(tmp_path / "none.mcap")


def test_a_file_that_is_no_mcap_does_not_stop_the_recovery_of_the_others(tmp_path):
    record(tmp_path).path.rename(tmp_path / "e1.mcap.part")
    (tmp_path / "junk.mcap").write_bytes(b"not an mcap file at all")
    outcomes = {e.source.name: e.outcome for e in recover_recordings(tmp_path).episodes}
    assert outcomes == {
        "e1.mcap.part": Outcome.RECOVERED,
        "junk.mcap": Outcome.UNRECOVERABLE,
    }
    assert recover_recordings(tmp_path).exit_code == 3
