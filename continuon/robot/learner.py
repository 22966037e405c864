"""The learner beside the loop: a process of its own that may run only while idle.

The service starts it, watches what it does to the loop and the machine, and ends it at
the first sign of either. It never imports what the learner imports. What the learner
was writing is whole or absent, so it is killed without being asked.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from continuon.clock import Clock
from continuon.health import HealthReport, Level
from continuon.home import Home
from continuon.robot.learner_run import LearnerRun, Outcome, read_run, write_run
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
        max_missed_periods: of the loop's, among the newest ticks.
        min_ticks: fewer say nothing of lateness yet; max_ticks: the newest ones count.
        max_run_s: a run that takes longer hangs, whatever its own clock says.
        max_seconds, max_steps, max_memory_mib: the run's own limits; None leaves what
            the Mid loop has.
        command: the process; None is the Mid loop's.
    """

    without: tuple[str, ...] = ()
    rest_s: float = 600.0
    look_s: float = 1.0
    max_late_share: float = 0.1
    max_missed_periods: int = 0
    min_ticks: int = 50
    max_ticks: int = 250
    max_run_s: float = 900.0
    max_seconds: float | None = None
    max_steps: int | None = None
    max_memory_mib: float | None = None
    command: tuple[str, ...] | None = None


def why_not(state: ModeState, *, recording: bool, on_trial: bool = False) -> str | None:
    """Return why nothing may be learnt in this state; None if it may."""
    if state.executing:
        return "the robot moves"
    if state.mode not in _IDLE:
        return f"the mode is {state.mode}"
    if on_trial:
        return "an adapter is on trial"
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
        settings: see there; None never learns.
        clock: the host's clock.
    """

    def __init__(
        self, home: Home, settings: LearnerSettings | None, clock: Clock
    ) -> None:
        self._home = home
        self._settings, self._clock = settings or LearnerSettings(), clock
        self._enabled = settings is not None
        self._process: subprocess.Popen[bytes] | None = None
        self._began_ns = self._rested_ns = self._looked_ns = 0
        self._first_tick = 0
        self._learnt: frozenset[str] = frozenset()
        self._last: LearnerRun | None = None
        self.runs = 0
        self.waits_for: str | None = "the service starts"
        self.stopped: str | None = None
        self.exit_status: int | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None

    def recall(self) -> None:
        """Take up what the last run of this home said; one that was cut off is so told.

        Episodes that it learnt from are not new after a restart.
        """
        run = read_run(self._home.state)
        if run is not None and run.outcome == "running":
            why = "the service ended, or power failed"
            run = self._close_record(run, "stopped", why)
        self._last = run
        held = self._held()
        if run is None or run.outcome not in ("promoted", "not_used"):
            return
        if run.episodes_sha256 == _names_digest(held):
            self._learnt = held

    def status(self) -> dict[str, Any]:
        """Return what it does, why it does not, and how the last run ended."""
        state = "off"
        if self._enabled:
            state = "running" if self.alive else "waiting"
        return {
            "enabled": self._enabled,
            "state": state,
            "running": self.alive,
            "runs": self.runs,
            "waits_for": self.waits_for if state == "waiting" else None,
            "stopped": self.stopped,
            "exit_status": self.exit_status,
            "last": self._last.as_dict() if self._last is not None else None,
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
        on_trial: bool = False,
        log: _Loop,
        health: Callable[[], HealthReport],
    ) -> None:
        """Start, leave or stop it; call it ten times a second.

        Args:
            state: of the robot.
            recording: whether an episode is under way.
            on_trial: whether an adapter is on trial: nothing else is to disturb it.
            log: the control loop's ticks.
            health: the checks of the running robot; asked once in `look_s`.
        """
        if not self._enabled:
            return
        process = self._process
        if process is not None and (code := process.poll()) is not None:
            self._ended(code)
        if self._process is None:
            refused = why_not(state, recording=recording(), on_trial=on_trial)
            self.waits_for = refused or self._start_if_due(log, health)
            return
        # Its own adapter may be on trial while it waits for the verdict.
        bad = why_not(state, recording=recording())
        bad = bad or self._overtime() or (None if on_trial else self._harm(log))
        if bad is None and self._look_is_due():
            bad = _alarm(health())
        if bad is not None:
            self.stop(bad)

    def _start_if_due(
        self, log: _Loop, health: Callable[[], HealthReport]
    ) -> str | None:
        """Start it, or return what it waits for."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._rested_ns:
            return f"it rests for {(self._rested_ns - now_ns) / 1e9:.0f} s"
        if not self._look_is_due():
            return self.waits_for
        held = self._held()
        if held <= self._learnt:
            return "new episodes" if held else "a first episode"
        bad = _alarm(health())
        if bad is not None:
            return bad
        run = LearnerRun(
            outcome="running",
            began_wall_ns=self._clock.wall_ns(),
            episodes_sha256=_names_digest(held),
        )
        try:
            write_run(self._home.state, run)
        except OSError as error:
            return f"its record cannot be written: {error.strerror}"
        self._learnt, self._first_tick = held, log.log.count
        self.stopped = self.exit_status = None
        self.runs += 1
        self._began_ns = now_ns
        self._last = run
        self._process = subprocess.Popen(
            self._command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"CONTINUON_HOME": str(self._home.root)} | _ONE_THREAD,
        )
        return None

    def _held(self) -> frozenset[str]:
        return frozenset(path.name for path in self._home.episodes.glob("*.mcap"))

    def _command(self) -> list[str]:
        settings = self._settings
        if settings.command is not None:
            return list(settings.command)
        command = [sys.executable, "-m", "continuon.pipeline.learner"]
        command += ["--parent", str(os.getpid())]
        for name in ("max_seconds", "max_steps", "max_memory_mib"):
            value = getattr(settings, name)
            if value is not None:
                command += [f"--{name.replace('_', '-')}", f"{value:g}"]
        for name in settings.without:
            command += ["--without", name]
        return command

    def _overtime(self) -> str | None:
        ran_s = (self._clock.monotonic_ns() - self._began_ns) / 1e9
        if ran_s <= self._settings.max_run_s:
            return None
        return f"it ran for {ran_s:.0f} s, allowed {self._settings.max_run_s:g} s"

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
        if report.missed_periods > settings.max_missed_periods:
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
        run = read_run(self._home.state)
        if run is not None and run.outcome == "running":
            outcome: Outcome = "failed" if self.stopped is None else "stopped"
            why = self.stopped or f"it ended without a word, exit status {code}"
            run = self._close_record(run, outcome, why)
        if run is None or run.outcome == "stopped":
            # What broke off was not learnt.
            self._learnt = frozenset()
        self._last = run

    def _close_record(self, run: LearnerRun, outcome: Outcome, why: str) -> LearnerRun:
        closed = attrs.evolve(
            run, outcome=outcome, ended_wall_ns=self._clock.wall_ns(), reasons=(why,)
        )
        try:
            write_run(self._home.state, closed)
        except OSError as error:
            # Shown as it is, and closed on disk after the next start (`recall`).
            unkept = f"its record cannot be written: {error.strerror}"
            return attrs.evolve(closed, reasons=(why, unkept))
        return closed


_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}


def _names_digest(names: frozenset[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def _alarm(report: HealthReport) -> str | None:
    """Return the first check of the machine that is critical or fell silent.

    A battery that is only low ends learning too: what is left of it is for driving.
    """
    bad = (Level.CRITICAL, Level.STALE)
    for check in report.checks:
        low = check.name == "battery" and check.level is Level.WARN
        if (check.level in bad or low) and check.name not in ("camera", "loop"):
            return f"{check.name}: {check.text}"
    return None
