"""What a careless user, a flood and a full disk do, each found by looking for it."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace

import pytest

from continuon.clock import ManualClock
from continuon.errors import HardwareError
from continuon.home import Home
from continuon.robot.connections import MAX_ALL, MAX_PEER, Connections
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


def open_ends(count):
    return [SimpleNamespace(is_closing=lambda: False) for _ in range(count)]


@pytest.mark.req("R-API-09")
def test_one_peer_never_takes_the_room_of_the_others():
    held = Connections()
    flood = [held.admit("192.0.2.7", end) for end in open_ends(500)]
    assert sum(flood) == MAX_PEER
    assert held.admit("192.0.2.8", *open_ends(1))
    assert held.admit("127.0.0.1", *open_ends(1))


@pytest.mark.req("R-API-09")
def test_what_is_closed_makes_room_again():
    held, closed = Connections(), [False]
    end = SimpleNamespace(is_closing=lambda: closed[0])
    for _ in range(MAX_PEER):
        assert held.admit("192.0.2.7", end)
    assert not held.admit("192.0.2.7", end)
    closed[0] = True
    assert held.admit("192.0.2.7", *open_ends(1))


@pytest.mark.req("R-API-09")
def test_many_peers_together_leave_descriptors_for_the_robot_itself():
    held = Connections()
    peers = [f"192.0.2.{n}" for n in range(250)]
    admitted = sum(
        held.admit(peer, end) for peer in peers for end in open_ends(MAX_PEER)
    )
    assert admitted == MAX_ALL


@pytest.mark.req("R-API-09")
def test_a_flood_of_idle_connections_leaves_the_stop_button_its_own(monkeypatch):
    """Against the real server: the bound is in force, and lifts with the flood."""
    pytest.importorskip("uvicorn")
    import asyncio
    import http.client

    from continuon.robot import connections
    from continuon.robot.api import Api
    from continuon.robot.front import Front
    from continuon.robot.lan_door import listen
    from continuon.robot.token_store import TokenStore

    monkeypatch.setattr(connections, "MAX_LOCAL", 10)
    tokens = TokenStore(None, ManualClock(1))
    (end,) = listen(("127.0.0.1",), 0)
    port = end.getsockname()[1]
    front = Front(
        Api(None, tokens), tokens, name="car", port=port, lan=False, say=pytest.fail
    )

    def livez(source="127.0.0.1"):
        link = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=2, source_address=(source, 0)
        )
        try:
            link.request("GET", "/livez")
            return link.getresponse().status
        except (ConnectionError, http.client.HTTPException):
            return None
        finally:
            link.close()

    def besiege():
        flood = [socket.create_connection(("127.0.0.1", port)) for _ in range(30)]
        refused, other = livez(), livez("127.0.0.9")
        for one in flood:
            one.close()
        return refused, other

    async def days():
        server = front.listener()
        serving = asyncio.create_task(server.serve([end]))
        while not server.started:  # noqa: ASYNC110 - uvicorn tells no event
            await asyncio.sleep(0.01)
        assert await asyncio.to_thread(besiege) == (None, 200)
        await asyncio.sleep(0.05)
        assert await asyncio.to_thread(livez) == 200
        server.should_exit = True
        await serving

    asyncio.run(days())


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
