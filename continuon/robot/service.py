"""The robot's service: one process that supervises, answers and is found.

`python -m continuon.robot.service --rig sim` is what the systemd unit starts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from continuon.clock import Clock, SystemClock
from continuon.durable import replace_file
from continuon.environment import read_environment
from continuon.errors import ContinuonError, MissingPackageError
from continuon.home import Home
from continuon.robot.bodies import Body, open_body
from continuon.robot.control_config import ControlConfig
from continuon.robot.deployed import deployed_policy
from continuon.robot.discovery import LOOPBACK
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.front import Front
from continuon.robot.lan_door import listen
from continuon.robot.learner import LearnerSettings
from continuon.robot.notify import notify
from continuon.robot.spare import dismiss_spares, keep_spares
from continuon.robot.supervisor import Supervisor
from continuon.robot.token_store import TokenStore

__all__ = ["LOCAL_TOKEN_FILE", "SERVICE_FILE", "ServiceSettings", "serve"]

SERVICE_FILE = "service.json"
LOCAL_TOKEN_FILE = "local.token"  # noqa: S105
DEFAULT_PORT = 8787
_WATCH_S = 0.1
_RENEW_S = 0.05
_PRELOAD = ("continuon.rlds.images",)
_SPARES = ("continuon.robot.control_process", "continuon.robot.recorder_process")
_WORLD_SPARES = ("continuon.sim.live_world",)
_STATE_NAMES = {"sim": ("speed_mps",)}


@attrs.frozen(kw_only=True)
class ServiceSettings:
    """How the service runs.

    Attributes:
        home: the data root.
        rig: "sim", "pi", or a factory of a rig that exists already.
        name: what the robot is called on the network.
        port: of the API; 0 lets the system choose, and the record says which.
        lan: also listen towards the network, while somebody is paired.
        pairing: show a pairing code at the start.
        artifact_dir, backend: a policy at hand, unverified, to begin with; None begins
            with the active slot of the home, or without a policy where there is none.
        seed: of the simulated world.
        microphone: ALSA's name of the one whose sound goes with episodes, if any.
        learner: how adapters are learnt while the robot is idle; None learns nothing.
        without_gauge: this robot has no battery gauge, and a policy may drive it still.
    """

    home: Home
    rig: str | Factory = "sim"
    name: str = attrs.field(factory=socket.gethostname)
    port: int = DEFAULT_PORT
    lan: bool = False
    pairing: bool = False
    artifact_dir: Path | None = None
    backend: str = "litert"
    seed: int = 0
    state_names: tuple[str, ...] = ("speed_mps",)
    fifo_priority: int = 50
    microphone: str | None = None
    learner: LearnerSettings | None = None
    without_gauge: bool = False


def serve(
    settings: ServiceSettings, *, say: Callable[[str], None] | None = None
) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status.

    Boots armed but idle. `say` gets the sentences that a person at the robot reads, for
    one the pairing code.

    Raises:
        ContinuonError: a part did not come up.
        MissingPackageError: starlette or uvicorn is not installed.
    """
    say = say or _say
    # Before anything that has a thread: what is imported now is imported once for all.
    keep_spares([*_SPARES, *(_WORLD_SPARES if settings.rig == "sim" else ())])
    clock = SystemClock()
    try:
        _serve(settings, clock, say)
    finally:
        dismiss_spares()
    return 0


def _serve(settings: ServiceSettings, clock: Clock, say: Callable[[str], None]) -> None:
    tokens = TokenStore(settings.home.state / "tokens.json", clock)
    tokens.load()
    tokens.open_local(settings.home.state / LOCAL_TOKEN_FILE)
    # Bound before anything is advertised, so that the advertised port is the true one.
    sockets = listen(LOOPBACK, settings.port)
    port = int(sockets[0].getsockname()[1])
    with _body_and_server(settings) as (body, Api):
        config = _config(settings, body)
        with Supervisor(
            settings.home,
            body,
            config,
            name=settings.name,
            state_names=settings.state_names,
            permit_expires=True,
            clock=clock,
            learner=settings.learner,
        ) as robot:
            front = Front(
                Api(robot, tokens),
                tokens,
                name=settings.name,
                port=port,
                lan=settings.lan,
                say=say,
            )
            server = front.listener()
            _stop_on_signals(server)
            if settings.pairing:
                say(f"pairing code: {tokens.open_window().code}")
            _write_record(settings, port)
            try:
                asyncio.run(_run(server, sockets, robot, front))
            finally:
                notify("STOPPING=1")
                (settings.home.state / SERVICE_FILE).unlink(missing_ok=True)


@contextmanager
def _body_and_server(settings: ServiceSettings) -> Iterator[tuple[Body, Any]]:
    """Yield the body, and the server's package and application class.

    Importing them takes most of a second, and so does a simulated world: both at once.
    """
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(
            open_body,
            settings.rig,
            seed=settings.seed,
            microphone=settings.microphone,
        )
        try:
            import uvicorn  # noqa: F401

            from continuon.robot.api import Api
        except ImportError as error:
            opening.result().close()
            raise MissingPackageError.for_extra(
                "starlette and uvicorn", "pi", purpose="the robot's API"
            ) from error
    with opening.result() as body:
        yield body, Api


def _stop_on_signals(server: Any) -> None:
    """Let a signal end the server and then this function's caller, in order.

    uvicorn raises the signal again once it has shut down, which by default would kill
    this process before it has stopped the loop and the guard.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))


async def _run(
    server: Any, sockets: list[socket.socket], robot: Supervisor, front: Front
) -> None:
    tasks = [
        asyncio.create_task(work)
        for work in (front.keep(), _watch(robot, server, front), _renew(robot, server))
    ]
    for task in tasks:
        # None of them ends by itself: a service without one of them must not go on.
        task.add_done_callback(lambda _: setattr(server, "should_exit", True))
    try:
        await server.serve(sockets=sockets)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await front.close()
    for error in ended:
        if isinstance(error, Exception):
            raise error


async def _renew(robot: Supervisor, server: Any) -> None:
    """Renew the permission to move while this loop, which takes stops, comes round.

    From the moment that the service is told to end, it is taken back instead: open
    connections may take a second more to close, and nothing moves in that time.
    """
    while True:
        if server.should_exit:
            robot.guard.forbid()
        else:
            robot.guard.renew()
        await asyncio.sleep(_RENEW_S)


async def _watch(robot: Supervisor, server: Any, front: Front) -> None:
    """Watch the robot's parts, and tell systemd only while they are well."""
    told = False
    while True:
        await asyncio.to_thread(robot.watch)
        safe = (await asyncio.to_thread(robot.readiness)).safe
        if safe and server.started:
            notify("WATCHDOG=1")
            if not told and front.told:
                told = True
                notify("READY=1")
        await asyncio.sleep(_WATCH_S)


def _config(settings: ServiceSettings, body: Body) -> ControlConfig:
    artifact, backend = settings.artifact_dir, settings.backend
    limits = car_limits(state_names=settings.state_names)
    if artifact is None:
        deployed = deployed_policy(settings.home, state_names=settings.state_names)
        if deployed is not None:
            chosen = deployed.chosen
            artifact, backend = chosen.artifact_dir, chosen.backend
            limits = deployed.limits
            _say(f"bundle {deployed.bundle[:16]}: {chosen.why}")
    return ControlConfig(
        rig=body.rig,
        limits=limits,
        artifact_dir=None if artifact is None else str(artifact),
        backend=backend,
        preload=_PRELOAD,
        fifo_priority=settings.fifo_priority,
        without_gauge=settings.without_gauge,
    )


def _write_record(settings: ServiceSettings, port: int) -> None:
    record = {"port": port, "pid": os.getpid(), "name": settings.name}
    path = settings.home.state / SERVICE_FILE
    replace_file(path, json.dumps(record).encode())


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main(argv: list[str] | None = None) -> int:
    """Run the service with settings from the command line and CONTINUON_HOME."""
    parser = argparse.ArgumentParser(prog="continuon.robot.service")
    parser.add_argument("--rig", default="sim", help="sim, pi, or a factory as JSON")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--name", default=socket.gethostname())
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lan", action="store_true")
    parser.add_argument("--pairing", action="store_true")
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--backend", default="litert")
    parser.add_argument("--without-gauge", action="store_true")
    parser.add_argument("--learner", action="store_true")
    parser.add_argument("--learner-without", action="append", default=[])
    args = parser.parse_args(argv)
    rig = args.rig
    if rig.startswith("{"):
        rig = Factory.from_dict(json.loads(rig))
    settings = ServiceSettings(
        home=Home(args.home) if args.home else Home.from_environment(),
        rig=rig,
        name=args.name,
        port=args.port,
        lan=args.lan,
        pairing=args.pairing,
        artifact_dir=args.policy,
        backend=args.backend,
        seed=args.seed,
        state_names=_STATE_NAMES.get(rig, ()) if isinstance(rig, str) else (),
        without_gauge=args.without_gauge,
    )
    try:
        if args.learner or read_environment().background_trainer:
            wish = LearnerSettings(without=tuple(args.learner_without))
            settings = attrs.evolve(settings, learner=wish)
        return serve(settings)
    except ContinuonError as error:
        _say(str(error))
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
