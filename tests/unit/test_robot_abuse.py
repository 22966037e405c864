"""What a careless user, a flood and a full disk do, each found by looking for it."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from continuon.clock import ManualClock
from continuon.errors import HardwareError
from continuon.home import Home
from continuon.robot.keeper import ModeKeeper
from continuon.robot.latch import EStopLatch
from continuon.robot.modes import Actor, Mode, Request
from continuon.robot.recordings import Recordings
from continuon.robot.steady import MEND_NS, SteadyEye

MS = 1_000_000


@pytest.fixture
def latch(tmp_path):
    return EStopLatch(tmp_path / "state" / "estop.json", ManualClock(5))


def full(*args, **kwargs):
    raise OSError(28, "no space left on device")


@pytest.mark.req("R-LATCH-05")
def test_a_latch_that_is_deleted_while_stopped_is_there_again_at_a_restart(latch):
    keeper = ModeKeeper(latch)
    keeper.boot()
    keeper.request(Request.E_STOP, Actor.PERSON)
    latch.path.unlink()
    latch.path.parent.rmdir()
    assert keeper.keep_latched() is None
    assert latch.read().latched
    assert ModeKeeper(latch).boot().mode is Mode.E_STOP


@pytest.mark.req("R-LATCH-05")
def test_what_a_person_cleared_at_the_terminal_is_not_latched_again(latch):
    keeper = ModeKeeper(latch)
    keeper.boot()
    keeper.request(Request.E_STOP, Actor.PERSON)
    latch.clear(reason="looked at", actor=Actor.PERSON)
    assert keeper.keep_latched() is None
    assert not latch.read().latched


@pytest.mark.req("R-LATCH-05")
def test_a_running_robot_needs_no_latch_and_makes_none(latch):
    keeper = ModeKeeper(latch)
    keeper.boot()
    assert keeper.keep_latched() is None
    assert not latch.path.exists()


@pytest.mark.req("R-LATCH-04", "R-LATCH-05")
def test_a_deleted_latch_on_a_full_disk_is_an_empty_file_which_counts_as_set(
    latch, monkeypatch
):
    keeper = ModeKeeper(latch)
    keeper.boot()
    latch.path.parent.mkdir()
    monkeypatch.setattr("continuon.robot.latch.replace_file", full)
    keeper.request(Request.E_STOP, Actor.PERSON)
    assert latch.path.read_bytes() == b""
    latch.path.unlink()
    assert keeper.keep_latched() is None
    assert latch.read().latched
    latch.path.unlink()
    latch.path.parent.rmdir()
    assert "not on disk" in keeper.keep_latched()


@pytest.mark.req("R-RECORD-04")
def test_a_verdict_that_a_full_disk_refuses_is_shown_and_stops_nothing(
    tmp_path, monkeypatch
):
    home = Home(tmp_path)
    home.episodes.mkdir(parents=True)
    (home.episodes / "one.mcap").write_bytes(b"123")
    made = Recordings(home, tmp_path / "feed", robot_id="r", clock=ManualClock(1))
    report = {"ok": True, "errors": [], "warnings": [], "figures": {}}
    event = {"event": "judged", "episode_id": "one", "report": report, "about": {}}
    monkeypatch.setattr("continuon.robot.recordings.replace_file", full)
    made._heard(event)
    assert made.shelf()[0]["verdict"]["ok"] is True
    (home.episodes / "one.mcap").write_bytes(b"1234")
    assert "verdict" not in made.shelf()[0]
    made._heard(event | {"episode_id": "gone"})


class Cable:
    """A camera whose cable is pulled and put back; a stale handle stays stale."""

    def __init__(self):
        self.plugged, self.handle, self.opened = True, "first", 0

    def open(self):
        if not self.plugged:
            raise HardwareError("E-RIG-CAM-002", "the camera cannot be opened")
        self.opened += 1
        self.handle = f"opened {self.opened}"

    def close(self):
        self.handle = None

    def pull(self):
        self.plugged, self.handle = False, "stale"

    def poll(self):
        if self.handle in (None, "stale"):
            raise HardwareError("E-RIG-CAM-001", "the camera does not answer")
        return self.handle


@pytest.mark.req("R-CAPTURE-05")
def test_a_camera_that_is_plugged_in_again_is_seen_without_a_restart():
    camera, clock, waiting = Cable(), ManualClock(5 * MEND_NS), []
    eye = SteadyEye(camera, clock, apart=waiting.append)
    assert eye.poll() == "first"
    camera.pull()
    assert eye.poll() is None
    # While it is opened, which may take long, the loop goes on and sees nothing.
    assert len(waiting) == 1
    assert eye.poll() is None
    assert len(waiting) == 1
    waiting.pop()()
    assert eye.failures == 2
    for _ in range(100):
        clock.advance_ns(20 * MS)
        eye.poll()
    assert len(waiting) == 1, "it is tried again after two seconds, not each tick"
    camera.plugged = True
    waiting.pop()()
    assert eye.poll() == "opened 1"


def test_mending_happens_beside_the_loop():
    camera, clock = Cable(), ManualClock(5 * MEND_NS)
    eye = SteadyEye(camera, clock)
    camera.pull()
    camera.plugged = True
    assert eye.poll() is None
    until = time.monotonic() + 5
    while eye.poll() is None:
        assert time.monotonic() < until
    assert eye.poll() == "opened 1"


@pytest.mark.req("R-MODE-07")
def test_told_to_end_the_service_forbids_motion_before_it_says_goodbye():
    import asyncio

    from continuon.robot.service import _renew

    calls = []
    guard = SimpleNamespace(
        renew=lambda: calls.append("renew"), forbid=lambda: calls.append("forbid")
    )
    server = SimpleNamespace(should_exit=False)

    async def days():
        renewing = asyncio.create_task(_renew(SimpleNamespace(guard=guard), server))
        await asyncio.sleep(0.01)
        server.should_exit = True
        await asyncio.sleep(0.12)
        renewing.cancel()

    asyncio.run(days())
    assert calls[0] == "renew"
    assert calls[1:] == ["forbid"] * len(calls[1:])
    assert len(calls) >= 3, "a start in between would not last"
