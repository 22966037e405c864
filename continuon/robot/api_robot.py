"""What the API needs of a supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from continuon.rlds.episode import EndReason
from continuon.robot import modes
from continuon.robot.guard_handle import GuardReport
from continuon.robot.modes import Actor, ModeState
from continuon.robot.readiness import Readiness
from continuon.robot.recordings import Wish
from continuon.robot.supply import Supply
from continuon.robot.timing import TimingReport
from continuon.robot.viewfinder import Viewfinder

__all__ = ["Robot"]


class _Guard(Protocol):
    def report(self) -> GuardReport:
        """Return the guard's own account."""
        ...

    def supply(self) -> Supply | None:
        """Return what it saw of the battery last."""
        ...

    def forbid(self, *, e_stop: bool = False) -> None:
        """Take the permission to move away; never waits."""
        ...


class _Log(Protocol):
    @property
    def count(self) -> int:
        """Ticks so far."""
        ...


class _Control(Protocol):
    @property
    def log(self) -> _Log:
        """The ticks."""
        ...


class _Keeper(Protocol):
    @property
    def state(self) -> ModeState:
        """The mode now."""
        ...


class _Shelf(Protocol):
    @property
    def finished(self) -> int:
        """Episodes that ended since the service started."""
        ...

    def current(self) -> dict[str, Any] | None:
        """Return the episode under way."""
        ...

    def judge(self, episode_id: str) -> None:
        """Ask for a verdict."""
        ...


class Robot(Protocol):
    """What the API needs of a supervisor."""

    @property
    def keeper(self) -> _Keeper:
        """Holds the mode."""
        ...

    @property
    def guard(self) -> _Guard:
        """The guard's handle."""
        ...

    @property
    def control(self) -> _Control:
        """The loop's handle."""
        ...

    def request(
        self, request: modes.Request, actor: Actor, *, reason: str = ""
    ) -> ModeState:
        """Change the mode."""
        ...

    def teleop(self, action: Sequence[float], source: str) -> None:
        """Pass a person's command on."""
        ...

    def readiness(self) -> Readiness:
        """Return what is well."""
        ...

    def timing(self) -> TimingReport:
        """Return the loop's figures."""
        ...

    def status(self) -> dict[str, Any]:
        """Return everything as plain values."""
        ...

    def episodes(self) -> list[dict[str, Any]]:
        """Return the recordings."""
        ...

    def begin_episode(self, wish: Wish) -> dict[str, Any]:
        """Begin to record."""
        ...

    def end_episode(self, reason: EndReason) -> dict[str, Any]:
        """End the recording under way."""
        ...

    def instruct(self, text: str) -> dict[str, Any]:
        """Tell the robot what to do."""
        ...

    @property
    def viewfinder(self) -> Viewfinder:
        """The newest frame."""
        ...

    def health(self) -> dict[str, Any]:
        """Return the checks of a running robot."""
        ...

    def software_status(self) -> dict[str, Any]:
        """Return which bundle runs."""
        ...

    def roll_back(self, reason: str) -> dict[str, Any]:
        """Return to the bundle before."""
        ...

    def take_adapter(self) -> dict[str, Any]:
        """Drive with the adapter in use."""
        ...

    @property
    def recordings(self) -> _Shelf:
        """The recorder and the finished episodes."""
        ...
