"""The robot as one object: mode, latch, guard and control loop kept in step.

The service calls it from threads. Everything that stops is done first and reported
afterwards; everything that moves needs a person's START.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Self

import continuon
from continuon.clock import Clock, SystemClock
from continuon.errors import ContinuonError, ContractError, UsageError
from continuon.health import HealthReport
from continuon.home import Home
from continuon.ota.robot_senses import keep_senses
from continuon.rig.protocols import Rig
from continuon.rlds.episode import EndReason
from continuon.robot.adapter_keeper import AdapterKeeper
from continuon.robot.bodies import Body
from continuon.robot.control import ControlHandle
from continuon.robot.control_config import ControlConfig
from continuon.robot.guard_handle import GuardHandle
from continuon.robot.keeper import ModeKeeper
from continuon.robot.latch import EStopLatch
from continuon.robot.learner import Learner, LearnerSettings
from continuon.robot.modes import Actor, Mode, ModeState, Motion, Request
from continuon.robot.readiness import Readiness, age_gate, latch_gate, runs_gate
from continuon.robot.recordings import Recordings, Wish
from continuon.robot.software import Software
from continuon.robot.timing import TimingReport
from continuon.robot.told import Told
from continuon.robot.viewfinder import Viewfinder
from continuon.robot.vitals import STALE_FRAME_NS, read_vitals
from continuon.robot.vitals_desk import VitalsDesk
from continuon.robot.why import guard_words, kernel_words

__all__ = ["LATCH_NAME", "Supervisor"]

LATCH_NAME = "estop.json"
_RECENT_TICKS = 3000
_LOOP_ALIVE_NS = 1_000_000_000


class Supervisor:
    """Starts guard and control loop on a body, and owns the mode.

    Args:
        home: the data root; the latch lies in its state folder.
        body: the robot's body.
        config: settings of the control loop.
        name: what the robot is called.
        state_names: what it measures of itself.
        permit_expires: who runs this calls `guard.renew` twenty times a second, or the
            guard stops the outputs.
        clock: the host's clock.
        learner: how it learns while idle; None learns nothing.
    """

    def __init__(
        self,
        home: Home,
        body: Body,
        config: ControlConfig,
        *,
        name: str = "robot",
        state_names: tuple[str, ...] = (),
        permit_expires: bool = False,
        clock: Clock | None = None,
        learner: LearnerSettings | None = None,
    ) -> None:
        self.home = home
        self.clock: Clock = clock or SystemClock()
        self.latch = EStopLatch(home.state / LATCH_NAME, self.clock)
        self.keeper = ModeKeeper(self.latch, self._apply)
        self.guard = GuardHandle(body.rig, permit_expires=permit_expires)
        self.control = ControlHandle(config, self.guard)
        self._name = name
        self._recordings: Recordings | None = None
        self._vitals = VitalsDesk(body.rig, self._read_vitals)
        self.software = Software(home, state_names, clock=self.clock)
        self.adapters = AdapterKeeper(
            home, self.software, self.control, self.guard, self.clock
        )
        self._body = body
        self._lock = threading.RLock()
        # Loading a policy takes seconds, in which a stop must not wait.
        self._changing_policy = threading.Lock()
        self._started_ns = 0
        self._moving = False
        self._stop_seen = -1
        self._trips_seen = 0
        self._why_stopped = ""
        self._stopped_without_guard = False
        self._learner = Learner(home, learner, self.clock)

    def start(self) -> Self:
        """Start both processes and enter the mode that the latch allows: idle.

        Raises:
            ContinuonError: a part did not come up; what came up is stopped again.
        """
        self.latch.prepare()
        try:
            self.guard.launch()
            self.control.launch()
            self.guard.wait_ready()
            self.control.wait_ready()
        except ContinuonError:
            self.close()
            raise
        self._started_ns = self.clock.monotonic_ns()
        self.viewfinder = Viewfinder(self.control.feed_path)
        path, ear = self.control.feed_path, self._body.microphone
        self._recordings = Recordings(
            self.home, path, robot_id=self._name, clock=self.clock, microphone=ear
        )
        self.told = Told(self.control, self._recordings, lambda: self.keeper.state)
        keep_senses(self.home.state, tuple(self.control.status()["senses"]))
        self._learner.recall()
        self.keeper.boot()
        self._recordings.recorder.launch()
        return self

    def close(self) -> None:
        """Stop motion, recorder, loop and guard, in this order; may be called twice."""
        self._learner.stop("the service ends")
        if self.guard.alive:
            self.guard.forbid()
        if self._recordings is not None:
            self._recordings.end(EndReason.STOPPED)
            self._recordings.close()
            self._recordings = None
            self.viewfinder.close()
        self._vitals.close()
        self.control.close()
        self.guard.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def recordings(self) -> Recordings:
        """The recorder and the finished episodes."""
        assert self._recordings is not None, "start() comes first"
        return self._recordings

    def begin_episode(self, wish: Wish) -> dict[str, Any]:
        """Begin to record what the robot does now.

        Raises:
            ContinuonError: it does nothing, or it cannot be recorded.
        """
        self._learner.stop("an episode is being recorded")
        return self.told.begin(wish)

    def end_episode(self, reason: EndReason) -> dict[str, Any]:
        """End the episode under way and return what is in it; see `Told.end`."""
        return self.told.end(reason)

    def instruct(self, text: str) -> dict[str, Any]:
        """Tell the robot what to do from the next tick on; see `Told.instruct`."""
        return self.told.instruct(text)

    def request(self, request: Request, actor: Actor, *, reason: str = "") -> ModeState:
        """Change the mode, and make motion follow.

        Raises:
            ContractError: the table of modes refuses it.
            ContinuonError: motion could not be started; the robot stays idle.
        """
        with self._lock:
            return self.keeper.request(request, actor, reason=reason)

    def teleop(self, action: Sequence[float], source: str) -> None:
        """Pass a person's command on; it moves nothing unless teleop is executing.

        Raises:
            ContractError: E-ROBOT-TELEOP-001 nobody drives by hand now, -002 the
                episode under way holds commands of another source.
        """
        if self.keeper.state.motion is not Motion.TELEOP:
            raise ContractError(
                "E-ROBOT-TELEOP-001",
                "the robot is not driven by hand now",
                seen=self.keeper.state.mode,
                allowed="MANUAL or TRAINING, started",
                hint="request MANUAL, then START",
            )
        if (recorded := self.recordings.source) not in (None, source):
            raise ContractError(
                "E-ROBOT-TELEOP-002",
                "the episode under way holds commands of another source",
                seen=source,
                allowed=recorded,
                hint="end the episode first",
            )
        self.control.teleop(action, source)

    def watch(self) -> None:
        """Look for stops and deaths that nobody asked for; call it ten times a second.

        A loop that stopped by itself leaves its mode idle; a dead part disarms; where
        the guard is dead, outputs are turned off in its place until that is proven.
        """
        with self._lock:
            self.recordings.watch()
            self._why_stopped = self.keeper.keep_latched() or self._why_stopped
            self.guard.kill_if_hung()
            if not self.guard.alive and not self._stopped_without_guard:
                self._stopped_without_guard = self.guard.stop_without_guard()
            lives = self.guard.alive and self.control.alive
            if lives:
                self._look_for_stops()
            elif self.keeper.state.mode not in (Mode.E_STOP, Mode.DISARMED):
                self._why_stopped = "a process of the robot died"
                self.keeper.request(
                    Request.FAULT, Actor.SYSTEM, reason="a process died"
                )
        self._watch_adapter()
        if not lives:
            return
        with self._lock:
            self._learner.watch(
                self.keeper.state,
                recording=lambda: self.recordings.current() is not None,
                on_trial=self.adapters.busy,
                log=self.control,
                health=self._vitals.look,
            )

    def _look_for_stops(self) -> None:
        """Leave the mode idle where the loop or the guard stopped by itself."""
        stop, trips = self._newest_stops()
        why = ""
        if stop is not None and stop["tick"] > self._stop_seen:
            why = kernel_words(stop["reasons"])
        elif trips > self._trips_seen:
            why = guard_words(self.guard.report().reason)
        self._saw_stops(stop, trips)
        if why and self.keeper.state.executing:
            self._why_stopped = why
            self.keeper.request(Request.STOP, Actor.SYSTEM, reason=why)

    def _newest_stops(self) -> tuple[dict[str, Any] | None, int]:
        stops = [e for e in self.control.events if e.get("event") == "stopped"]
        return (stops[-1] if stops else None), self.guard.report().trips

    def _saw_stops(self, stop: dict[str, Any] | None, trips: int) -> None:
        self._stop_seen = -1 if stop is None else int(stop["tick"])
        self._trips_seen = trips

    def _watch_adapter(self) -> None:
        try:
            self.adapters.watch(self.keeper.state)
        except ContinuonError as error:
            # What failed its trial may still be in the loop.
            self._disarm(f"an adapter could not be left: {error.code}")

    def readiness(self) -> Readiness:
        """Return what is well now, with the figures behind it."""
        now_ns, guard = self.clock.monotonic_ns(), self.guard.alive
        control = self.control.alive
        age_ns = None
        if control and self.control.log.count:
            newest = self.control.log.rows(self.control.log.count - 1)["start_ns"]
            age_ns = now_ns - int(newest[-1])
        fresh = age_ns is not None and age_ns < _LOOP_ALIVE_NS
        recorder = self.recordings.recorder.alive
        camera = self.viewfinder.facts(now_ns)
        frame_ns = camera.age_ns if camera is not None else None
        latched = self.keeper.state.mode is Mode.E_STOP
        gates = (
            runs_gate("guard", guard),
            runs_gate("control", control),
            runs_gate("recorder", recorder),
            age_gate("loop", age_ns, _LOOP_ALIVE_NS),
            age_gate("camera", frame_ns, STALE_FRAME_NS),
            latch_gate(latched=latched),
        )
        parts = {"guard": guard, "control": control, "loop": fresh}
        return Readiness(parts=parts | {"recorder": recorder}, gates=gates)

    def health(self) -> dict[str, Any]:
        """Return the checks that can be made while the robot runs."""
        return self._vitals.look().as_dict()

    def _read_vitals(self, rig: Rig, before: HealthReport | None) -> HealthReport:
        return read_vitals(
            rig,
            self.home.root,
            parts=self.readiness().parts,
            timing=self.timing(),
            camera=self.viewfinder.facts(self.clock.monotonic_ns()),
            supply=self.guard.supply(),
            before=before,
        )

    def software_status(self) -> dict[str, Any]:
        """Return which bundle runs, and which ones are kept."""
        return self.software.status()

    def roll_back(self, reason: str) -> dict[str, Any]:
        """Return to the bundle before, on disk and in the running loop.

        Raises:
            ContinuonError: there is none, or the loop could not take it over, in which
                case the robot is disarmed.
        """
        with self._changing_policy:
            self.adapters.forget()
            try:
                report = self.software.roll_back(self.control, reason)
            except UsageError:
                raise
            except ContinuonError:
                self._disarm("rollback failed")
                raise
            if report.get("active") is None:
                self._disarm("no bundle is left")
            return report

    def take_adapter(self) -> dict[str, Any]:
        """Let the loop drive with the adapter that the record names, or without one.

        An adapter drives on trial from then on; see `status`.

        Raises:
            ContinuonError: it may not take over; what drove goes on.
        """
        with self._changing_policy:
            return self.adapters.take()

    def timing(self) -> TimingReport:
        """Return what the last minute's ticks say."""
        count = self.control.log.count
        return self.control.timing(max(0, count - _RECENT_TICKS))

    def status(self) -> dict[str, Any]:
        """Return the whole robot as plain values; what is not measured is left out."""
        state, latch = self.keeper.state, self.latch.read()
        status: dict[str, Any] = {
            "version": continuon.__version__,
            "name": self._name,
            "rig": self._body.word,
            "mode": state.mode.value,
            "executing": state.executing,
            "motion": state.motion.value,
            "e_stop": {"latched": latch.latched, "reason": latch.reason},
            "uptime_s": (self.clock.monotonic_ns() - self._started_ns) / 1e9,
            "ready": self.readiness().parts,
            "guard": self.guard.report().as_dict(),
            "timing": self.timing().as_dict(),
            "learner": self._learner.status(),
            "adapter": self.adapters.status(),
        }
        if self.control.alive:
            status["control"] = loop = self.control.status()
            status["instruction"] = loop["instruction"]
        if self._why_stopped:
            status["stopped_because"] = self._why_stopped
        recording = self.recordings.current()
        if recording is not None:
            status["recording"] = recording
        return status

    def episodes(self) -> list[dict[str, Any]]:
        """Return the recordings on disk, with the verdict where there is one."""
        return self.recordings.shelf()

    def _disarm(self, reason: str) -> None:
        with self._lock:
            if self.keeper.state.mode is not Mode.E_STOP:
                self.keeper.request(Request.DISARM, Actor.SYSTEM, reason=reason)

    def _apply(self, state: ModeState) -> None:
        if state.motion is not Motion.NONE:
            self._why_stopped = ""
            self._saw_stops(*self._newest_stops())
            self._learner.stop("the robot moves")
            self.control.start_executing(state.motion)
            self._moving = True
        elif self._moving or state.mode is Mode.E_STOP:
            self._moving = False
            self.control.stop_executing(e_stop=state.mode is Mode.E_STOP)
            self.recordings.motion_ended(state, by_itself=bool(self._why_stopped))
