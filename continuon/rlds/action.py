"""What a step did: the plan's action, whoever gave it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from continuon.rlds.observation import DialogTurn
from continuon.rlds.vocabulary import Int64

__all__ = ["Action", "Annotation", "ArmCommand", "Planner", "ToolCall", "UiAction"]


@attrs.frozen(kw_only=True)
class ArmCommand:
    """The command of one of several arms, as `Action.command` is for the robot."""

    arm_id: str
    command: tuple[float, ...]


@attrs.frozen(kw_only=True)
class Annotation:
    """What an observer noted."""

    kind: str
    fields: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class UiAction:
    """What somebody did at the workstation."""

    action_type: str
    context: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Planner:
    """What a planner meant to do; confidence 0 to 1."""

    intent: str
    plan_steps: tuple[str, ...] = ()
    selected_skill: str | None = None
    confidence: float | None = None


@attrs.frozen(kw_only=True)
class ToolCall:
    """A call of a tool, arguments and result as JSON text."""

    tool: str
    name: str
    args_json: str = "{}"
    result_json: str | None = None
    ok: bool | None = None


@attrs.frozen(kw_only=True)
class Action:
    """The command in force, and all that was said or done beside it.

    `command` is normalised as `action_names` of the metadata say; it may be empty only
    for an observer, whose action is the annotation. `source` is one of `ActionSource`.
    `timestamp_ns` is when it was given: it holds until the next.
    """

    command: tuple[float, ...] = ()
    source: str
    timestamp_ns: Int64 | None = None
    clock: str = "host"
    arm_commands: tuple[ArmCommand, ...] = ()
    annotation: Annotation | None = None
    ui_action: UiAction | None = None
    dialog: tuple[DialogTurn, ...] = ()
    planner: Planner | None = None
    tool_calls: tuple[ToolCall, ...] = ()
