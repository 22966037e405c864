"""Floods and slow clients: whoever holds connections keeps nobody else out."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from continuon.clock import ManualClock
from continuon.errors import ContractError
from continuon.robot import connections, http_bounds
from continuon.robot.api import Api
from continuon.robot.api_bodies import StopBody, read_body
from continuon.robot.connections import MAX_LAN, MAX_LOCAL, MAX_PEER, Connections
from continuon.robot.front import Front
from continuon.robot.http_bounds import LIMIT_S, Phase
from continuon.robot.lan_door import listen
from continuon.robot.modes import Mode, ModeState, Request
from continuon.robot.token_store import TokenStore

pytest.importorskip("uvicorn")
HttpRequest = pytest.importorskip("starlette.requests").Request
HERE = "127.0.0.1"
HALF_A_BODY = (
    b"POST /mode HTTP/1.1\r\nhost: localhost\r\n"
    b"content-type: application/json\r\ncontent-length: 50\r\n\r\n{"
)
HALF_A_HEAD = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n"
A_REQUEST = HALF_A_HEAD + b"\r\n"


class End:
    """A connection that remembers that it was dropped."""

    def __init__(self):
        self.closed = False

    def is_closing(self):
        return self.closed

    def abort(self):
        self.closed = True


def busy(held, peer):
    """Let one in that is being answered."""
    place = held.admit(peer, End())
    if place is not None:
        held.touch(place, waits=False)
    return place


@pytest.mark.req("R-API-09")
def test_one_peer_never_takes_the_room_of_the_others():
    held = Connections()
    flood = [busy(held, "192.0.2.7") for _ in range(500)]
    assert len([one for one in flood if one]) == 2 * MAX_PEER
    assert held.admit("192.0.2.8", End())
    assert held.admit(HERE, End())


@pytest.mark.req("R-API-09")
def test_what_is_closed_makes_room_again():
    held = Connections()
    flood = [busy(held, "192.0.2.7") for _ in range(2 * MAX_PEER)]
    assert held.admit("192.0.2.7", End()) is None
    flood[3].transport.closed = True
    assert held.admit("192.0.2.7", End())


@pytest.mark.req("R-API-09")
def test_the_whole_network_leaves_this_machine_and_the_robot_their_room():
    held = Connections()
    peers = [f"192.0.2.{n}" for n in range(250)]
    flood = [busy(held, peer) for peer in peers for _ in range(MAX_PEER)]
    assert len([one for one in flood if one]) == 2 * MAX_LAN
    own = [busy(held, "127.0.0.1") for _ in range(500)]
    assert len([one for one in own if one]) == 2 * MAX_LOCAL
    other = Connections()
    for _ in range(2 * MAX_LOCAL):
        assert busy(other, HERE)
    flood = [busy(other, peer) for peer in peers for _ in range(MAX_PEER)]
    assert len([one for one in flood if one]) == 2 * MAX_LAN, "nor it theirs"
    assert 2 * (MAX_LAN + MAX_LOCAL) <= 800


@pytest.mark.req("R-API-10")
def test_who_waited_longest_makes_room_and_who_is_answered_never():
    held = Connections()
    answered = busy(held, "192.0.2.7")
    waiting = [held.admit("192.0.2.7", End()) for _ in range(MAX_PEER)]
    held.touch(waiting[0], waits=True)
    assert not any(one.transport.closed for one in waiting), "first they are read"
    held.trim()
    assert [one.transport.closed for one in waiting[:3]] == [False, True, False]
    flood = [held.admit("192.0.2.7", End()) for _ in range(200)]
    assert all(flood)
    held.trim()
    assert not answered.transport.closed
    left = [one for one in [answered, *waiting, *flood] if not one.transport.closed]
    assert len(left) == MAX_PEER
    assert left[-1] is flood[-1]


@pytest.mark.req("R-API-10")
def test_who_asks_at_once_is_not_dropped_by_the_flood_it_came_with():
    held = Connections()
    asked = held.admit(HERE, End())
    flood = [held.admit(HERE, End()) for _ in range(MAX_LOCAL)]
    held.touch(asked, waits=False)
    held.trim()
    assert not asked.transport.closed
    assert flood[0].transport.closed


class Stopped:
    """A robot that is only ever stopped."""

    def __init__(self):
        self.reasons, self.guard = [], self
        self.forbidden, self.takes_s = 0, 0.0

    def forbid(self, *, e_stop):
        assert e_stop
        self.forbidden += 1

    def request(self, request, actor, *, reason):
        assert request is Request.E_STOP
        assert self.forbidden, "the permission goes first"
        time.sleep(self.takes_s)
        self.reasons.append(reason)
        return ModeState(mode=Mode.E_STOP)


class Server:
    """The real server on a port of its own, its loop in a thread."""

    def __init__(self, robot=None, wrap=lambda end: end):
        tokens = TokenStore(None, ManualClock(1))
        self.end = wrap(*listen((HERE,), 0))
        self.port = self.end.getsockname()[1]
        front = Front(
            Api(robot, tokens),
            tokens,
            name="car",
            port=self.port,
            lan=False,
            say=pytest.fail,
        )
        self.server = front.listener()
        self.cpu_s = 0.0
        self.links = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.005)

    def _run(self):
        asyncio.run(self.server.serve([self.end]))
        self.cpu_s = time.thread_time()

    def livez(self, source=HERE):
        link = http.client.HTTPConnection(
            HERE, self.port, timeout=20, source_address=(source, 0)
        )
        try:
            link.request("GET", "/livez")
            return link.getresponse().status
        except (ConnectionError, http.client.HTTPException):
            return None
        finally:
            link.close()

    def open(self, data=b""):
        link = socket.create_connection((HERE, self.port), 20)
        self.links.append(link)
        with contextlib.suppress(ConnectionError):
            link.sendall(data)
        return link

    def close(self):
        for link in self.links:
            link.close()
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture
def robot():
    return Stopped()


@pytest.fixture
def server(robot):
    server = Server(robot)
    yield server
    server.close()


def is_dropped(link):
    """Return whether the other end closed, before any limit but the shortened one."""
    link.settimeout(4)
    try:
        while link.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.req("R-API-09", "R-API-10")
@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD, A_REQUEST])
def test_a_flood_of_slow_clients_leaves_the_stop_button_to_everybody(
    server, monkeypatch, sent
):
    monkeypatch.setattr(connections, "MAX_LOCAL", 10)
    flood = [server.open(sent) for _ in range(30)]
    assert server.livez() == 200
    assert server.livez("127.0.0.9") == 200
    until = time.monotonic() + 4  # uvicorn itself closes an idle one after five
    while len([link for link in flood if not _is_closed_now(link)]) > 10:
        assert time.monotonic() < until
        time.sleep(0.02)


def _is_closed_now(link):
    link.setblocking(False)
    try:
        while link.recv(4096):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


@pytest.mark.req("R-API-10")
@pytest.mark.parametrize(
    ("phase", "sent"),
    [
        (Phase.HEAD, b""),
        (Phase.HEAD, HALF_A_HEAD),
        (Phase.BODY, HALF_A_BODY),
        (Phase.NEXT, HALF_A_BODY.replace(b"/mode", b"/estop")),
        (Phase.HEAD, A_REQUEST + b"GET /li"),
        (Phase.NEXT, A_REQUEST),
    ],
)
def test_every_wait_for_a_client_has_an_end(server, monkeypatch, phase, sent):
    monkeypatch.setitem(http_bounds.LIMIT_S, phase, 0.2)
    link = server.open(sent)
    if sent.count(b"\r\n\r\n") and phase is not Phase.BODY:
        assert b"200 OK" in link.recv(4096)
    trickle = threading.Event()

    def send_a_byte_now_and_then():
        with contextlib.suppress(OSError):
            while not sent.endswith(b"\r\n\r\n") and not trickle.wait(0.05):
                link.sendall(b"x")

    dripping = threading.Thread(target=send_a_byte_now_and_then)
    dripping.start()
    assert is_dropped(link), "a byte now and then is no progress"
    trickle.set()
    dripping.join()
    assert server.livez() == 200


@pytest.mark.req("R-API-10")
def test_a_request_in_time_is_answered_and_a_socket_has_no_end(server, monkeypatch):
    monkeypatch.setitem(http_bounds.LIMIT_S, Phase.HEAD, 0.3)
    link = server.open(HALF_A_HEAD)
    time.sleep(0.02)
    link.sendall(b"\r\n")
    assert b"200 OK" in link.recv(4096)
    websockets = pytest.importorskip("websockets.sync.client")
    monkeypatch.setattr(http_bounds, "LIMIT_S", dict.fromkeys(LIMIT_S, 0.3))
    with websockets.connect(f"ws://{HERE}:{server.port}/teleop") as socket_:
        time.sleep(0.5)
        socket_.send(json.dumps({"odd": 1}))
        assert "E-ROBOT-API-004" in socket_.recv(timeout=20)


@pytest.mark.req("R-API-10")
def test_each_of_two_requests_sent_at_once_has_the_whole_time(
    server, robot, monkeypatch
):
    monkeypatch.setitem(http_bounds.LIMIT_S, Phase.ANSWER, 1.2)
    robot.takes_s = 0.7
    stop = b"POST /estop HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
    link = server.open(stop * 2)
    assert b"200 OK" in link.recv(4096)
    until = time.monotonic() + 10
    while len(robot.reasons) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert b"200 OK" in link.recv(4096)


def test_a_body_that_never_came_whole_is_refused_and_not_a_fault():
    async def gone():
        return {"type": "http.disconnect"}

    request = HttpRequest({"type": "http", "headers": []}, gone)
    with pytest.raises(ContractError, match="E-ROBOT-API-004"):
        asyncio.run(read_body(request, StopBody))


def test_many_more_wait_in_the_kernel_than_are_taken_at_one_go():
    class Counting(socket.socket):
        asked = ()

        def listen(self, backlog):
            self.asked += (backlog,)
            super().listen(backlog)

    server = Server(wrap=lambda end: Counting(fileno=end.detach()))
    asked = server.end.asked
    server.close()
    taken, waiting = asked
    assert taken <= 128
    assert waiting >= 1024


@pytest.mark.req("R-API-11")
@pytest.mark.parametrize("body", [b"", b'{"reason": "loo'])
def test_an_emergency_stop_does_not_wait_for_its_body(server, robot, body):
    head = b"POST /estop HTTP/1.1\r\nhost: localhost\r\ncontent-length: 30\r\n\r\n"
    link = server.open(head + body)
    assert b"200 OK" in link.recv(4096)
    assert robot.reasons == ["no reason given"]


@pytest.mark.req("R-API-10")
def test_many_dripping_clients_cost_the_loop_little(monkeypatch):
    """Counted in CPU time of the loop's thread, which other programs do not change."""
    server = Server(SimpleNamespace())
    links = [server.open(HALF_A_HEAD) for _ in range(100)]
    for _ in range(10):
        for link in links:
            with contextlib.suppress(OSError):
                link.sendall(b"x: y\r\n")
    assert server.livez() == 200
    server.close()
    # A thousand drips and a hundred connections: well below a quarter of a second here.
    assert server.cpu_s < 2.0
