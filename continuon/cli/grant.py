"""`continuon grant`: the robot's side and its owner's. The office's is `office`."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from continuon.cli.render import Result
from continuon.errors import ContinuonError, DataError, UsageError
from continuon.home import Home

__all__ = ["claim", "request", "show", "transfer"]

HomeDir = Annotated[
    Path | None, Parameter(help="The root of the data; default CONTINUON_HOME.")
]
Office = Annotated[str, Parameter(help="Address of the grant office.")]


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
        # A power cut can come between enrolling and keeping the code.
        lost = error.code == "E-OTA-OFFICE-005" and robot.claim_code() is None
        if lost or error.code in ("E-OTA-OFFICE-404", "E-OTA-OFFICE-017"):
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


def _wall_ns() -> int:
    from continuon.clock import SystemClock

    return SystemClock().wall_ns()
