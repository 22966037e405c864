"""Where the API is reached: the network's sockets follow the pairing."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket

import pytest

from continuon.clock import ManualClock
from continuon.errors import HardwareError, UsageError
from continuon.robot.access import Role
from continuon.robot.front import Front
from continuon.robot.lan_door import LanDoor, listen
from continuon.robot.token_store import TokenStore

LAN = "127.0.0.2"
"""Stands for this machine's address on the network; Linux answers on all of 127/8."""


class FakeListener:
    """Holds its sockets until it is told to end."""

    def __init__(self):
        self.should_exit = False

    async def serve(self, sockets=None):
        for end in sockets:
            end.listen()
        while not self.should_exit:  # noqa: ASYNC110 - as uvicorn itself does
            await asyncio.sleep(0.001)
        for end in sockets:
            end.close()


class Door:
    """A door, what it was told, and what it told."""

    def __init__(self):
        self.wanted, self.told, self.said, self.made = (), [], [], []
        (self.loopback,) = listen(("127.0.0.1",), 0)
        self.door = LanDoor(
            self.loopback.getsockname()[1],
            wanted=lambda: self.wanted,
            make=self.make,
            changed=self.tell,
            say=self.said.append,
        )

    def make(self):
        self.made.append(FakeListener())
        return self.made[-1]

    async def tell(self, hosts):
        self.told.append(hosts)

    def reached(self, host=LAN):
        try:
            socket.create_connection((host, self.door.port), 0.5).close()
        except OSError:
            return False
        return True


@pytest.fixture
def desk():
    door = Door()
    yield door
    door.loopback.close()


def test_the_door_follows_what_is_wanted(desk):
    async def days():
        door = desk.door
        await door.look()
        assert not desk.reached()
        desk.wanted = (LAN,)
        await door.look()
        await asyncio.sleep(0.01)
        assert desk.reached()
        await door.look()
        desk.wanted = ("127.0.0.3",)
        await door.look()
        await asyncio.sleep(0.01)
        assert not desk.reached()
        assert desk.reached("127.0.0.3")
        desk.wanted = ()
        await door.look()
        assert not desk.reached("127.0.0.3")
        await door.shut()

    asyncio.run(days())
    assert desk.told == [(LAN,), ("127.0.0.3",), ()]
    assert len(desk.made) == 2


def test_a_listener_that_died_is_replaced(desk):
    async def days():
        desk.wanted = (LAN,)
        await desk.door.look()
        desk.made[0].should_exit = True
        await asyncio.sleep(0.02)
        assert not desk.reached()
        await desk.door.look()
        await asyncio.sleep(0.01)
        assert desk.reached()
        await desk.door.shut()

    asyncio.run(days())


def test_a_listener_that_died_when_nobody_is_paired_any_more_is_told(desk):
    async def days():
        desk.wanted = (LAN,)
        await desk.door.look()
        desk.made[0].should_exit = True
        await asyncio.sleep(0.02)
        desk.wanted = ()
        await desk.door.look()

    asyncio.run(days())
    assert desk.told == [(LAN,), ()]


def test_an_address_that_is_taken_is_said_once_and_tried_again(desk):
    with socket.socket() as taken:
        taken.bind((LAN, desk.door.port))
        taken.listen()

        async def days():
            desk.wanted = (LAN,)
            await desk.door.look()
            await desk.door.look()
            assert desk.door.hosts == ()
            taken.close()
            await desk.door.look()
            assert desk.door.hosts == (LAN,)
            await desk.door.shut()

        asyncio.run(days())
    assert len(desk.said) == 1
    assert "E-ROBOT-PORT-001" in desk.said[0]
    assert desk.told == [(LAN,)]  # not anew at every look that opened nothing


def test_one_address_that_cannot_be_bound_leaves_none_bound():
    (end,) = listen((LAN,), 0)
    end.listen()
    port = end.getsockname()[1]
    with pytest.raises(HardwareError, match="E-ROBOT-PORT-001"):
        listen(("127.0.0.4", LAN), port)
    (free,) = listen(("127.0.0.4",), port)
    free.close()
    end.close()


class FakeAdvertisement:
    """Remembers what the network is told."""

    now: list  # of what is told at this moment

    def __init__(self, name, port, *, addresses, interfaces, properties):
        assert addresses == interfaces
        self.facts = (name, port, addresses, properties["reach"])

    def start(self):
        self.now.append(self.facts)

    def close(self):
        self.now.remove(self.facts)


@pytest.fixture
def tokens(tmp_path):
    store = TokenStore(tmp_path / "tokens.json", ManualClock(10**9))
    store.load()
    return store


@pytest.mark.req("R-API-06")
def test_pairing_opens_the_network_and_the_last_revocation_closes_it(
    tokens, monkeypatch
):
    pytest.importorskip("uvicorn")
    from continuon.robot.api import Api

    monkeypatch.setattr(FakeAdvertisement, "now", [], raising=False)
    monkeypatch.setattr("continuon.robot.lan_door.LOOK_S", 0.02)
    (loopback,) = listen(("127.0.0.1",), 0)
    port = loopback.getsockname()[1]
    front = Front(
        Api(None, tokens),
        tokens,
        name="car",
        port=port,
        lan=True,
        say=pytest.fail,
        addresses=lambda: (LAN,),
        advertise=FakeAdvertisement,
    )

    def ask(method, path, body=None, *, token=None, host=LAN):
        link = http.client.HTTPConnection(host, port, timeout=2)
        headers = {"content-type": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        data = json.dumps(body) if body is not None else None
        link.request(method, path, data, headers)
        answer = link.getresponse()
        told = json.loads(answer.read())
        link.close()
        return answer.status, told

    async def until(condition):
        for _ in range(200):
            if condition():
                return
            await asyncio.sleep(0.02)
        pytest.fail("it never came to that")

    def told(reach):
        hosts = ("127.0.0.1", *((LAN,) if reach == "lan" else ()))
        return FakeAdvertisement.now == [("car", port, hosts, reach)]

    async def days():
        keeping = asyncio.create_task(front.keep())
        await until(lambda: told("loopback"))
        assert front.hosts == ("127.0.0.1",)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(ask, "GET", "/livez")
        owner, _ = tokens.pair(tokens.open_window(Role.OWNER).code, "phone")
        await until(lambda: told("lan"))
        status, _ = await asyncio.to_thread(ask, "GET", "/livez")
        assert status == 200
        status, found = await asyncio.to_thread(ask, "GET", "/clients", token=owner)
        assert status == 200
        (phone,) = found["clients"]
        assert phone["name"] == "phone"
        status, told_left = await asyncio.to_thread(
            ask, "POST", "/clients/revoke", {"client": phone["client"]}, token=owner
        )
        assert (status, told_left["left"]) == (200, 0)
        await until(lambda: told("loopback"))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(ask, "GET", "/livez")
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await front.close()

    asyncio.run(days())
    loopback.close()
    assert FakeAdvertisement.now == []


@pytest.mark.req("R-API-06")
def test_without_being_asked_to_the_network_is_never_listened_on(tokens):
    pytest.importorskip("uvicorn")
    from continuon.robot.api import Api

    tokens.pair(tokens.open_window().code, "phone")
    front = Front(
        Api(None, tokens),
        tokens,
        name="car",
        port=1,
        lan=False,
        say=pytest.fail,
        addresses=lambda: (LAN,),
    )
    assert front._wanted() == ()


@pytest.mark.req("R-API-07")
def test_a_client_that_is_turned_away_stays_away(tokens, tmp_path):
    phone, _ = tokens.pair(tokens.open_window(Role.OWNER).code, "phone")
    tokens.pair(tokens.open_window(Role.VIEWER).code, "wall")
    first, second = tokens.tokens
    assert tokens.revoke(first.client) == first
    assert tokens.tokens == (second,)
    assert TokenStore(tmp_path / "tokens.json", ManualClock()).load() == (second,)
    with pytest.raises(UsageError, match="E-ROBOT-CLIENT-004"):
        tokens.revoke(first.client)
    assert phone not in (tmp_path / "tokens.json").read_text()


@pytest.mark.req("R-API-07")
def test_a_revocation_that_cannot_be_stored_is_no_revocation(tokens, monkeypatch):
    tokens.pair(tokens.open_window().code, "phone")

    def full(*args, **kwargs):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("continuon.robot.token_store.replace_file", full)
    with pytest.raises(OSError, match="no space"):
        tokens.revoke(tokens.tokens[0].client)
    assert len(tokens.tokens) == 1
