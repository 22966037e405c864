"""Say and find where robots are on this network: mDNS `_continuon._tcp`."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

import attrs

from continuon.errors import HardwareError, MissingPackageError

__all__ = ["SERVICE_TYPE", "Advertisement", "FoundRobot", "discover"]

SERVICE_TYPE = "_continuon._tcp.local."
LOOPBACK = ("127.0.0.1",)


@attrs.frozen(kw_only=True)
class FoundRobot:
    """A robot that answered: where its API listens, and what it says of itself."""

    name: str
    addresses: tuple[str, ...]
    port: int
    properties: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return attrs.asdict(self)


def _zeroconf() -> Any:
    try:
        import zeroconf
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "zeroconf", "pi", purpose="finding robots on the network"
        ) from error
    return zeroconf


class Advertisement:
    """Tells the network of one service, from `start` until `close`.

    Args:
        name: the robot's name; a number is added if another robot has it.
        port: the one that the API really listens on.
        addresses: where it listens.
        interfaces: addresses of the interfaces to tell it on.
        properties: short facts.
    """

    def __init__(
        self,
        name: str,
        port: int,
        *,
        addresses: Sequence[str] = LOOPBACK,
        interfaces: Sequence[str] = LOOPBACK,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        self._port = port
        self._addresses = tuple(addresses)
        self._interfaces = list(interfaces)
        self._properties = dict(properties or {})
        self._daemon: Any = None
        self._closed = False
        self._lock = threading.Lock()

    def start(self) -> Self:
        """Register; takes about a second, in which the name is probed for.

        Once closed, it tells nobody anything.

        Raises:
            HardwareError: E-ROBOT-MDNS-001, the registration failed.
            MissingPackageError: zeroconf is not installed.
            OSError: there is no such interface.
        """
        package = _zeroconf()
        info = package.ServiceInfo(
            SERVICE_TYPE,
            f"{self._name}.{SERVICE_TYPE}",
            addresses=[_packed(address) for address in self._addresses],
            port=self._port,
            properties=self._properties,
            server=f"{self._name}.local.",
        )
        with self._lock:
            if not self._closed:
                self._daemon = package.Zeroconf(
                    interfaces=self._interfaces, ip_version=package.IPVersion.V4Only
                )
                try:
                    self._daemon.register_service(info, allow_name_change=True)
                except package.Error as error:  # of its own family, no OSError
                    raise HardwareError(
                        "E-ROBOT-MDNS-001",
                        "the network cannot be told of this robot",
                        where=self._name,
                        seen=f"{type(error).__name__} {error}".rstrip(),
                        hint="it still answers at its address",
                    ) from error
        return self

    def close(self) -> None:
        """Say goodbye; may be called twice, and from another thread than `start`.

        It waits for a registration: one that is closed under way waits ten seconds for
        an answer that never comes.
        """
        with self._lock:
            self._closed = True
            daemon, self._daemon = self._daemon, None
            if daemon is not None:
                daemon.close()


def discover(
    timeout_s: float = 3.0,
    *,
    interfaces: Sequence[str] = LOOPBACK,
    name: str | None = None,
) -> tuple[FoundRobot, ...]:
    """Ask the network who is there, for at most `timeout_s`.

    Args:
        timeout_s: how long to listen; with `name` it ends when that robot answers.
        interfaces: addresses of the interfaces to ask on. Loopback alone finds robots
            on this machine, also where there is no network at all.
        name: the one robot that is looked for.

    Raises:
        MissingPackageError: zeroconf is not installed.
    """
    package = _zeroconf()
    found: dict[str, FoundRobot] = {}
    there = threading.Event()

    def heard(*, zeroconf: Any, service_type: str, name: str, **_: Any) -> None:
        info = zeroconf.get_service_info(service_type, name, timeout=1500)
        if info is None:
            return
        robot = _robot(info)
        found[robot.name] = robot
        if wanted in (None, robot.name):
            there.set()

    wanted = name
    daemon = package.Zeroconf(
        interfaces=list(interfaces), ip_version=package.IPVersion.V4Only
    )
    try:
        package.ServiceBrowser(daemon, SERVICE_TYPE, handlers=[heard])
        # Without a name, everybody gets the whole time to answer.
        (there if wanted is not None else threading.Event()).wait(timeout_s)
    finally:
        daemon.close()
    return tuple(found[key] for key in sorted(found))


def lan_addresses() -> tuple[str, ...]:
    """Return this machine's IPv4 address towards the default route, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # No packet is sent: connecting a datagram socket only picks a route.
            probe.connect(("192.0.2.1", 9))
            address = str(probe.getsockname()[0])
        except OSError:
            return ()
    return () if ipaddress.ip_address(address).is_loopback else (address,)


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def _robot(info: Any) -> FoundRobot:
    properties = {
        key.decode(): (value or b"").decode() for key, value in info.properties.items()
    }
    return FoundRobot(
        name=info.name.removesuffix(f".{SERVICE_TYPE}"),
        addresses=tuple(info.parsed_addresses()),
        port=info.port,
        properties=properties,
    )
