"""The robot's modes as a pure state machine, read from `specs/modes/modes.json`.

`ModeState` is a value; `advance` takes a request and returns the next one or refuses.
Whether anything may move is `ModeState.motion`, and only START by a person opens it.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from importlib.resources import files

import attrs
import msgspec

from continuon.errors import ContractError

__all__ = [
    "Actor",
    "Mode",
    "ModeRules",
    "ModeState",
    "Motion",
    "Request",
    "advance",
    "boot_state",
    "mode_rules",
]


class Mode(StrEnum):
    """What the robot is set to do."""

    DISARMED = "DISARMED"
    MANUAL = "MANUAL"
    TRAINING = "TRAINING"
    AUTONOMOUS = "AUTONOMOUS"
    SLEEP_LEARNING = "SLEEP_LEARNING"
    E_STOP = "E_STOP"


class Motion(StrEnum):
    """Whose commands may reach the servos now."""

    NONE = "none"
    TELEOP = "teleop"
    POLICY = "policy"


class Request(StrEnum):
    """What may be asked of the machine."""

    E_STOP = "E_STOP"
    CLEAR = "CLEAR"
    FAULT = "FAULT"
    DISARM = "DISARM"
    MANUAL = "MANUAL"
    TRAINING = "TRAINING"
    AUTONOMOUS = "AUTONOMOUS"
    SLEEP = "SLEEP"
    START = "START"
    STOP = "STOP"


class Actor(StrEnum):
    """Who asks: a person, this software on its own account, or the policy."""

    PERSON = "person"
    SYSTEM = "system"
    POLICY = "policy"


@attrs.frozen(kw_only=True)
class ModeFacts:
    """What one mode allows."""

    motion: Motion
    records: bool
    learns: bool


@attrs.frozen(kw_only=True)
class Row:
    """One legal transition; `only_idle` refuses it while executing."""

    request: Request
    from_: frozenset[Mode]
    to: Mode
    actors: frozenset[Actor]
    executing: bool
    only_idle: bool = False


@attrs.frozen(kw_only=True)
class ModeRules:
    """The table as values."""

    facts: dict[Mode, ModeFacts]
    rows: tuple[Row, ...]
    boot_clear: Mode
    boot_latched: Mode


@attrs.frozen(kw_only=True)
class ModeState:
    """A mode, and whether a person has started its motion."""

    mode: Mode
    executing: bool = False

    @property
    def motion(self) -> Motion:
        """Whose commands may move the robot in this state."""
        if not self.executing:
            return Motion.NONE
        return mode_rules().facts[self.mode].motion

    @property
    def facts(self) -> ModeFacts:
        """What the mode allows once started."""
        return mode_rules().facts[self.mode]


@cache
def mode_rules() -> ModeRules:
    """Return the table of `specs/modes/modes.json`."""
    path = files("continuon") / "_specs" / "modes" / "modes.json"
    table = msgspec.json.decode(path.read_bytes())
    return ModeRules(
        facts={
            Mode(name): ModeFacts(
                motion=Motion(facts["motion"]),
                records=facts["records"],
                learns=facts["learns"],
            )
            for name, facts in table["modes"].items()
        },
        rows=tuple(
            Row(
                request=Request(row["request"]),
                from_=frozenset(map(Mode, row["from"])),
                to=Mode(row["to"]),
                actors=frozenset(map(Actor, row["actors"])),
                executing=row["executing"],
                only_idle=row.get("only_idle", False),
            )
            for row in table["transitions"]
        ),
        boot_clear=Mode(table["boot"]["clear"]),
        boot_latched=Mode(table["boot"]["latched"]),
    )


def boot_state(*, latched: bool) -> ModeState:
    """Return the state after power-on, crash or restart; it never moves anything."""
    rules = mode_rules()
    return ModeState(mode=rules.boot_latched if latched else rules.boot_clear)


def advance(state: ModeState, request: Request, actor: Actor) -> ModeState:
    """Return the state after a request.

    Raises:
        ContractError: E-ROBOT-MODE-001, no row of the table allows it.
    """
    for row in mode_rules().rows:
        if (
            row.request is request
            and state.mode in row.from_
            and actor in row.actors
            and not (row.only_idle and state.executing)
        ):
            return ModeState(mode=row.to, executing=row.executing)
    raise ContractError(
        "E-ROBOT-MODE-001",
        f"{request} by {actor} is refused in mode {state.mode}",
        seen=f"{state.mode}, executing={state.executing}",
        allowed=", ".join(_offers(state, actor)) or f"nothing by {actor}",
        hint=_hint(state, request),
    )


def _offers(state: ModeState, actor: Actor) -> list[str]:
    return sorted(
        {
            row.request.value
            for row in mode_rules().rows
            if state.mode in row.from_
            and actor in row.actors
            and not (row.only_idle and state.executing)
        }
    )


def _hint(state: ModeState, request: Request) -> str:
    if state.mode is Mode.E_STOP and request is not Request.CLEAR:
        return "a person clears the emergency stop first, standing by the robot"
    return "send one of the allowed requests first"
