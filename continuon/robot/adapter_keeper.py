"""Adapters under a running loop: taken up, tried, and dropped when they fail.

An adapter that was just swapped in drives on trial: its bundle's own health gate counts
ticks, vetoes and missed periods, and until that has passed no restart takes it up. What
fails is rolled back in the record, and what drove before drives again.
"""

from __future__ import annotations

import threading
from typing import Any

from continuon.adapter_record import fitting, mark_trial, read_record
from continuon.clock import Clock
from continuon.edge.derived import base_digests
from continuon.errors import ContinuonError
from continuon.home import Home
from continuon.robot.adapter_facts import adapter_facts
from continuon.robot.control import ControlHandle, SwapResult
from continuon.robot.deployed import Deployed
from continuon.robot.guard_handle import GuardHandle
from continuon.robot.health_gate import HealthVerdict, Trial
from continuon.robot.modes import ModeState, Motion
from continuon.robot.software import Software

__all__ = ["AdapterKeeper"]

CODE = "E-ROBOT-ADAPTER-003"
_SETTLED_TICKS = 100


class AdapterKeeper:
    """Changes the adapter of a running loop; safe to call from threads.

    Args:
        home: where adapters lie.
        software: the slots.
        control: the running loop.
        guard: the guard of its outputs.
        clock: the host's.
    """

    def __init__(
        self,
        home: Home,
        software: Software,
        control: ControlHandle,
        guard: GuardHandle,
        clock: Clock,
    ) -> None:
        self._home, self._software = home, software
        self._control, self._guard, self._clock = control, guard, clock
        self._lock = threading.Lock()
        self._trial: Trial | None = None
        self._on_trial: Deployed | None = None
        self._second_chance = False
        self._due = True
        self._taking: threading.Thread | None = None
        self._last: dict[str, Any] | None = None
        self._known: dict[str, Any] | None = None
        self._facts_of: tuple[int | None, ...] = ()

    @property
    def busy(self) -> bool:
        """Whether an adapter is being taken up or is on trial."""
        taking = self._taking is not None and self._taking.is_alive()
        return taking or self._lock.locked() or self._trial is not None

    def take(self) -> dict[str, Any]:
        """Let the loop drive with what the record says, and begin its trial.

        Raises:
            ContinuonError: it may not take over; what drove goes on.
        """
        with self._lock:
            self._end_trial()
            requested_tick = self._control.log.count
            trips = self._guard.report().trips
            told = self._software.take_adapter(self._control)
            active = self._software.active()
            if told["swap"] is None or told["adapter"] is None or active is None:
                return told | {"trial": None}
            if self._trial_of(active) == "passed":
                return told | {"trial": None}
            self._on_trial, self._second_chance = active, True
            self._trial = Trial(
                self._control,
                self._guard,
                SwapResult(**told["swap"]),
                bundle=active.bundle,
                gate=active.gate,
                requested_tick=requested_tick,
                trips_before=trips,
                clock=self._clock,
            )
            return told | {"trial": "begun"}

    def watch(self, state: ModeState) -> None:
        """Look at a trial under way, or begin one that is due; call it often.

        Raises:
            ContinuonError: what failed its trial could not be replaced in the loop: the
                caller stops motion.
        """
        trial = self._trial
        if trial is None:
            self._take_due(state)
            return
        if state.motion is Motion.TELEOP:
            # A person drives: nobody asks the policy.
            trial.start_over()
            return
        verdict = trial.look()
        if verdict is None:
            return
        with self._lock:
            if self._trial is trial:
                self._judge(trial, verdict)

    def forget(self) -> None:
        """End a trial whose policy does not drive any more: the bundle was changed."""
        with self._lock:
            self._end_trial()

    def status(self) -> dict[str, Any]:
        """Return which adapter is in use, what it showed, and how its trial stands."""
        facts = dict(self._facts())
        trial = self._trial
        if trial is not None:
            done, asked = trial.ticks
            facts["trial"] = {"ticks": min(done, asked), "soak_ticks": asked}
        return facts | {"last_trial": self._last}

    def _facts(self) -> dict[str, Any]:
        """Return the facts, anew only where a record changed: a bundle is verified."""
        seen = tuple(
            path.stat().st_mtime_ns if path.exists() else None
            for path in (
                self._home.adapters / "current" / "record.json",
                self._home.adapters / "compiled",
                self._home.model / "state",
            )
        )
        if seen != self._facts_of or self._known is None:
            self._known = adapter_facts(self._home, self._software)
            self._facts_of = seen
        return self._known

    def _judge(self, trial: Trial, verdict: HealthVerdict) -> None:
        active = self._on_trial
        assert active is not None, "a trial is of a bundle"
        assert active.chosen.adapter is not None, "and of its adapter"
        only_late = {miss.figure for miss in verdict.misses} == {"missed_periods"}
        if only_late and self._second_chance:
            # The host may have held the processor; a policy to blame is late again.
            self._second_chance = False
            trial.start_over()
            return
        self._trial = self._on_trial = None
        self._last = {
            "adapter": active.chosen.adapter,
            "wall_ns": self._clock.wall_ns(),
            "verdict": "passed" if verdict.passed else "missed",
            "misses": [str(miss) for miss in verdict.misses],
            "figures": verdict.report.as_dict(),
            "second_chance": not self._second_chance,
        }
        if verdict.passed:
            mark_trial(self._home.adapters, active.chosen.adapter, "passed")
            return
        misses = "; ".join(map(str, verdict.misses))
        self._software.drop_adapter(active, f"{CODE}: missed its health gate: {misses}")
        if self._control.alive:
            self._software.leave_adapter(self._control)

    def _end_trial(self) -> None:
        self._trial = self._on_trial = None

    def _trial_of(self, active: Deployed) -> str:
        record = read_record(self._home.adapters)
        return fitting(record, base_digests(active.directory)).trial

    def _take_due(self, state: ModeState) -> None:
        """Once after a start: try the adapter that has yet to pass its trial."""
        settled = self._control.log.count >= _SETTLED_TICKS
        if not self._due or state.executing or not settled:
            return
        self._due = False
        self._taking = threading.Thread(target=self._take_or_drop, daemon=True)
        self._taking.start()

    def _take_or_drop(self) -> None:
        try:
            active = self._software.active()
            if active is None:
                return
            trial = self._trial_of(active)
            if trial == "begun":
                self._software.drop_adapter(active, f"{CODE}: its trial did not end")
            elif trial == "due" and active.chosen.adapter is not None:
                self.take()
        except ContinuonError as error:
            self._last = {"verdict": "refused", **error.as_dict()}
