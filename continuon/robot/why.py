"""Why a robot stopped by itself, in a sentence for the person who drove it."""

from __future__ import annotations

from collections.abc import Iterable

from continuon.robot.guard_rules import OffReason
from continuon.robot.kernel import Reason

__all__ = ["guard_words", "kernel_words"]

_KERNEL = {
    Reason.STALE_OBSERVATION: "the camera shows nothing new",
    Reason.NO_OBSERVATION: "the camera has shown nothing yet",
    Reason.FUTURE_OBSERVATION: "the camera's clock runs ahead",
    Reason.MISSING: "nobody said where to go",
    Reason.SHAPE: "a command had too few or too many numbers",
    Reason.NON_FINITE: "a command was no number",
    Reason.BATTERY_CRITICAL: "the battery is too low",
    Reason.BATTERY_UNKNOWN: "the battery's gauge fell silent",
    Reason.NO_INSTRUCTION: "nobody tells the policy what to do any more",
}
_GUARD = {
    OffReason.STALE_HEARTBEAT: "the control loop fell silent",
    OffReason.FUTURE_HEARTBEAT: "the control loop's clock ran ahead",
    OffReason.STALE_PERMIT: "the service fell silent",
    OffReason.ILLEGAL_PULSE: "a pulse was out of its limits",
    OffReason.BUS_ERRORS: "the servo board did not answer",
}


def kernel_words(reasons: Iterable[str]) -> str:
    """Return what the safety kernel could not act on."""
    known = (_KERNEL.get(Reason(reason)) for reason in reasons)
    return next((words for words in known if words), "the safety kernel stopped it")


def guard_words(reason: OffReason) -> str:
    """Return what made the guard stop the outputs."""
    return _GUARD.get(reason, f"the guard stopped it ({reason.value})")
