"""`continuon ota serve` and the office's own side of `continuon grant`."""

from __future__ import annotations

import ipaddress
import math
import os
from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from continuon.cli.render import Result, say
from continuon.errors import UsageError
from continuon.home import Home

__all__ = ["owner", "rollout", "serve", "subscribe"]

MAX_DAYS = 36_525

HomeDir = Annotated[
    Path | None, Parameter(help="The root of the data; default CONTINUON_HOME.")
]
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
    if not (math.isfinite(days) and 0 <= days <= MAX_DAYS):
        raise UsageError(
            "E-CLI-GRANT-004",
            "the number of days is out of range",
            seen=days,
            allowed=f"0 to {MAX_DAYS}",
        )
    until_s = _wall_ns() // 10**9 + round(days * 86_400)
    _office(database, home).subscribe(robot_id, until_s=until_s, channel=channel)
    data = {"robot_id": robot_id, "until_s": until_s, "channel": channel}
    return Result(data=data, text=f"{robot_id}: {channel} for {days:g} days")


def rollout(
    bundle: str,
    *,
    percent: float | None = None,
    resume: bool = False,
    min_reports: int | None = None,
    max_failure_fraction: float | None = None,
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
        Let one that halted by itself go on; what was reported so far is settled.
    min_reports
        No verdict before so many robots have reported; 5, or as it was.
    max_failure_fraction
        A larger share of failures halts it; 0.1, or as it was.
    """
    from continuon.ota.rollout import Rollout

    office = _office(database, home)
    before = office.rollout(bundle)
    asked = {
        "percent": percent,
        "min_reports": min_reports,
        "max_failure_fraction": max_failure_fraction,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if given and (before is not None or percent is not None):
        office.start_rollout(bundle, attrs.evolve(before or Rollout(), **given))
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


def _office(
    database: Path | None, home: Path | None, *, key: Path | None = None
) -> Any:
    from continuon.bundle import load_private_key
    from continuon.ota.office import GrantOffice

    place = Home(home) if home is not None else Home.from_environment()
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
