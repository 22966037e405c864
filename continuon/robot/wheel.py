"""Who drives by hand: one at a time, until they fall silent."""

from __future__ import annotations

from continuon.errors import ContractError

__all__ = ["HOLD_NS", "Wheel"]

HOLD_NS = 1_000_000_000
"""Silence after which somebody else may drive; the robot has stopped by then."""


class Wheel:
    """The wheel belongs to whose command was taken last.

    Two pages that both drive would mix their commands, thirty times a second each.
    """

    def __init__(self) -> None:
        self._who: object = None
        self._name = ""
        self._at_ns = 0

    def ask(self, who: object, now_ns: int) -> None:
        """Return if `who` may drive now.

        Raises:
            ContractError: E-ROBOT-TELEOP-003, somebody else drives.
        """
        silent_ns = now_ns - self._at_ns
        if self._who is None or self._who is who or silent_ns >= HOLD_NS:
            return
        raise ContractError(
            "E-ROBOT-TELEOP-003",
            "somebody else drives",
            seen=self._name,
            allowed=f"when they were silent for {HOLD_NS / 1e9:g} s",
            hint="their page must be closed or hidden; the stop button is everybody's",
        )

    def took(self, who: object, name: str, now_ns: int) -> None:
        """Note that a command of `who` was taken."""
        self._who, self._name, self._at_ns = who, name, now_ns

    def leave(self, who: object) -> None:
        """Note that `who` is gone."""
        if self._who is who:
            self._who = None
