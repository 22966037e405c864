"""What the robot is told to do, and that each episode of a policy says it truly.

An episode has one instruction, so that every reader of it, the learner first, finds at
each step what the policy was told there. A new instruction therefore ends the episode
under way, counts, and begins the next one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import attrs

from continuon.errors import ContinuonError, ContractError
from continuon.instruction import checked_instruction
from continuon.rlds.episode import EndReason
from continuon.robot.control import ControlHandle
from continuon.robot.modes import ModeState, Motion
from continuon.robot.recordings import Recordings, Wish

__all__ = ["Told"]

_END_EPISODE_S = 10.0


class Told:
    """Begins and ends episodes, and changes the instruction between two of them.

    Args:
        control: the loop, which holds the instruction.
        recordings: the recorder.
        state: returns the mode.
    """

    def __init__(
        self,
        control: ControlHandle,
        recordings: Recordings,
        state: Callable[[], ModeState],
    ) -> None:
        self._control = control
        self._recordings = recordings
        self._state = state
        self._wish: Wish | None = None
        # No episode may begin between the end of one and the words of the next.
        self._lock = threading.RLock()

    def begin(self, wish: Wish) -> dict[str, Any]:
        """Begin to record what the robot does now.

        Raises:
            ContractError: E-ROBOT-RECORD-011, the policy was told something else.
            ContinuonError: it does nothing, or it cannot be recorded.
        """
        with self._lock:
            state, told = self._state(), None
            if state.motion is Motion.POLICY:
                status = self._control.status()
                told = status["instruction"] if status["needs_instruction"] else None
            if told is not None and wish.task != told:
                raise ContractError(
                    "E-ROBOT-RECORD-011",
                    "the policy was told something else than the episode would say",
                    seen=wish.task,
                    allowed=told,
                    hint="record with this task, or tell the robot another one first",
                )
            begun = self._recordings.begin(state, wish)
            self._wish = wish if told is not None else None
            return begun

    def end(self, reason: EndReason) -> dict[str, Any]:
        """End the episode under way and return what is in it; the robot goes on.

        Raises:
            ContractError: E-ROBOT-RECORD-010, none is being recorded.
        """
        ended = self._recordings.end(reason, wait_s=_END_EPISODE_S)
        if ended is None:
            raise ContractError(
                "E-ROBOT-RECORD-010",
                "no episode is being recorded",
                hint="it may have ended by itself: look at the list of episodes",
            )
        return ended

    def instruct(self, text: str) -> dict[str, Any]:
        """Tell the robot what to do from the next tick on; "" is nothing.

        Returns:
            `instruction` and `tick`; `ended` and `begun` where an episode of a policy
            was being recorded: the one before and the one after. `not_recorded` says
            why no other began.

        Raises:
            ContractError: E-TEXT-..., this is no instruction; nothing has changed.
            ContinuonError: the loop does not answer, or E-ROBOT-RECORD-012, the episode
                under way does not end; nothing was told.
        """
        told = checked_instruction(text)
        with self._lock:
            wish, answer = self._wish, dict[str, Any]()
            if wish is not None and wish.task != told:
                answer |= self._finish()
            answer |= {"instruction": told, "tick": self._control.instruct(told)}
            if wish is not None and told and "ended" in answer:
                try:
                    begun = self.begin(attrs.evolve(wish, task=told))
                    answer["begun"] = begun["episode_id"]
                except ContinuonError as error:
                    # What was told counts, and who told it must know of both.
                    answer["not_recorded"] = error.as_dict()
            return answer

    def _finish(self) -> dict[str, Any]:
        ended = self._recordings.end(EndReason.STOPPED, wait_s=_END_EPISODE_S)
        if ended is not None and self._recordings.source is not None:
            raise ContinuonError(
                "E-ROBOT-RECORD-012",
                "the episode under way does not end, and would hold two instructions",
                seen=ended["episode_id"],
                hint="end it, then tell the robot again",
            )
        self._wish = None
        return {} if ended is None else {"ended": ended["episode_id"]}
