"""The learner beside the loop: a process of its own that may run only while idle.

The service starts it, watches what it does to the loop and the machine, and ends it at
the first sign of either. It never imports what the learner imports. What the learner
was writing is whole or absent, so it is killed without being asked.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import attrs

from continuon.clock import Clock
from continuon.health import HealthReport, Level
from continuon.robot.modes import Mode, ModeState
from continuon.robot.ticklog import TickLog
from continuon.robot.timing import TimingReport

__all__ = ["Learner", "LearnerSettings", "why_not"]

_IDLE = (Mode.DISARMED, Mode.AUTONOMOUS, Mode.SLEEP_LEARNING)
_END_S = 5.0


@attrs.frozen(kw_only=True)
class LearnerSettings:
    """When the learner runs, and what stops it.

    Attributes:
        without: sensors that a person said this machine does not have.
        rest_s: from the end of a run to the next; there must be new episodes too.
        look_s: between two looks at heat, pressure and supply while it runs.
        max_late_share: of the period, that the loop's lateness may reach at p99.
        min_ticks: fewer say nothing of lateness yet; max_ticks: the newest ones count.
        command: the process; None is the Mid loop's.
    """

    without: tuple[str, ...] = ()
    rest_s: float = 600.0
    look_s: float = 1.0
    max_late_share: float = 0.1
    min_ticks: int = 50
    max_ticks: int = 250
    command: tuple[str, ...] | None = None


def why_not(state: ModeState, *, recording: bool) -> str | None:
    """Return why nothing may be learnt in this state; None if it may."""
    if state.executing:
        return "the robot moves"
    if state.mode not in _IDLE:
        return f"the mode is {state.mode}"
    return "an episode is being recorded" if recording else None


class _Loop(Protocol):
    @property
    def log(self) -> TickLog:
        """Every tick."""
        ...

    def timing(self, first: int = 0, last: int | None = None) -> TimingReport:
        """Return what ticks `first` to `last` say."""
        ...


class Learner:
    """Starts, watches and ends one learning process.

    Args:
        home: the data root, told to the process.
        episodes: the folder of recordings.
        settings: see there; None never learns.
        clock: the host's clock.
    """

    def __init__(
        self,
        home: Path,
        episodes: Path,
        settings: LearnerSettings | None,
        clock: Clock,
    ) -> None:
        self._home, self._episodes = home, episodes
        self._settings, self._clock = settings or LearnerSettings(), clock
        self._enabled = settings is not None
        self._process: subprocess.Popen[bytes] | None = None
        self._rested_ns = 0
        self._looked_ns = 0
        self._first_tick = 0
        self._learnt: frozenset[str] = frozenset()
        self.runs = 0
        self.stopped: str | None = None
        self.exit_status: int | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None

    def status(self) -> dict[str, Any]:
        """Return what it does, and how the last run ended."""
        return {
            "enabled": self._enabled,
            "running": self.alive,
            "runs": self.runs,
            "stopped": self.stopped,
            "exit_status": self.exit_status,
        }

    def stop(self, reason: str) -> None:
        """Kill the process, if it runs; the reason stands in the status."""
        process = self._process
        if process is None:
            return
        self.stopped = reason
        process.kill()
        self._ended(process.wait(_END_S))

    def watch(
        self,
        state: ModeState,
        *,
        recording: Callable[[], bool],
        log: _Loop,
        health: Callable[[], HealthReport],
    ) -> None:
        """Start, leave or stop it; call it ten times a second.

        Args:
            state: of the robot.
            recording: whether an episode is under way.
            log: the control loop's ticks.
            health: the checks of the running robot; asked once in `look_s`.
        """
        if not self._enabled:
            return
        process = self._process
        if process is not None and (code := process.poll()) is not None:
            self._ended(code)
        refused = why_not(state, recording=recording())
        if self._process is None:
            if refused is None:
                self._start_if_due(log, health)
            return
        bad = refused or self._harm(log)
        if bad is None and self._look_is_due():
            bad = _alarm(health())
        if bad is not None:
            self.stop(bad)

    def _start_if_due(self, log: _Loop, health: Callable[[], HealthReport]) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._rested_ns or not self._look_is_due():
            return
        held = frozenset(path.name for path in self._episodes.glob("*.mcap"))
        if held <= self._learnt:
            return
        bad = _alarm(health())
        if bad is not None:
            self.stopped = bad
            return
        self._learnt, self._first_tick = held, log.log.count
        self.stopped = self.exit_status = None
        self.runs += 1
        self._process = subprocess.Popen(
            self._command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"CONTINUON_HOME": str(self._home)} | _ONE_THREAD,
        )

    def _command(self) -> list[str]:
        if self._settings.command is not None:
            return list(self._settings.command)
        command = [sys.executable, "-m", "continuon.pipeline.learner"]
        command += ["--parent", str(os.getpid())]
        for name in self._settings.without:
            command += ["--without", name]
        return command

    def _harm(self, log: _Loop) -> str | None:
        settings, ticks = self._settings, log.log.count
        first = max(self._first_tick, ticks - settings.max_ticks)
        if ticks - first < settings.min_ticks:
            return None
        report = log.timing(first)
        late_ms, allowed_ms = (
            report.lateness_ms.p99,
            settings.max_late_share * report.period_ms,
        )
        if late_ms is None or not late_ms <= allowed_ms:
            return f"the loop is late: p99 {late_ms} ms, allowed {allowed_ms:g} ms"
        if report.missed_periods:
            return f"the loop missed {report.missed_periods} periods"
        return None

    def _look_is_due(self) -> bool:
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._looked_ns < self._settings.look_s * 1e9:
            return False
        self._looked_ns = now_ns
        return True

    def _ended(self, code: int) -> None:
        self._process = None
        self.exit_status = code
        rest_ns = round(self._settings.rest_s * 1e9)
        self._rested_ns = self._clock.monotonic_ns() + rest_ns
        if self.stopped is not None:
            # What broke off was not learnt.
            self._learnt = frozenset()


_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}


def _alarm(report: HealthReport) -> str | None:
    """Return the first check of the machine that is critical or fell silent."""
    bad = (Level.CRITICAL, Level.STALE)
    for check in report.checks:
        if check.level in bad and check.name not in ("camera", "loop"):
            return f"{check.name}: {check.text}"
    return None
