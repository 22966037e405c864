"""Which bundle the robot runs, as its slots say, and the way back to the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from continuon.adapter_record import (
    fitting,
    mark_trial,
    read_record,
    roll_back_adapter,
)
from continuon.clock import Clock, SystemClock
from continuon.edge.derived import base_digests
from continuon.errors import ContinuonError, UsageError
from continuon.home import Home
from continuon.robot.deployed import Deployed, active_policy
from continuon.robot.shadow import ShadowRule

__all__ = ["Software"]

PUBLIC_KEY = "release.pub.pem"
CODE = "E-ROBOT-ROLLBACK-001"


class _Control(Protocol):
    def swap(
        self, artifact_dir: Any, backend: str, *, limits: Any, shadow: Any = None
    ) -> Any:
        """Let another policy take over."""
        ...

    def status(self) -> dict[str, Any]:
        """Return what the loop says of itself."""
        ...

    def swap_back(self) -> Any:
        """Let the previous policy take over again."""
        ...

    def is_resident(self, artifact_dir: Any) -> bool:
        """Return whether the previous policy is that slot's."""
        ...


class Software:
    """The device's slots, as the service sees them; nothing is kept open.

    Args:
        home: where slots and keys lie.
        state_names: what the robot measures of itself.
        clock: of the records.
    """

    def __init__(
        self,
        home: Home,
        state_names: tuple[str, ...],
        *,
        clock: Clock | None = None,
    ) -> None:
        self._home = home
        self._clock: Clock = clock or SystemClock()
        self._state_names = state_names

    def status(self) -> dict[str, Any]:
        """Return the slots' record; `configured` is False before a first key."""
        updater = self._updater()
        if updater is None:
            return {"configured": False}
        return {"configured": True, **updater.status().as_dict()}

    def roll_back(self, control: _Control, reason: str) -> dict[str, Any]:
        """Return to the bundle before, on disk and in the running loop.

        Where its policy is still resident the loop goes first, and the record follows;
        else the record goes first, and the policy is prepared anew.

        Raises:
            UsageError: there is nothing to go back to.
            ContinuonError: the record is rolled back, but the running loop could not
                take the bundle over; the caller stops motion.
        """
        updater = self._updater()
        if updater is None:
            raise UsageError(
                "E-ROBOT-ROLLBACK-002",
                "this robot has no bundle to go back to",
                hint="put release.pub.pem into the home's keys and stage a bundle",
            )
        status = updater.status()
        before = status.good if status.on_trial else status.previous
        if before is not None and control.is_resident(before.directory):
            resident = control.swap_back()
            done = updater.rollback(reason, code=CODE)
            return {**done.as_dict(), "swap": resident.as_dict()}
        report = updater.rollback(reason, code=CODE)
        told: dict[str, Any] = dict(report.as_dict())
        directory = report.active_directory
        if directory is None:
            return told
        active = self._active(updater)
        assert active is not None
        return told | {"swap": _swap(control, active).as_dict()}

    def active(self, *, tried: bool = False) -> Deployed | None:
        """Return what is to run, verified; None before a first bundle.

        Args:
            tried: leave out an adapter that has yet to pass its trial.
        """
        updater = self._updater()
        return None if updater is None else self._active(updater, tried=tried)

    def take_adapter(self, control: _Control) -> dict[str, Any]:
        """Let the running loop drive with what the adapters' record says now.

        Up to an adapter and down to the one before or the bundle alone, it is one
        switch, in the bundle's own limits. An adapter first thinks along, and its trial
        begins. One that may not take over is rolled back in the record, so that no
        restart takes it up.

        Raises:
            UsageError: E-ROBOT-ADAPTER-001, no bundle runs here, or the loop runs
                something else; -002, the adapter in use does not fit it.
            ContinuonError: the loop did not take it over; what drove goes on.
        """
        active = self.active()
        store, wanted = self._home.adapters, read_record(self._home.adapters).use
        running = (control.status().get("active") or {}).get("artifact_dir")
        if active is None or not _is_of(running, active, store):
            raise UsageError(
                "E-ROBOT-ADAPTER-001",
                "the loop does not run a bundle that an adapter could belong to",
                seen=running,
                allowed=None if active is None else active.directory,
                hint="stage and activate a bundle first",
            )
        chosen = active.chosen
        told: dict[str, Any] = {"bundle": active.bundle, **chosen.as_dict()}
        if running == str(chosen.artifact_dir):
            if wanted.adapter is not None and chosen.adapter is None:
                raise UsageError(
                    "E-ROBOT-ADAPTER-002",
                    "the adapter in use cannot drive; the bundle alone goes on",
                    seen=chosen.why,
                )
            return told | {"swap": None}
        if chosen.adapter is None:
            return told | {"swap": _swap(control, active).as_dict()}
        bases = base_digests(active.directory)
        if fitting(read_record(store), bases).trial != "passed":
            mark_trial(store, chosen.adapter, "begun")
        try:
            swap = _swap(control, active, shadow=ShadowRule())
        except ContinuonError as error:
            self.drop_adapter(active, f"refused: {error.code}")
            raise
        return told | {"swap": swap.as_dict()}

    def drop_adapter(self, active: Deployed, reason: str) -> None:
        """Roll the adapter of this bundle back in the record; what drives stays.

        Raises:
            UsageError: E-HOPE-STORE-004, it has none any more.
        """
        roll_back_adapter(
            self._home.adapters,
            reason=reason,
            wall_ns=self._clock.wall_ns(),
            bases=base_digests(active.directory),
        )

    def leave_adapter(self, control: _Control) -> dict[str, Any]:
        """Let the loop drive with what the record says after an adapter was dropped.

        The policy that drove before is resident, and takes over between two ticks.

        Raises:
            ContinuonError: the loop did not take it over; the caller stops motion.
        """
        active = self.active()
        assert active is not None, "an adapter was dropped from a bundle"
        if control.is_resident(active.chosen.artifact_dir):
            swap = control.swap_back()
        else:
            swap = _swap(control, active)
        return {"bundle": active.bundle, **active.chosen.as_dict()} | {
            "swap": swap.as_dict()
        }

    def _active(self, updater: Any, *, tried: bool = False) -> Deployed | None:
        return active_policy(
            updater,
            state_names=self._state_names,
            adapters=self._home.adapters,
            tried=tried,
        )

    def _updater(self) -> Any:
        key = self._home.keys / PUBLIC_KEY
        if not key.exists():
            return None
        try:
            from continuon.bundle import load_public_key
            from continuon.ota import Updater
        except ImportError as error:
            raise ContinuonError(
                "E-ROBOT-ROLLBACK-003", f"updates need a package: {error}"
            ) from error
        return Updater(self._home.model, [load_public_key(key)])


def _swap(control: _Control, active: Deployed, **more: Any) -> Any:
    chosen = active.chosen
    return control.swap(
        chosen.artifact_dir, chosen.backend, limits=active.limits, **more
    )


def _is_of(running: str | None, active: Deployed, store: Path) -> bool:
    """Whether the loop runs this bundle's policy, alone or with an adapter."""
    if running == str(active.directory):
        return True
    if running is None or Path(running).parent != store / "compiled":
        return False
    return Path(running).name.startswith(f"{active.bundle[:16]}-")
