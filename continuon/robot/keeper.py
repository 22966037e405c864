"""Holds the mode of a running robot: motion stops first, then the latch is written."""

from __future__ import annotations

import threading
from collections.abc import Callable

from continuon.robot.latch import EStopLatch
from continuon.robot.modes import (
    Actor,
    Mode,
    ModeState,
    Request,
    advance,
    boot_state,
)

__all__ = ["ModeKeeper"]


class ModeKeeper:
    """The one owner of the mode; safe to call from several threads.

    Args:
        latch: the emergency stop's memory.
        apply: told of every new state before the call returns; it makes motion follow.
            For E_STOP it is called before the latch is written.
    """

    def __init__(
        self, latch: EStopLatch, apply: Callable[[ModeState], None] | None = None
    ) -> None:
        self._latch = latch
        self._apply = apply
        self._lock = threading.RLock()
        self._state = boot_state(latched=True)

    @property
    def state(self) -> ModeState:
        """The state now; E_STOP until `boot` was called."""
        return self._state

    def boot(self) -> ModeState:
        """Enter the state after power-on as the latch on disk says."""
        with self._lock:
            return self._enter(boot_state(latched=self._latch.read().latched))

    def request(self, request: Request, actor: Actor, *, reason: str = "") -> ModeState:
        """Ask for a change and return the new state.

        Raises:
            ContractError: refused; nothing changed.
            OSError: the latch could not be written; the robot stands still in E_STOP.
        """
        with self._lock:
            state = advance(self._state, request, actor)
            if request is Request.CLEAR:
                self._latch.clear(reason=reason, actor=actor)
            try:
                return self._enter(state)
            finally:
                if state.mode is Mode.E_STOP:
                    self._latch.engage(reason=reason, actor=actor)

    def keep_latched(self) -> str | None:
        """While stopped, see that the latch is there: a restart must find it.

        Returns why it is not on disk, None if it is, or need not be.
        """
        with self._lock:
            if self._state.mode is Mode.E_STOP:
                try:
                    self._latch.restore(reason="its record had been removed")
                except OSError as error:
                    return f"the emergency stop is not on disk: {error.strerror}"
            return None

    def _enter(self, state: ModeState) -> ModeState:
        # Motion begins before it is reported, and is reported as over before it ends.
        if state.executing and self._apply is not None:
            self._apply(state)
        self._state = state
        if not state.executing and self._apply is not None:
            self._apply(state)
        return state
