import struct

import numpy as np
import pytest

from continuon._specs.robot.fakes import FakeRig
from continuon.clock import ClockOffset
from continuon.errors import DataError
from continuon.rlds.episode import ActionSource
from continuon.robot.feed import CommandRow, Feed, LoopPulse
from continuon.robot.feed_facts import facts_of
from continuon.robot.kernel import Verdict
from continuon.robot.ring import RecordRing, record_ring_bytes

FORMAT = struct.Struct("<qf")


@pytest.fixture
def rig():
    return FakeRig()


@pytest.fixture
def feed(tmp_path, rig):
    facts = facts_of(rig, ("steering", "throttle"), 50.0)
    feed = Feed.create(tmp_path / "feed", facts, frame_slots=4)
    yield feed
    feed.close()


def row(now_ns, **more):
    values = {
        "source": ActionSource.HUMAN_SUPERVISOR,
        "verdict": Verdict.CLIPPED,
        "executing": True,
        "is_blind": False,
        "intended": np.array([0.5, 2.0], np.float32),
        "applied": np.array([0.5, 1.0], np.float32),
    }
    return CommandRow(now_ns=now_ns, **values | more)


def test_another_process_reads_what_the_loop_wrote(feed, rig):
    other = Feed.open(feed.path)
    assert other.facts == feed.facts
    assert other.read_pulse() is None
    assert other.read_offset("camera") is None
    frame = rig.camera.poll()
    sample = rig.state.poll()
    feed.write_frame(frame)
    feed.write_state(sample)
    feed.write_command(row(7))
    feed.write_offset("camera", ClockOffset("camera", -5, 2, 9))
    feed.write_pulse(LoopPulse(now_ns=3, camera_failures=1, executing=True))
    seen = other.read_frame(0)
    assert (seen.rgb == frame.rgb).all()
    assert (seen.depth == frame.depth).all()
    assert seen.depth_capture_ns == frame.depth_capture_ns
    assert (seen.capture_ns, seen.device_ns) == (frame.capture_ns, frame.device_ns)
    assert (other.read_state(0).values == sample.values).all()
    command = other.read_command(0)
    assert command.source is ActionSource.HUMAN_SUPERVISOR
    assert command.verdict is Verdict.CLIPPED
    assert command.applied.tolist() == [0.5, 1.0]
    assert other.read_offset("camera") == ClockOffset("camera", -5, 2, 9)
    assert other.read_pulse().executing
    other.close()


def test_a_frame_without_depth_has_none(feed):
    feed.write_frame(FakeRig(depth=False).camera.poll())
    assert feed.read_frame(0).depth is None
    assert feed.read_frame(0, with_depth=False).depth is None


@pytest.mark.req("R-FEED-01")
def test_what_the_writer_has_passed_is_gone_and_never_mixed(feed, rig):
    for _ in range(6):
        feed.write_frame(rig.camera.poll())
        rig.clock.advance_ns(34_000_000)
    assert feed.frame_count == 6
    assert feed.read_frame(1) is None
    assert feed.read_frame(6) is None
    assert feed.read_frame(5).rgb[0, 0, 0] == 5


@pytest.mark.req("R-FEED-01")
def test_a_record_that_is_being_written_or_damaged_is_not_read(tmp_path):
    memory = bytearray(record_ring_bytes(FORMAT, 4))
    ring = RecordRing(memory, 0, FORMAT, 4)
    for number in range(5):
        ring.append(number, 0.5)
    assert ring.oldest == 1
    assert ring.read(0) is None
    assert ring.read(4) == (4, 0.5)
    memory[64 + 20] ^= 1
    assert ring.read(4) is None


def test_a_file_that_is_no_feed_is_refused(tmp_path):
    with pytest.raises(DataError, match="E-ROBOT-FEED-001"):
        Feed.open(tmp_path / "none")
    (tmp_path / "other").write_bytes(b"x" * 5000)
    with pytest.raises(DataError, match="E-ROBOT-FEED-001"):
        Feed.open(tmp_path / "other")
