"""`continuon robot`: the service, its unit, and its emergency stop."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Literal

from continuon.cli.render import Result
from continuon.environment import read_environment
from continuon.errors import UsageError
from continuon.home import Home

__all__ = ["clear_estop", "clients", "install", "instruct", "pair", "serve"]


def serve(
    *,
    rig: Literal["sim", "pi"] = "sim",
    home: Path | None = None,
    name: str | None = None,
    port: int = 8787,
    lan: bool = False,
    pairing: bool = False,
    policy: Path | None = None,
    seed: int = 0,
    microphone: str | None = None,
    learner: bool = False,
    learner_without: tuple[str, ...] = (),
    without_gauge: bool = False,
) -> Result:
    """Run the robot service until it is told to stop; it boots armed but idle.

    CONTINUON_HEADLESS=1 (the default) needs no screen; nothing here ever needs one.

    Parameters
    ----------
    rig
        The simulated rig, or the Pi's own.
    home
        The data root.
    name
        What the robot is called on the network; default this machine's name.
    port
        Of the API.
    lan
        Also listen towards the network, once somebody is paired.
    pairing
        Show a pairing code.
    policy
        What `continuon compile` wrote, unverified; default the active slot's bundle.
    seed
        Of the simulated world.
    microphone
        Record its sound with every episode, which people nearby should know: ALSA's
        name, `default` or `plughw:1`. Without it no sound is recorded.
    learner
        Learn adapters while the robot is idle; so does
        CONTINUON_ENABLE_BACKGROUND_TRAINER=1.
    learner_without
        A sensor that this machine does not have, and that learning then does not ask.
    without_gauge
        This robot has no battery gauge, and a policy may drive it all the same.
    """
    # Before numpy comes along: no process of the robot wants more threads than its own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from continuon.robot.learner import LearnerSettings
    from continuon.robot.service import ServiceSettings
    from continuon.robot.service import serve as run_service

    environment = read_environment()
    environment.require_headless()
    wanted = learner or environment.background_trainer
    place = Home(home) if home is not None else Home.from_environment()
    settings = ServiceSettings(
        home=place,
        rig=rig,
        name=name or socket.gethostname(),
        lan=lan,
        pairing=pairing,
        artifact_dir=policy,
        seed=seed,
        port=port,
        microphone=microphone,
        learner=LearnerSettings(without=learner_without) if wanted else None,
        without_gauge=without_gauge,
    )
    code = run_service(settings)
    return Result(data={"stopped": True}, text="stopped", exit_code=code)


def pair(
    *,
    role: Literal["viewer", "operator", "owner"] = "operator",
    home: Path | None = None,
) -> Result:
    """Show a code that pairs one more client with the service that runs here.

    Parameters
    ----------
    role
        What the client will be allowed: look, drive, or everything.
    home
        The data root of the service.
    """
    from continuon.robot.client import RobotClient

    place = Home(home) if home is not None else Home.from_environment()
    found = RobotClient.find(place).ask("/pairing", {"role": role})
    minutes = found["for_s"] / 60
    return Result(
        data=found, text=f"pairing code {found['code']} ({role}, {minutes:g} minutes)"
    )


def clients(*, revoke: str | None = None, home: Path | None = None) -> Result:
    """List who is paired with the service that runs here, or turn one of them away.

    A client that was turned away drives and sees no further, at once. With the last one
    the robot is unpaired and leaves the network.

    Parameters
    ----------
    revoke
        The client's id in this list.
    home
        The data root of the service.
    """
    from continuon.robot.client import RobotClient

    place = Home(home) if home is not None else Home.from_environment()
    robot = RobotClient.find(place)
    if revoke is not None:
        gone = robot.ask("/clients/revoke", {"client": revoke})
        text = f"turned away: {gone['name']}; {gone['left']} left"
        return Result(data=gone, text=text)
    found = robot.ask("/clients")
    lines = [f"{c['client']}  {c['role']:8}  {c['name']}" for c in found["clients"]]
    return Result(data=found, text="\n".join(lines) or "nobody is paired")


def instruct(text: str, *, home: Path | None = None) -> Result:
    """Tell the robot that runs here what to do, from its next tick on.

    A policy that was trained with instructions drives only while it is told one. What
    is being recorded of it ends, and goes on as an episode of the new instruction.

    Parameters
    ----------
    text
        One line of at most 200 characters; "" takes back what was told before, and
        stops a policy that drives by it.
    home
        The data root of the service.
    """
    from continuon.instruction import checked_instruction
    from continuon.robot.client import RobotClient

    told = checked_instruction(text)
    place = Home(home) if home is not None else Home.from_environment()
    found = RobotClient.find(place).ask("/instruction", {"text": told})
    words = f"told: {told}" if told else "it is told nothing now"
    if "begun" in found:
        words += f"; recording goes on as {found['begun']}"
    lost = found.get("not_recorded")
    if lost is not None:
        words += f"; recording ended: {lost['code']} {lost['what']}"
    return Result(data=found, text=words, exit_code=0 if lost is None else 3)


def install(
    *,
    unit: Path = Path("/etc/systemd/system"),
    rig: Literal["sim", "pi"] = "pi",
    home: Path | None = None,
    user: str = "continuon",
    without_gauge: bool = False,
) -> Result:
    """Write the one systemd unit, continuon.service, and say how to start it.

    Parameters
    ----------
    unit
        The folder of systemd's units.
    rig
        The rig that the service drives.
    home
        The data root.
    user
        Who runs it; needs the groups i2c, video and gpio.
    without_gauge
        This robot has no battery gauge, and a policy may drive it all the same.
    """
    from continuon.robot.factory import Factory
    from continuon.robot.install import UnitFacts, install_unit

    place = Home(home) if home is not None else Home.from_environment()
    target = "continuon.rig.pi:PiRig" if rig == "pi" else "continuon.sim:SimRig"
    facts = UnitFacts(
        home=place.root,
        rig=rig,
        servos=Factory(target=target),
        python=Path(sys.executable),
        user=user,
        without_gauge=without_gauge,
    )
    report = install_unit(facts, directory=unit)
    return Result(
        data=report.as_dict(),
        text="\n".join([f"wrote {report.path}", "next:", *report.next_steps]),
        exit_code=4,
    )


def clear_estop(*, state: Path | None = None, reason: str) -> Result:
    """Release a latched emergency stop; only a person at a terminal may.

    Parameters
    ----------
    state
        The folder of the latch; default state below the home.
    reason
        What was wrong and has been put right; it goes into the record.
    """
    from continuon.clock import SystemClock
    from continuon.robot.latch import EStopLatch
    from continuon.robot.modes import Actor
    from continuon.robot.supervisor import LATCH_NAME

    if not sys.stdin.isatty():
        raise UsageError(
            "E-ROBOT-PERSON-001",
            "only a person at a terminal may release an emergency stop",
            hint="run it from a terminal beside the robot",
            exit_code=5,
        )
    folder = state or Home.from_environment().state
    latch = EStopLatch(folder / LATCH_NAME, SystemClock())
    record = latch.clear(reason=reason, actor=Actor.PERSON)
    return Result(data=record, text="released; restart the service")
