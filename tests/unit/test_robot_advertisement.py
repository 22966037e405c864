"""What tells the network of a robot begins and ends whole, whoever ends it when."""

from __future__ import annotations

import threading
import types

import pytest

from continuon.errors import HardwareError
from continuon.robot import discovery
from continuon.robot.discovery import Advertisement

pytestmark = pytest.mark.req("R-API-06")


@pytest.fixture
def network(monkeypatch):
    """A stand-in for zeroconf whose registration takes until it is let go on."""
    said = []
    begun, may_go_on = threading.Event(), threading.Event()

    class RefusedError(Exception):
        """What zeroconf raises is no OSError."""

    class Zeroconf:
        def __init__(self, **_options):
            said.append("open")

        def register_service(self, _info, **_options):
            begun.set()
            assert may_go_on.wait(5)
            said.append("registered")

        def close(self):
            said.append("closed")

    package = types.SimpleNamespace(
        Zeroconf=Zeroconf,
        ServiceInfo=lambda *_facts, **_more: None,
        Error=RefusedError,
        IPVersion=types.SimpleNamespace(V4Only=None),
    )
    monkeypatch.setattr(discovery, "_zeroconf", lambda: package)
    return said, begun, may_go_on


def test_a_close_under_way_waits_for_the_registration(network):
    """Torn down under way, a registration waits ten seconds for its answer."""
    said, begun, may_go_on = network
    told = Advertisement("robot", 1)
    opening = threading.Thread(target=told.start)
    opening.start()
    assert begun.wait(5)
    closing = threading.Thread(target=told.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    may_go_on.set()
    for thread in (opening, closing):
        thread.join(5)
        assert not thread.is_alive()
    assert said == ["open", "registered", "closed"]
    told.close()
    assert said[-2:] == ["registered", "closed"]


def test_once_closed_nobody_is_told(network):
    said, _, _ = network
    told = Advertisement("robot", 1)
    told.close()
    told.start()
    assert said == []


def test_a_network_that_refuses_is_an_error_that_the_service_outlives(monkeypatch):
    """A starved machine's zeroconf gives up with an error of its own family."""
    zeroconf = pytest.importorskip("zeroconf", reason="needs continuon[pi]")

    def refuse(*_args, **_options):
        raise zeroconf.EventLoopBlocked

    monkeypatch.setattr(zeroconf.Zeroconf, "register_service", refuse)
    told = Advertisement("robot", 1)
    with pytest.raises(HardwareError, match="E-ROBOT-MDNS-001"):
        told.start()
    told.close()
