"""The supervisor's end of the control process: start it, drive it, swap its policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import attrs
import msgspec

from continuon.errors import ContinuonError, HardwareError
from continuon.robot.caller import Caller
from continuon.robot.channel import channel_pair
from continuon.robot.control_config import ControlConfig
from continuon.robot.guard_handle import GuardHandle
from continuon.robot.host_handle import HostHandle
from continuon.robot.kernel import SafetyLimits
from continuon.robot.modes import Motion
from continuon.robot.policy_host import HostConfig
from continuon.robot.shadow import ShadowRule
from continuon.robot.spare import FD, Process, start_module
from continuon.robot.ticklog import TickLog
from continuon.robot.timing import TimingReport, timing_report

__all__ = ["ControlHandle", "SwapResult"]

_START_TIMEOUT_S = 60.0
_SWAP_TIMEOUT_S = 60.0


@attrs.frozen(kw_only=True)
class SwapResult:
    """Where a policy took over, and what it showed before it might.

    Attributes:
        tick: number of the first tick that asked the new policy.
        model: figures of the policy that took over.
        previous: figures of the one that stays resident; None if there was none.
        shadow: how it compared with the one that drove; None where nothing drove.
    """

    tick: int
    model: dict[str, Any]
    previous: dict[str, Any] | None
    shadow: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return attrs.asdict(self)


class ControlHandle:
    """A running control process, bound to a guard. Safe to call from threads.

    Args:
        config: settings of the process.
        guard: a started guard; it alone owns the servos.
    """

    def __init__(self, config: ControlConfig, guard: GuardHandle) -> None:
        self.config = config
        self._guard = guard
        self._process: Process | None = None
        self._caller: Caller | None = None
        self._log: TickLog | None = None
        self._hosts: list[HostHandle] = []

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the loop said unasked, oldest first; the newest 64."""
        return list(self._caller.events) if self._caller is not None else []

    @property
    def feed_path(self) -> Path:
        """Where the loop publishes what it senses and sends."""
        return self._guard.board_path.with_name("feed")

    @property
    def log(self) -> TickLog:
        """Every tick, readable while the process runs and after it died."""
        assert self._log is not None, "start() comes first"
        return self._log

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The control process's id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start the process and wait until its loop runs; nothing moves.

        Raises:
            ContinuonError: what kept it from starting, with its own code.
            HardwareError: it ended without a word.
        """
        self.launch()
        return self.wait_ready()

    def launch(self) -> None:
        """Start the process, and do not wait; the guard's board must exist."""
        path = self._guard.board_path.with_name(f"ticks-{id(self):x}")
        self._log = TickLog.create(path, self.config.log_capacity)
        mine, theirs = channel_pair()
        arguments = ["--fd", FD, "--log", str(path)]
        arguments += ["--board", str(self._guard.board_path)]
        arguments += ["--feed", str(self.feed_path)]
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.feed_path.unlink(missing_ok=True)
        self._process = start_module(
            "continuon.robot.control_process",
            arguments,
            fd=theirs.fileno(),
            env=threads,
        )
        theirs.close()
        mine.send(self.config.as_message())
        self._caller = Caller(
            mine,
            self._process,
            what="control",
            codes=("E-ROBOT-CONTROL-005", "E-ROBOT-CONTROL-004"),
        )

    def wait_ready(self) -> Self:
        """Wait until the loop runs.

        Raises:
            ContinuonError: what kept it from starting, with its own code.
            HardwareError: it ended without a word.
        """
        try:
            self._called().wait_ready(_START_TIMEOUT_S)
        except ContinuonError:
            self.close()
            raise
        return self

    def start_executing(self, motion: Motion = Motion.POLICY) -> int:
        """Begin to move, on a person's word; returns the guard's epoch.

        Raises:
            ContinuonError: refused, for one because there is no policy.
        """
        epoch = self._guard.permit()
        try:
            self._called().ask("start", motion=motion.value, epoch=epoch)
        except ContinuonError:
            self._guard.forbid()
            raise
        return epoch

    def stop_executing(self, *, e_stop: bool = False) -> None:
        """Stop moving: first the guard's permission, then the loop."""
        self._guard.forbid(e_stop=e_stop)
        if self.alive:
            self._called().ask("stop")

    def swap(
        self,
        artifact_dir: Path,
        backend: str,
        *,
        limits: SafetyLimits | None = None,
        shadow: ShadowRule | None = None,
        timeout_s: float = _SWAP_TIMEOUT_S,
    ) -> SwapResult:
        """Prepare a policy in its own process and let it take over.

        `limits` are the envelope that its bundle asks for, in force from its first
        tick; None keeps the robot's own. With `shadow`, and while another policy
        thinks, the new one thinks along first and takes over only if it keeps to the
        rule; without, it takes over at once, as on the way back from a bad one.

        Raises:
            ContinuonError: it may not drive; the old policy went on all the while.
        """
        self._called()
        host = HostHandle.start(
            HostConfig(
                artifact_dir=str(artifact_dir),
                backend=backend,
                loader=self.config.loader,
                action_count=len(self.config.limits.names),
                fifo_priority=self.config.fifo_priority,
                lock_memory=self.config.lock_memory,
            ),
            timeout_s=timeout_s,
        )
        self._hosts = [*(held for held in self._hosts if held.alive), host]
        try:
            answer = self._called().ask(
                "swap",
                timeout_s,
                host=host.offer,
                limits=msgspec.to_builtins(limits),
                shadow=msgspec.to_builtins(shadow),
            )
        except ContinuonError:
            host.close()
            raise
        return SwapResult(**answer["swap"])

    def swap_back(self) -> SwapResult:
        """Let the previous policy take over again.

        Raises:
            ContinuonError: there is none.
        """
        return SwapResult(**self._called().ask("swap_back")["swap"])

    def is_resident(self, artifact_dir: Path) -> bool:
        """Return whether `swap_back` would let this very slot's policy take over."""
        previous = self.status()["previous"]
        return bool(previous) and previous["artifact_dir"] == str(artifact_dir)

    def teleop(self, action: Sequence[float], source: str) -> None:
        """Send a person's command; it holds for a few ticks only."""
        self._called().send({"do": "teleop", "action": list(action), "source": source})

    def instruct(self, text: str) -> int:
        """Tell the robot what to do, or "" for nothing; returns the tick it begins at.

        Raises:
            ContractError: E-TEXT-..., this is no instruction; nothing has changed.
        """
        return int(self._called().ask("instruct", text=text)["tick"])

    def status(self) -> dict[str, Any]:
        """Return what the loop says of itself now."""
        status: dict[str, Any] = self._called().ask("status")["status"]
        return status

    def timing(self, first: int = 0, last: int | None = None) -> TimingReport:
        """Return what the log says of ticks `first` to `last` (excluded)."""
        rows = self.log.rows(first, last)
        return timing_report(rows, period_ns=self.config.period_ns, first=first)

    def close(self) -> int | None:
        """Stop the loop and end the process; returns its exit status."""
        if self._caller is None:
            return None
        self._guard.forbid()
        code = self._caller.close()
        self._caller = None
        for host in self._hosts:
            host.close()
        self._hosts = []
        self.log.remove()
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _called(self) -> Caller:
        if self._caller is None:
            raise HardwareError(
                "E-ROBOT-CONTROL-004",
                "the control process is gone",
                hint="start it first",
            )
        return self._caller
