import json
import os
import struct
from contextlib import contextmanager

import pytest

from continuon.clock import ManualClock, SystemClock
from continuon.errors import ContinuonError, ContractError, HardwareError, UsageError
from continuon.home import Home
from continuon.robot.client import RobotClient, running_or_started
from continuon.robot.handset import HELD_NS, Gamepad, Keyboard, Press, Stick
from continuon.robot.person import record_by_hand

FAKES = "continuon._specs.robot.fakes"
MS = 1_000_000


@pytest.fixture
def terminal():
    person, fd = os.openpty()
    yield person, fd
    os.close(person)
    os.close(fd)


@pytest.mark.req("R-PERSON-01")
def test_a_key_counts_as_held_for_a_short_while_and_hands_off_is_neutral(terminal):
    person, fd = terminal
    with Keyboard(fd) as keyboard:
        assert keyboard.poll(0) == Stick(steering=0.0, throttle=0.0)
        os.write(person, b"\x1b[Aa")
        stick = keyboard.poll(5)
        assert stick.throttle > 0 > stick.steering
        assert keyboard.poll(5 + HELD_NS) == stick
        assert keyboard.poll(6 + HELD_NS) == Stick(steering=0.0, throttle=0.0)
        os.write(person, b"rx\x03z")
        assert keyboard.poll(7).presses == (Press.RECORD, Press.STOP, Press.QUIT)


def test_a_keyboard_is_a_terminal(tmp_path):
    with (tmp_path / "f").open("w") as file, pytest.raises(UsageError) as caught:
        Keyboard(file.fileno())
    assert caught.value.exit_code == 5


def event(value, kind, number):
    return struct.pack("<IhBB", 0, value, kind, number)


@pytest.mark.req("R-PERSON-01")
def test_a_gamepad_at_rest_is_neutral_and_its_sticks_drive(tmp_path):
    path = tmp_path / "js0"
    os.mkfifo(path)
    keeper = os.open(path, os.O_RDWR)
    with Gamepad(path) as pad:
        os.write(keeper, event(0, 0x82, 0) + event(-32767, 0x82, 5))
        assert pad.poll(0) == Stick(steering=0.0, throttle=0.0)
        os.write(keeper, event(-32767, 2, 0) + event(32767, 2, 5) + event(1, 1, 0))
        stick = pad.poll(0)
        assert (stick.steering, stick.presses) == (-1.0, (Press.RECORD,))
        assert 0 < stick.throttle < 1
        os.write(keeper, event(1, 0x81, 1) + event(1, 1, 7) + event(1000, 2, 0))
        assert pad.poll(0).presses == (Press.QUIT,)
        assert pad.poll(0).steering == 0.0
    os.close(keeper)
    with pytest.raises(HardwareError, match="E-ROBOT-GAMEPAD-001"):
        Gamepad(tmp_path / "none")


class FakeHandset:
    """Presses by turn."""

    def __init__(self, **presses):
        self.presses = {int(turn[1:]): press for turn, press in presses.items()}
        self.turn = 0

    def poll(self, now_ns):
        self.turn += 1
        press = self.presses.get(self.turn)
        return Stick(
            steering=0.1, throttle=0.2, presses=(press,) if press is not None else ()
        )


class FakeClient:
    """A robot that lists what it recorded."""

    def __init__(self, answers=()):
        self.asked, self.sent, self.answers = [], [], list(answers)
        self.recording = None
        self.shelf = []
        self.refuses = None

    def ask(self, path, body=None):
        if body is not None:
            self.asked.append((path, body))
        if path == "/episodes" and body is not None:
            if self.refuses:
                raise self.refuses
            self.recording = f"e{len(self.shelf)}"
            return {"episode_id": self.recording}
        if path == "/episodes/end":
            if self.recording is None:
                raise ContractError("E-ROBOT-RECORD-010", "none")
            verdict = {"ok": len(self.shelf) == 0}
            self.shelf.append({"episode_id": self.recording, "verdict": verdict})
            self.recording = None
        return {"episodes": self.shelf, "recording": self.recording}

    @contextmanager
    def teleop(self):
        yield self

    def send(self, action, source):
        self.sent.append((action, source))
        return self.answers.pop(0) if self.answers else {"taken": True}


def record(client, handset, count=2):
    said = []
    report = record_by_hand(
        client,
        handset,
        count=count,
        task="dock",
        tags=("dusk",),
        duration_s=9.0,
        clock=ManualClock(0),
        say=said.append,
    )
    return report, said


def modes(client):
    return [b["request"] for path, b in client.asked if path == "/mode"]


@pytest.mark.req("R-PERSON-02")
def test_a_person_records_episodes_and_the_robot_is_disarmed_at_the_end():
    client, r = FakeClient(), Press.RECORD
    report, _ = record(client, FakeHandset(t2=r, t5=r, t7=r, t9=r))
    assert (report.good, len(report.episodes)) == (1, 2)
    assert modes(client) == ["TRAINING", "START", "DISARM"]
    bodies = [body for path, body in client.asked if path == "/episodes"]
    assert bodies[0] == {
        "task": "dock",
        "tags": ["dusk"],
        "client": "terminal",
        "max_duration_s": 9.0,
    }
    assert client.sent[0] == ((0.1, 0.2), "human_teleop_xr")


@pytest.mark.req("R-PERSON-02")
def test_an_emergency_stop_is_left_for_a_person_to_clear():
    client = FakeClient()
    report, said = record(client, FakeHandset(t2=Press.RECORD, t4=Press.STOP))
    assert report.stopped
    assert ("/estop", {"reason": "a person at the handset"}) in client.asked
    assert modes(client) == ["TRAINING", "START"]
    assert "clear-estop" in said[-2] + said[-1]


def test_quitting_ends_the_episode_and_an_episode_that_ended_itself_is_noticed():
    client = FakeClient()
    report, _ = record(client, FakeHandset(t2=Press.RECORD, t4=Press.QUIT))
    assert client.asked[-1] == ("/episodes/end", {"outcome": "stopped"})
    client = FakeClient()

    class Forgets(FakeHandset):
        def poll(self, now_ns):
            if self.turn == 10:
                client.ask("/episodes/end", {})
            return super().poll(now_ns)

    report, _ = record(client, Forgets(t2=Press.RECORD), count=1)
    assert len(report.episodes) == 1


def test_what_the_robot_says_reaches_the_person():
    refused = {"code": "E-ROBOT-TELEOP-002", "what": "another source"}
    gone = {"code": "E-ROBOT-TELEOP-001", "what": "not by hand"}
    client = FakeClient([refused, {"taken": True}, gone])
    client.refuses = ContinuonError("E-ROBOT-RECORD-002", "no camera")
    report, said = record(client, FakeHandset(t2=Press.RECORD))
    assert report.episodes == ()
    assert any("E-ROBOT-TELEOP-002" in line for line in said)
    assert any("E-ROBOT-RECORD-002" in line for line in said)
    assert "stopped by itself" in said[-1]


def test_no_service_is_named(tmp_path):
    with pytest.raises(HardwareError, match="E-ROBOT-CLIENT-001"):
        RobotClient.find(Home(tmp_path))
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "service.json").write_text(
        json.dumps({"port": 1, "pid": os.getpid()})
    )
    (tmp_path / "state" / "local.token").write_text("x")
    with pytest.raises(HardwareError, match="E-ROBOT-CLIENT-002"):
        RobotClient.find(Home(tmp_path)).ask("/status")


@pytest.mark.slow
@pytest.mark.req("R-PERSON-02", "R-RECORD-01", "R-API-02")
def test_a_service_is_started_driven_paired_and_stopped(tmp_path):
    pytest.importorskip("websockets")
    home = Home(tmp_path)
    rig = json.dumps({"target": f"{FAKES}:LiveFakeRig"})
    handset = FakeHandset(t2=Press.RECORD, t30=Press.RECORD)
    with running_or_started(home, rig) as client:
        report = record_by_hand(
            client,
            handset,
            count=1,
            task="dock",
            clock=SystemClock(),
            say=lambda text: None,
        )
        code = client.ask("/pairing", {"role": "viewer"})["code"]
        paired = client.ask("/pair", {"code": code, "name": "tablet"})
        assert paired["role"] == "viewer"
        with running_or_started(home, rig) as again:
            assert again.port == client.port
            assert again.ask("/whoami")["role"] == "owner"
        viewer = RobotClient(client.port, paired["token"])
        with pytest.raises(ContinuonError, match="E-ROBOT-API-001"):
            viewer.ask("/mode", {"request": "START"})
    (episode,) = report.episodes
    # On a starved machine the hand falls silent, and the robot stops: a fault, rightly,
    # or stopped where that was before the recorder saw its first command.
    assert episode.get("end_reason", "complete") in ("complete", "fault", "stopped")
    assert episode["bytes"] > 1000
    with pytest.raises(HardwareError, match="E-ROBOT-CLIENT-001"):
        RobotClient.find(home)
