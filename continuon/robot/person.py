"""A person records episodes at the robot: drive, begin, end, look at the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import attrs

from continuon.clock import Clock
from continuon.errors import ContinuonError
from continuon.robot.handset import Handset, Press

__all__ = ["PersonReport", "record_by_hand"]

PERIOD_NS = 33_000_000
_VERDICT_NS = 20_000_000_000
_LOOK_NS = 100_000_000
_SOURCE = "human_teleop_xr"


class _Teleop(Protocol):
    def send(self, action: tuple[float, ...], source: str) -> dict[str, Any]:
        """Send one command."""
        ...


class _Client(Protocol):
    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the robot."""
        ...

    def teleop(self) -> AbstractContextManager[_Teleop]:
        """Open the socket for commands."""
        ...


@attrs.frozen(kw_only=True)
class PersonReport:
    """What a person's session left; each episode as the robot lists it."""

    episodes: tuple[dict[str, Any], ...]
    stopped: bool

    @property
    def good(self) -> int:
        """Episodes that keep the contract."""
        return sum(
            bool(episode.get("verdict", {}).get("ok")) for episode in self.episodes
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "episodes": list(self.episodes),
            "recorded": len(self.episodes),
            "good": self.good,
            "stopped": self.stopped,
        }


@attrs.define
class _Session:
    client: _Client
    handset: Handset
    clock: Clock
    say: Callable[[str], None]
    count: int
    body: dict[str, Any]
    names: list[str] = attrs.field(factory=list)
    recording: bool = False
    stopped: bool = False
    done: bool = False

    def turn(self, teleop: _Teleop) -> None:
        stick = self.handset.poll(self.clock.monotonic_ns())
        for press in stick.presses:
            self._press(press)
        if self.done:
            return
        answer = teleop.send((stick.steering, stick.throttle), _SOURCE)
        if answer.get("code") == "E-ROBOT-TELEOP-001":
            self.say("the robot no longer takes commands; it stopped by itself")
            self.done = True
        elif "code" in answer:
            self.say(f"{answer['code']}: {answer['what']}")

    def _press(self, press: Press) -> None:
        if press is Press.QUIT:
            self.done = True
        elif press is Press.STOP:
            self.client.ask("/estop", {"reason": "a person at the handset"})
            self.say("emergency stop; clear it with: continuon robot clear-estop")
            self.done = self.stopped = True
        elif self.recording:
            self.end("complete")
        else:
            self._begin()

    def _begin(self) -> None:
        try:
            begun = self.client.ask("/episodes", self.body)
        except ContinuonError as error:
            self.say(str(error))
            return
        self.names.append(begun["episode_id"])
        self.recording = True
        self.say(f"recording {begun['episode_id']}")

    def end(self, outcome: str) -> None:
        if not self.recording:
            return
        self.recording = False
        try:
            self.client.ask("/episodes/end", {"outcome": outcome})
        except ContinuonError as error:
            if error.code != "E-ROBOT-RECORD-010":
                raise
        self.say(f"ended {self.names[-1]}: {len(self.names)} of {self.count}")
        self.done = self.done or len(self.names) >= self.count

    def notice_end(self) -> None:
        """Notice an episode that ended by itself, for one at its time limit."""
        if self.recording and self.client.ask("/episodes")["recording"] is None:
            self.end("complete")


def record_by_hand(
    client: _Client,
    handset: Handset,
    *,
    count: int,
    task: str,
    tags: Sequence[str] = (),
    duration_s: float = 600.0,
    clock: Clock,
    say: Callable[[str], None],
) -> PersonReport:
    """Drive with a handset until `count` episodes were recorded or a person quits.

    Args:
        client: the robot's API; the robot is put into TRAINING and started.
        handset: what the person drives with.
        count: how many episodes.
        task: what they are about.
        tags: short words to find them by.
        duration_s: longest length of one.
        clock: paces the commands, about 30 a second.
        say: tells the person.

    Raises:
        ContinuonError: the robot refused to begin; it is disarmed again whatever
            happens.
    """
    body = {
        "task": task,
        "tags": list(tags),
        "client": "terminal",
        "max_duration_s": duration_s,
    }
    session = _Session(client, handset, clock, say, count, body)
    client.ask("/mode", {"request": "TRAINING"})
    try:
        with client.teleop() as teleop:
            client.ask("/mode", {"request": "START", "reason": "continuon record"})
            _drive(session, teleop)
    finally:
        if not session.stopped:
            client.ask("/mode", {"request": "DISARM"})
    session.end("stopped")
    return PersonReport(
        episodes=_verdicts(client, session.names, clock), stopped=session.stopped
    )


def _drive(session: _Session, teleop: _Teleop) -> None:
    clock = session.clock
    turns = 0
    while not session.done:
        clock.sleep_until_ns(clock.monotonic_ns() + PERIOD_NS)
        session.turn(teleop)
        turns += 1
        if turns % 30 == 0:
            session.notice_end()


def _verdicts(
    client: _Client, names: Sequence[str], clock: Clock
) -> tuple[dict[str, Any], ...]:
    """Return the episodes as listed, once each has a verdict or time is up."""
    until_ns = clock.monotonic_ns() + _VERDICT_NS
    while True:
        shelf = client.ask("/episodes")["episodes"]
        found = [row for row in shelf if row["episode_id"] in names]
        judged = sum("verdict" in row for row in found)
        if judged == len(names) or clock.monotonic_ns() > until_ns:
            return tuple(found)
        clock.sleep_until_ns(clock.monotonic_ns() + _LOOK_NS)
