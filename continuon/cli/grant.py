"""`continuon grant` and `continuon ota serve`: who may have which bundles."""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from continuon.cli.render import Result, say
from continuon.errors import ContinuonError, DataError, UsageError
from continuon.home import Home

__all__ = [
    "claim",
    "owner",
    "request",
    "rollout",
    "serve",
    "show",
    "subscribe",
    "transfer",
]

HomeDir = Annotated[
    Path | None, Parameter(help="The root of the data; default CONTINUON_HOME.")
]
Office = Annotated[str, Parameter(help="Address of the grant office.")]
Database = Annotated[
    Path | None, Parameter(help="The office's database; default state/office.db.")
]


def serve(
    *,
    database: Database = None,
    key: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8790,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    forwarded_allow: str | None = None,
    home: HomeDir = None,
) -> Result:
    """Run the grant office until it is told to stop: with TLS, or behind a proxy.

    Parameters
    ----------
    key
        The office's private key; default keys/grant.pem of the home.
    host
        Address to listen on; other than loopback only with TLS or behind a proxy.
    port
        Of the service.
    tls_cert
        Certificate chain as PEM, to answer with TLS itself.
    tls_key
        Its private key as PEM.
    forwarded_allow
        Addresses of the proxy that ends TLS, with commas between: its word on who asks
        (X-Forwarded-For) is taken, and nobody else's.
    """
    from continuon.errors import MissingPackageError
    from continuon.ota.service import grant_app

    _check_exposure(host, tls_cert, tls_key, forwarded_allow)
    office = _office(database, home, key=key)
    try:
        import uvicorn
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "uvicorn", "pi", purpose="the grant service"
        ) from error
    scheme = "http" if tls_cert is None else "https"
    words = office.grant_key.public.words
    say(f"grant office on {scheme}://{host}:{port}, key {words}")
    uvicorn.run(
        grant_app(office),
        host=host,
        port=port,
        log_level="warning",
        server_header=False,
        limit_concurrency=64,
        timeout_keep_alive=5,
        h11_max_incomplete_event_size=16 << 10,
        proxy_headers=forwarded_allow is not None,
        forwarded_allow_ips=forwarded_allow or "",
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )
    return Result(data={"stopped": True}, text="stopped")


def _check_exposure(
    host: str, tls_cert: Path | None, tls_key: Path | None, forwarded: str | None
) -> None:
    """Refuse to send owners' tokens in the clear over a network.

    Raises:
        UsageError: E-CLI-OFFICE-001 half of a key pair, -002 neither TLS nor a proxy,
            -003 a proxy that could be anybody.
    """
    if (tls_cert is None) != (tls_key is None):
        raise UsageError(
            "E-CLI-OFFICE-001",
            "TLS needs a certificate and its key",
            hint="name both --tls-cert and --tls-key, or neither",
        )
    addresses = [] if forwarded is None else forwarded.split(",")
    for address in addresses:
        try:
            ipaddress.ip_network(address.strip())
        except ValueError as error:
            raise UsageError(
                "E-CLI-OFFICE-003",
                "a trusted proxy is named by its address",
                seen=address,
                allowed="IP addresses or networks, with commas between",
            ) from error
    if host in {"127.0.0.1", "::1", "localhost"} or tls_cert or addresses:
        return
    raise UsageError(
        "E-CLI-OFFICE-002",
        "owners' tokens would cross the network unprotected",
        seen=host,
        allowed="loopback, or TLS, or a proxy that ends TLS",
        hint="--tls-cert and --tls-key, or --forwarded-allow with the proxy's address",
    )


def request(
    *, office: Office, bundle: str | None = None, home: HomeDir = None
) -> Result:
    """Ask for this robot's grant; an unclaimed robot shows its code instead.

    Parameters
    ----------
    bundle
        Also ask for this one by its id, such as a bundle that comes by hand.
    """
    from continuon.ota.office_client import OfficeClient

    robot, slots = _robot(home)
    client = OfficeClient(office)
    if robot.identity() is None:
        robot.enrol(client)
    try:
        grant = robot.request(client, slots.load(), bundle=bundle)
    except ContinuonError as error:
        if error.code == "E-OTA-OFFICE-404":
            robot.enrol(client)
        elif error.code != "E-OTA-OFFICE-005":
            raise
        return _unclaimed(robot)
    until = datetime.fromtimestamp(grant.not_after_s, UTC)
    text = (
        f"grant {grant.grant_seq} for {grant.robot_id}: channel {grant.channel}, "
        f"fresh until {until:%Y-%m-%d %H:%M} UTC"
    )
    return Result(data=grant, text=text)


def show(
    robot_id: str | None = None, *, office: str | None = None, home: HomeDir = None
) -> Result:
    """Say what this robot holds, or with an owner's token what an office knows.

    Parameters
    ----------
    robot_id
        A robot of the owner whose CONTINUON_OWNER_TOKEN is set; needs --office.
    office
        Address of the grant office.
    """
    if robot_id is not None:
        return Result(data=_owners_office(office).describe(robot_id))
    robot, slots = _robot(home)
    code = robot.claim_code()
    if code is not None:
        return _unclaimed(robot)
    identity = robot.identity()
    told = robot.entitlement().describe(slots.load(), wall_ns=_wall_ns())
    name = identity.robot_id if identity else "this robot has no key yet"
    return Result(
        data={"robot_id": identity and identity.robot_id, "grant": told},
        text=f"robot  {name}\ngrant  {told}\nwhat runs is never touched by a grant",
    )


def claim(robot_id: str, code: str, *, office: Office) -> Result:
    """Make the robot yours by the code that it shows; CONTINUON_OWNER_TOKEN says who.

    Parameters
    ----------
    robot_id
        The robot's name, as it shows it.
    code
        The code, as it shows it.
    """
    epoch = _owners_office(office).claim(robot_id, code)
    data = {"robot_id": robot_id, "owner_epoch": epoch}
    return Result(data=data, text=f"{robot_id} is yours (owner epoch {epoch})")


def transfer(robot_id: str, new_owner: str, *, office: Office) -> Result:
    """Pass a robot of yours on; its older grants are void from then on.

    Parameters
    ----------
    robot_id
        The robot's name.
    new_owner
        Name of an owner that the office knows.
    """
    epoch = _owners_office(office).transfer(robot_id, new_owner)
    data = {"robot_id": robot_id, "owner": new_owner, "owner_epoch": epoch}
    return Result(data=data, text=f"{robot_id} is {new_owner}'s (owner epoch {epoch})")


def owner(name: str, *, database: Database = None, home: HomeDir = None) -> Result:
    """Make an owner known to the office here; prints the token, this once.

    Parameters
    ----------
    name
        What the owner is called.
    """
    token = _office(database, home).add_owner(name)
    return Result(data={"name": name, "token": token}, text=token)


def subscribe(
    robot_id: str,
    *,
    days: float,
    channel: str = "stable",
    database: Database = None,
    home: HomeDir = None,
) -> Result:
    """Note at the office here what is paid for a robot.

    Parameters
    ----------
    robot_id
        The robot's name.
    days
        From now on; 0 ends the subscription.
    channel
        What it opens.
    """
    until_s = _wall_ns() // 10**9 + round(days * 86_400)
    _office(database, home).subscribe(robot_id, until_s=until_s, channel=channel)
    data = {"robot_id": robot_id, "until_s": until_s, "channel": channel}
    return Result(data=data, text=f"{robot_id}: {channel} for {days:g} days")


def rollout(
    bundle: str,
    *,
    percent: float | None = None,
    resume: bool = False,
    min_reports: int = 5,
    max_failure_fraction: float = 0.1,
    database: Database = None,
    home: HomeDir = None,
) -> Result:
    """Say how a phased rollout stands, or start, widen or resume it.

    Parameters
    ----------
    bundle
        The bundle's id.
    percent
        Share of the robots that may have it.
    resume
        Let one that halted by itself go on; its reports start anew.
    min_reports
        No verdict before so many robots have reported.
    max_failure_fraction
        A larger share of failures halts it.
    """
    from continuon.ota.rollout import Rollout

    office = _office(database, home)
    if percent is not None:
        wanted = Rollout(
            percent=percent,
            min_reports=min_reports,
            max_failure_fraction=max_failure_fraction,
        )
        office.start_rollout(bundle, wanted)
    if resume:
        office.resume_rollout(bundle)
    found = office.rollout(bundle)
    if found is None:
        raise UsageError(
            "E-CLI-GRANT-003",
            "there is no rollout of that bundle",
            seen=bundle,
            hint="--percent starts one",
        )
    state = "halted by failures" if found.halted else "going on"
    text = (
        f"{state}: {found.percent:g} % of the robots, {found.reports} reported, "
        f"{found.failures} of them failed"
    )
    return Result(data=found, text=text, exit_code=3 if found.halted else 0)


def _unclaimed(robot: Any) -> Result:
    code = robot.claim_code()
    if code is None:
        raise DataError(
            "E-CLI-GRANT-001",
            "nobody owns this robot, and its code is gone",
            hint="continuon grant request enrols it again where the office forgot it",
        )
    name = robot.identity().robot_id
    text = (
        f"nobody owns this robot yet\nname  {name}\ncode  {code[:4]}-{code[4:]}\n"
        "next  its owner types both into the app, or into continuon grant claim"
    )
    return Result(data={"robot_id": name, "claim_code": code}, text=text, exit_code=4)


def _place(home: Path | None) -> Home:
    return Home(home) if home is not None else Home.from_environment()


def _robot(home: Path | None) -> tuple[Any, Any]:
    from continuon.ota.installed import Installed
    from continuon.ota.robot_files import RobotFiles

    place = _place(home)
    slots = Installed(place.model, (), threshold=1).slots
    return RobotFiles(place.keys, place.state), slots


def _owners_office(office: str | None) -> Any:
    from continuon.ota.office_client import OfficeClient

    token = os.environ.get("CONTINUON_OWNER_TOKEN")
    if token is None or office is None:
        raise UsageError(
            "E-CLI-GRANT-002",
            "an office's address and an owner's token are needed",
            seen="no token" if token is None else "no address",
            hint="set CONTINUON_OWNER_TOKEN, and give --office URL",
        )
    return OfficeClient(office, token)


def _office(
    database: Path | None, home: Path | None, *, key: Path | None = None
) -> Any:
    from continuon.bundle import load_private_key
    from continuon.ota.office import GrantOffice

    place = _place(home)
    path = database or place.state / "office.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    password = os.environ.get("CONTINUON_KEY_PASSWORD")
    return GrantOffice(
        path,
        load_private_key(key or place.keys / "grant.pem", password=password),
    )


def _wall_ns() -> int:
    from continuon.clock import SystemClock

    return SystemClock().wall_ns()
