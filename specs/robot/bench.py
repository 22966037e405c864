# ruff: noqa: ANN001, ANN201, ANN202, ANN204, ANN003, D102, SLF001
"""A control process in this process, with its policies' hosts on threads."""

from __future__ import annotations

import contextlib
import select
import socket
import tempfile
import threading

import msgspec

from continuon.errors import ContinuonError
from continuon.robot import policy_host
from continuon.robot.board import Board
from continuon.robot.channel import channel_pair
from continuon.robot.control_config import ControlConfig
from continuon.robot.control_process import ControlProcess
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.feed import Feed
from continuon.robot.feed_facts import facts_of
from continuon.robot.loop import run_periodic
from continuon.robot.policy_host import HostConfig
from continuon.robot.realtime import Grants
from continuon.robot.remote_policy import RemoteSpec
from continuon.robot.supply import GaugeState, Supply
from continuon.robot.ticklog import TickLog

__all__ = ["CHARGED", "FAKES", "LOADER", "MS", "Bench", "ThreadHosts", "config"]

FAKES = "continuon._specs.robot.fakes"
LOADER = f"{FAKES}:load_fake"
MS = 1_000_000
CHARGED = Supply(
    state=GaugeState.READ, capture_ns=5_000 * MS, volts=8.0, fraction=0.8, cells=2
)


def config(**more):
    """Return settings of a loop over the fake rig."""
    rig = Factory(target=f"{FAKES}:FakeRig")
    return ControlConfig(rig=rig, limits=car_limits(), loader=LOADER, **more)


class Bench:
    """A control process in this process, on a hand-moved clock."""

    def __init__(self, folder, rig, settings):
        self.rig = rig
        self.board = Board.create(folder / "board")
        self.board.write_supply(CHARGED)
        self.log = TickLog.create(folder / "ticks", 1000)
        facts = facts_of(rig, settings.limits.names, settings.rate_hz)
        self.feed = Feed.create(folder / "feed", facts, frame_slots=4)
        self.mine, theirs = channel_pair()
        self.process = ControlProcess(
            settings,
            rig,
            board=self.board,
            log=self.log,
            channel=theirs,
            feed=self.feed,
            grants=Grants(fifo=False, memory_locked=False),
        )
        self.process.swapper.answer_timeout_s = 5.0
        self.theirs = theirs
        self.hosts = ThreadHosts(LOADER)
        self.ids = 0

    def ticks(self, count):
        left = [count]

        def step(now_ns, late_ns):
            left[0] -= 1
            return self.process.step(now_ns, late_ns) and left[0] > 0

        run_periodic(
            step,
            clock=self.rig.clock,
            period_ns=20 * MS,
            on_done=self.process.done,
        )

    def ask(self, do, *, ticks=1, **more):
        self.ids += 1
        self.mine.send({"id": self.ids, "do": do, **more})
        self.ticks(ticks)
        return self.mine.poll()

    def swap(self, name, **more):
        """Host a policy on a thread here, as `ControlHandle.swap` does in a process."""
        try:
            host = {"host": self.hosts.offer(name)}
        except ContinuonError as error:
            return {"error": error.as_dict()}
        self.ids += 1
        self.mine.send({"id": self.ids, "do": "swap", **host, **more})
        answer = None
        while answer is None:
            self.ticks(1)
            self.wait_for_candidate()
            answer = self.mine.poll()
        return answer

    def wait_for_candidate(self):
        """Virtual time flies: let a candidate that was asked answer before the next."""
        shadow = self.process.swapper.shadow
        if shadow is not None and shadow._wanted and shadow.failure is None:
            select.select([shadow._policy._link], [], [], 10)

    def close(self):
        self.process.swapper.close()
        self.hosts.close()
        self.mine.close()
        self.theirs.close()
        self.board.close()
        self.log.close()
        self.feed.close()


class ThreadHosts:
    """Policy hosts on threads of this process."""

    def __init__(self, loader):
        self.loader = loader
        self.folder = tempfile.TemporaryDirectory()
        self.threads, self.links = [], []

    def offer(self, name):
        number = len(self.threads)
        path = f"{self.folder.name}/{number}"
        config = HostConfig(
            artifact_dir=name, backend="litert", loader=self.loader, action_count=2,
            socket_path=path,
        )  # fmt: skip
        model = policy_host.prepare(config)
        listener = policy_host.listen(path)

        def run():
            with contextlib.suppress(OSError):
                link, _ = listener.accept()
                self.links.append(link)
                with link:
                    policy_host.serve(model.policy, link)

        self.listeners = [*getattr(self, "listeners", []), listener]
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.threads.append(thread)
        spec = msgspec.to_builtins(RemoteSpec.of(model.policy.spec))
        return {"path": path, "figures": model.as_dict(), "spec": spec}

    def close(self):
        for link in self.links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        for listener in getattr(self, "listeners", []):
            listener.close()
        self.folder.cleanup()
