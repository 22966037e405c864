import errno
from functools import partial

import numpy as np
import pytest

from continuon._specs.robot.fakes import FakeRig
from continuon.clock import ManualClock
from continuon.errors import ContractError, HardwareError
from continuon.health import Level
from continuon.home import Home
from continuon.rig.calibration import CarCalibration, car_pulses_us
from continuon.rig.microphone import Microphone
from continuon.rlds.episode import ActionSource, EndReason
from continuon.rlds.file_sink import FileSink
from continuon.rlds.recorder import EpisodeRecorder
from continuon.rlds.recording import open_recording
from continuon.robot.capture_episode import EpisodeNotes
from continuon.robot.channel import channel_pair
from continuon.robot.envelope import car_limits
from continuon.robot.feed import Feed
from continuon.robot.feed_facts import episode_metadata, facts_of
from continuon.robot.live_episode import LiveEpisode
from continuon.robot.loop import ControlLoop
from continuon.robot.modes import Mode, ModeState
from continuon.robot.outputs import ServoOutput
from continuon.robot.pilots import TeleopPilot
from continuon.robot.publisher import FeedPublisher
from continuon.robot.recorder_process import RecorderProcess
from continuon.robot.recordings import Recordings, Wish, _name
from continuon.robot.steady import SteadyEye
from continuon.robot.ticklog import ROW
from continuon.robot.timing import timing_report
from continuon.robot.viewfinder import CameraFacts, Viewfinder
from continuon.robot.vitals import read_vitals

MS = 1_000_000
LOSSLESS = partial(EpisodeRecorder, lossless_pacing=True)


class Desk:
    """A loop that publishes, in this process, on a hand-moved clock."""

    def __init__(self, folder, rig):
        self.rig, self.clock, self.folder = rig, rig.clock, folder
        limits = car_limits(state_names=rig.state.names)
        self.facts = facts_of(rig, limits.names, 50.0)
        self.feed = Feed.create(folder / "feed", self.facts)
        self.eye = SteadyEye(rig.camera, rig.clock)
        self.hand = TeleopPilot()
        self.loop = ControlLoop(
            camera=self.eye,
            state=rig.state,
            output=ServoOutput(rig.servos),
            pulses=partial(car_pulses_us, calibration=CarCalibration()),
            limits=limits,
        )
        self.loop.pilot = self.hand
        self.publisher = FeedPublisher(self.feed, self.eye, rig.state)
        self.holds = True
        self.reason = None

    def tick(self, episode=None):
        self.clock.advance_ns(20 * MS)
        now_ns = self.clock.monotonic_ns()
        if self.holds:
            action = np.array([0.1, 0.2], np.float32)
            source = ActionSource.HUMAN_TELEOP_XR
            self.hand.command(action, source, received_ns=now_ns)
        tick = self.loop.tick(now_ns)
        self.publisher.publish(tick, executing=self.loop.executing)
        if episode is not None and self.reason is None:
            self.reason = episode.pump(now_ns)

    def drive(self, seconds, episode=None):
        for _ in range(round(seconds * 50)):
            self.tick(episode)

    def metadata(self, name="one"):
        notes = EpisodeNotes(task="drive", tags=("day",))
        return episode_metadata(
            self.facts, notes, episode_id=name, start_wall_ns=self.clock.wall_ns()
        )

    def begin(self, *, limit_s=60.0, open_recorder=LOSSLESS, microphone=None):
        return LiveEpisode(
            self.feed,
            self.folder / "episodes",
            self.metadata(),
            now_ns=self.clock.monotonic_ns(),
            time_limit_ns=round(limit_s * 1e9),
            microphone=microphone,
            open_recorder=open_recorder,
        )

    def start(self):
        self.drive(0.2)
        self.loop.start(self.clock.monotonic_ns())
        self.drive(0.2)


@pytest.fixture
def desk(tmp_path):
    made = []

    def make(**more):
        desk = Desk(tmp_path, FakeRig(**more))
        made.append(desk)
        return desk

    yield make
    for desk in made:
        desk.feed.close()


class Sound:
    """One 20 ms block at every second look; None, the end of it, where it is broken."""

    def __init__(self, *, works):
        self.works, self.looks, self.closed = works, 0, False

    def read(self):
        self.looks += 1
        if not self.works:
            return None
        return np.full(320, 7, "<i2").tobytes() if self.looks % 2 else b""

    def close(self):
        self.closed = True


@pytest.mark.parametrize("works", [True, False])
def test_a_microphones_sound_goes_with_the_episode_or_is_counted_lost(desk, works):
    desk = desk()
    desk.start()
    source = Sound(works=works)
    microphone = Microphone(clock=desk.clock, start=lambda _device, _rate: source)
    episode = desk.begin(microphone=microphone)
    desk.drive(0.5, episode)
    told = episode.progress(desk.clock.monotonic_ns())["sound"]
    assert told == ("recorded" if works else "lost")
    summary = episode.close(EndReason.COMPLETE)
    assert source.closed
    assert summary.drops.get("audio", 0) == (0 if works else 1)
    assert summary.counts["audio"] == (25 if works else 0)
    assert summary.counts["rgb"] == 15


@pytest.mark.req("R-RECORD-01")
def test_an_episode_of_a_live_loop_holds_every_stream_and_every_step(desk):
    desk = desk()
    desk.start()
    episode = desk.begin()
    desk.drive(1.0, episode)
    assert episode.progress(desk.clock.monotonic_ns())["frames"] == 30
    summary = episode.close(EndReason.COMPLETE)
    assert not any(summary.drops.values())
    with open_recording(summary.path) as recording:
        assert recording.metadata.tags == ("day",)
        assert recording.end_reason is EndReason.COMPLETE
        streams = recording.streams
        assert np.allclose(streams["action"].vectors, [0.1, 0.2])
        assert streams["applied"].vectors.shape == (len(streams["action"].vectors), 2)
        # The first frame finds its state and its command: they begin before it.
        assert streams["state"].capture_ns[0] <= streams["rgb"].capture_ns[0]
        assert streams["action"].capture_ns[0] <= streams["rgb"].capture_ns[0]
        assert recording.clock_offsets


@pytest.mark.req("R-RECORD-02")
def test_what_the_feed_passed_unread_is_counted_as_dropped(desk):
    desk = desk()
    desk.start()
    episode = desk.begin()
    desk.drive(12.0)
    episode.pump(desk.clock.monotonic_ns())
    summary = episode.close(EndReason.COMPLETE)
    assert summary.drops["rgb"] == summary.drops["depth"] > 300
    assert summary.drops["action"] > 0
    assert summary.counts["rgb"] + summary.drops["rgb"] == 360


@pytest.mark.req("R-RECORD-03")
@pytest.mark.parametrize("how", [{"dies_after_s": 1.0}, {"freezes_after_s": 1.0}])
def test_a_lost_camera_ends_the_episode_and_what_was_before_is_kept(desk, how):
    desk = desk(**how)
    desk.start()
    episode = desk.begin()
    desk.drive(3.0, episode)
    assert desk.reason is EndReason.CAMERA_LOST
    summary = episode.close(desk.reason)
    with open_recording(summary.path) as recording:
        assert recording.end_reason is EndReason.CAMERA_LOST
        assert len(recording.streams["rgb"].capture_ns) == 18


class FullDisk(FileSink):
    """Has room for some steps, then for its closing records only."""

    room = 60_000

    def append(self, buffers):
        self.room -= sum(len(buffer) for buffer in buffers)
        if self.room < 0:
            self.room = 1 << 30
            raise OSError(errno.ENOSPC, "no space left on device")
        super().append(buffers)


@pytest.mark.req("R-RECORD-03")
def test_a_full_disk_ends_the_episode_and_not_the_drive(desk):
    desk = desk()
    desk.start()
    episode = desk.begin(open_recorder=partial(LOSSLESS, open_sink=FullDisk))
    desk.drive(20.0, episode)
    assert desk.reason is EndReason.DISK_FULL
    assert desk.loop.executing
    summary = episode.close(desk.reason)
    with open_recording(summary.path) as recording:
        assert len(recording.streams["action"].capture_ns) > 10


@pytest.mark.req("R-RECORD-03")
def test_hands_off_is_a_fault_a_person_stopped_and_a_dead_loop_too(desk):
    desk = desk()
    desk.start()
    episode = desk.begin()
    desk.holds = False
    desk.drive(1.0, episode)
    assert desk.reason is EndReason.FAULT
    assert episode.pump(desk.clock.monotonic_ns() + 2_000 * MS) is EndReason.FAULT
    episode.close(desk.reason)


@pytest.mark.req("R-RECORD-03")
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (EndReason.EMERGENCY_STOP, EndReason.EMERGENCY_STOP),
        (EndReason.STOPPED, EndReason.STOPPED),
        (None, EndReason.FAULT),
    ],
)
def test_the_reason_of_a_stop_is_what_the_supervisor_says(desk, said, reason):
    desk = desk()
    desk.start()
    episode = desk.begin()
    desk.drive(0.2, episode)
    desk.loop.stop()
    desk.drive(0.2, episode)
    assert desk.reason is None
    if said is not None:
        episode.say_why(said)
    desk.drive(0.5, episode)
    assert desk.reason is reason
    episode.close(reason)


def test_an_episode_ends_at_its_limit(desk):
    desk = desk()
    desk.start()
    episode = desk.begin(limit_s=0.5)
    desk.drive(1.0, episode)
    assert desk.reason is EndReason.TIME_LIMIT
    episode.close(desk.reason)


def test_without_a_fresh_frame_nothing_begins(desk):
    desk = desk(freezes_after_s=0.1)
    desk.start()
    desk.drive(2.0)
    with pytest.raises(HardwareError, match="E-ROBOT-RECORD-002"):
        desk.begin()
    assert not (desk.folder / "episodes").exists()


class Parent:
    """The recorder process in this process, and the end that asks it."""

    def __init__(self, desk):
        self.desk = desk
        self.mine, self.theirs = channel_pair()
        begin = partial(LiveEpisode, open_recorder=LOSSLESS)
        self.process = RecorderProcess(desk.feed, self.theirs, desk.clock, begin=begin)

    def ask(self, do, **more):
        self.mine.send({"id": 1, "do": do, **more})
        self.process.turn()
        return self.mine.receive()

    def begin(self):
        import msgspec

        return self.ask(
            "begin",
            directory=str(self.desk.folder / "episodes"),
            metadata=msgspec.to_builtins(self.desk.metadata()),
            time_limit_ns=10**10,
        )


@pytest.fixture
def parent(desk):
    desk = desk()
    desk.start()
    parent = Parent(desk)
    yield parent
    parent.mine.close()
    parent.theirs.close()


@pytest.mark.req("R-RECORD-04")
def test_the_recorder_begins_reports_ends_and_judges(parent):
    assert parent.begin()["episode_id"] == "one"
    assert parent.begin()["error"]["code"] == "E-ROBOT-RECORD-003"
    for _ in range(100):
        parent.desk.tick()
        parent.process.turn()
    progress = parent.ask("progress")["episode"]
    assert progress["sources"] == {"human_teleop_xr": 101}
    assert parent.ask("end", reason="complete") == {"id": 1, "ending": True}
    ended = parent.mine.receive()
    assert ended["event"] == "ended"
    assert ended["summary"]["end_reason"] == "complete"
    judged = parent.mine.receive()
    assert judged["event"] == "judged"
    assert judged["about"]["task"] == "drive"
    assert judged["report"]["errors"] == []
    assert judged["report"]["figures"]["steps"] > 50
    assert parent.ask("progress")["episode"] is None
    assert parent.begin()["error"]["code"] == "E-RLDS-RECORD-001"
    assert parent.ask("dance")["error"]["code"] == "E-ROBOT-RECORD-004"


@pytest.mark.req("R-RECORD-04")
def test_a_recorder_whose_parent_died_finishes_its_episode(parent):
    parent.begin()
    parent.desk.drive(0.2)
    parent.mine.shut()
    assert not parent.process.turn()
    parent.process.close()
    with open_recording(parent.desk.folder / "episodes" / "one.mcap") as recording:
        assert recording.end_reason is EndReason.FAULT


def test_a_disk_that_takes_no_file_is_named(parent):
    (parent.desk.folder / "episodes").write_text("in the way")
    assert parent.begin()["error"]["code"] == "E-ROBOT-RECORD-005"


@pytest.mark.req("R-COCKPIT-01")
def test_people_see_the_newest_frame_encoded_once_and_how_old_it_is(desk):
    desk = desk()
    finder = Viewfinder(desk.folder / "none")
    assert finder.look(-1, 0) is None
    assert finder.facts(0) is None
    finder = Viewfinder(desk.feed.path)
    assert finder.facts(0).age_ns is None
    desk.drive(0.2)
    now_ns = desk.clock.monotonic_ns()
    picture = finder.look(-1, now_ns)
    assert picture.jpeg[:2] == b"\xff\xd8"
    assert picture is finder.look(picture.number - 1, now_ns)
    assert finder.look(picture.number, now_ns) is None
    assert finder.facts(now_ns).age_ns == picture.age_ns
    finder.close()


def timing(late_ms, ticks=50):
    rows = np.zeros(ticks, ROW)
    rows["lateness_ns"] = late_ms * MS
    rows["start_ns"] = np.arange(ticks) * 20 * MS
    return timing_report(rows, period_ns=20 * MS)


@pytest.mark.req("R-COCKPIT-01")
@pytest.mark.parametrize(
    ("changes", "name", "level"),
    [
        ({}, "loop", Level.OK),
        ({"timing": timing(2.5)}, "loop", Level.WARN),
        ({"timing": timing(0, ticks=0)}, "loop", Level.UNKNOWN),
        ({}, "camera", Level.OK),
        ({"camera": None}, "camera", Level.UNKNOWN),
        (
            {"camera": CameraFacts(frames=9, failures=0, age_ns=2_000 * MS)},
            "camera",
            Level.STALE,
        ),
        (
            {"camera": CameraFacts(frames=9, failures=3, age_ns=MS)},
            "camera",
            Level.WARN,
        ),
        ({"parts": {"guard": True, "recorder": False}}, "processes", Level.WARN),
        ({"parts": {"guard": False, "recorder": True}}, "processes", Level.CRITICAL),
    ],
)
def test_vitals_are_graded_and_what_is_absent_is_not_fine(
    tmp_path, changes, name, level
):
    facts = {
        "parts": {"guard": True, "recorder": True},
        "timing": timing(0.1),
        "camera": CameraFacts(frames=9, failures=0, age_ns=MS),
        "supply": None,
    }
    report = read_vitals(FakeRig(), tmp_path, **facts | changes)
    assert report.origin == "simulated"
    checks = {check.name: check for check in report.checks}
    assert checks[name].level is level
    # This rig has no thermometer, and no line about one.
    assert "thermal" not in checks


class FakeRecorder:
    """Remembers what it was asked."""

    alive = True

    def __init__(self):
        self.begun, self.ended, self.judged, self.launched = [], [], [], 0

    def begin(self, directory, metadata, *, time_limit_ns):
        self.begun.append((metadata, time_limit_ns))
        return metadata.episode_id

    def end(self, reason):
        self.ended.append(reason)

    def judge(self, path):
        self.judged.append(path)

    def progress(self):
        return {"frames": 1}

    def launch(self):
        self.launched += 1

    def close(self):
        """Nothing to close."""


@pytest.fixture
def shelf(desk, tmp_path):
    desk = desk()
    shelf = Recordings(
        Home(tmp_path),
        desk.feed.path,
        robot_id="car-7",
        clock=ManualClock(5, wall_offset_ns=10**18),
    )
    shelf.recorder = FakeRecorder()
    return shelf


TRAINING = ModeState(mode=Mode.TRAINING, executing=True)
DRIVING = ModeState(mode=Mode.AUTONOMOUS, executing=True)


@pytest.mark.req("R-RECORD-05")
@pytest.mark.parametrize(
    ("state", "wish", "expected"),
    [
        (TRAINING, {}, ("trainer", "human_teleop", "human_teleop_xr")),
        (
            TRAINING,
            {"source": ActionSource.HUMAN_SUPERVISOR},
            ("observer", "human_supervisor", "human_supervisor"),
        ),
        (DRIVING, {}, ("observer", "human_supervisor", "vla_policy")),
        (
            DRIVING,
            {"xr_mode": "trainer"},
            ("trainer", "human_supervisor", "vla_policy"),
        ),
    ],
)
def test_an_episode_says_who_acted_and_with_what(shelf, state, wish, expected):
    begun = shelf.begin(state, Wish(task="t", client="companion", **wish))
    metadata = shelf.recorder.begun[0][0]
    assert begun["action_source"] == expected[2] == shelf.source
    assert metadata.robot_id == "car-7"
    assert metadata.origin == "simulated"
    assert metadata.provenance == {"client": "companion"}
    roles = (metadata.xr_mode, metadata.control_role, metadata.action_source)
    assert roles == expected


@pytest.mark.req("R-RECORD-05")
@pytest.mark.parametrize(
    ("state", "wish", "code"),
    [
        (ModeState(mode=Mode.TRAINING), {}, "E-ROBOT-RECORD-001"),
        (ModeState(mode=Mode.MANUAL, executing=True), {}, "E-ROBOT-RECORD-001"),
        (DRIVING, {"source": ActionSource.HUMAN_TELEOP_XR}, "E-ROBOT-RECORD-009"),
        (TRAINING, {"source": ActionSource.VLA_POLICY}, "E-ROBOT-RECORD-009"),
        (TRAINING, {"control_role": "human_supervisor"}, "E-ROBOT-RECORD-009"),
    ],
)
def test_what_nobody_does_is_not_recorded(shelf, state, wish, code):
    with pytest.raises(ContractError, match=code):
        shelf.begin(state, Wish(task="t", **wish))
    assert shelf.recorder.begun == []


@pytest.mark.req("R-RECORD-03")
def test_a_stop_names_itself_to_the_recorder(shelf):
    shelf.motion_ended(ModeState(mode=Mode.E_STOP))
    assert shelf.recorder.ended == []
    shelf.begin(TRAINING, Wish(task="t"))
    shelf.motion_ended(ModeState(mode=Mode.TRAINING))
    shelf.motion_ended(ModeState(mode=Mode.TRAINING), by_itself=True)
    shelf.motion_ended(ModeState(mode=Mode.E_STOP))
    shelf.motion_ended(ModeState(mode=Mode.E_STOP), by_itself=True)
    assert shelf.recorder.ended == [
        EndReason.STOPPED,
        EndReason.FAULT,
        EndReason.EMERGENCY_STOP,
        EndReason.EMERGENCY_STOP,
    ]


@pytest.mark.req("R-RECORD-04")
def test_a_verdict_is_kept_and_is_of_these_bytes_only(shelf, tmp_path):
    home = Home(tmp_path)
    home.episodes.mkdir(parents=True)
    path = home.episodes / "one.mcap"
    path.write_bytes(b"12345")
    (home.episodes / "two.mcap.part").write_bytes(b"1")
    with pytest.raises(ContractError, match="E-ROBOT-RECORD-008"):
        shelf.judge("../one")
    shelf.judge("one")
    report = {"ok": False, "errors": [{"code": "E"}], "warnings": [], "figures": {}}
    event = {"event": "judged", "episode_id": "one", "report": report}
    shelf._heard(event | {"about": {"task": "t"}})
    one, two = shelf.shelf()
    assert (one["task"], one["verdict"]["ok"]) == ("t", False)
    assert "recover" in two["torn"]
    path.write_bytes(b"123456")
    assert "verdict" not in shelf.shelf()[0]


@pytest.mark.req("R-RECORD-04")
def test_a_recorder_that_died_is_noticed_and_started_again(shelf):
    shelf.begin(TRAINING, Wish(task="t"))
    shelf.recorder.alive = False
    shelf.watch()
    shelf.watch()
    assert shelf.recorder.launched == 1
    assert shelf.source is None
    assert shelf.current() is None
    assert shelf.end(EndReason.COMPLETE) is None


def test_the_end_of_an_episode_is_waited_for(shelf):
    begun = shelf.begin(TRAINING, Wish(task="t"))
    assert shelf.current() == {"frames": 1}
    shelf.recorder.end = lambda reason: shelf._results.update(
        {begun["episode_id"]: {"summary": reason}}
    )
    assert shelf.end(EndReason.COMPLETE, wait_s=5.0) == {"summary": EndReason.COMPLETE}


def test_an_episode_is_called_by_its_start():
    assert _name(1_795_665_713_161_940_268) == "20261126T040153-161"
