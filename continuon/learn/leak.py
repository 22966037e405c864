"""A state that repeats the command of its own tick would give the answer away.

Some recorders write the commanded position among the state. A policy fed by it learns
to copy it, scores well on recordings, and stands still on the robot: there its command
is what it has not yet said (causal confusion: de Haan et al., arXiv 1905.11979).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError

if TYPE_CHECKING:
    from continuon.learn.data import EpisodeArrays

__all__ = ["LEAST_OFF", "check_leak", "repeated"]

LEAST_OFF = 1e-3
"""Least rms of what a line through one state leaves of an action, in standard
deviations of the action. A measured joint follows its command: the nearest of 26,
driven at 30 Hz, leaves 0.037; a copy rounded to 12 bits leaves 0.0002."""
_FEWEST = 16
_STILL = 1e-9
"""What deviates by no more, in its own unit, never moves."""


def repeated(episodes: Sequence[EpisodeArrays]) -> list[tuple[str, str]]:
    """Return the pairs (state, action) of which one is a line of the other.

    At the same tick, over all valid steps of all episodes. An action that never changes
    is repeated by nothing, and with fewer than 16 steps nothing is said.
    """
    state = np.concatenate([e.proprio[e.valid] for e in episodes]).astype(np.float64)
    action = np.concatenate([e.action[e.valid] for e in episodes]).astype(np.float64)
    if len(state) < _FEWEST:
        return []
    state, action = state - state.mean(0), action - action.mean(0)
    found = []
    for s, felt in enumerate(episodes[0].proprio_names):
        for a, told in enumerate(episodes[0].action_names):
            if _off(state[:, s], action[:, a]) < LEAST_OFF:
                found.append((felt, told))
    return found


def _off(state: NDArray[Any], action: NDArray[Any]) -> float:
    """Return the share of an action's deviation that a multiple of a state leaves."""
    moves = float(action @ action), float(state @ state)
    if min(moves) <= _STILL**2 * len(action):
        return 1.0
    left = action - state * (state @ action / moves[1])
    return float(np.sqrt(left @ left / moves[0]))


def check_leak(episodes: Sequence[EpisodeArrays]) -> None:
    """Check that no state which nobody asked for tells the action of its own tick.

    Raises:
        DataError: E-LEARN-DATA-008, one does.
    """
    found = repeated(episodes)
    if found:
        raise DataError(
            "E-LEARN-DATA-008",
            "a state repeats the command of the same tick, which a robot cannot sense",
            where=episodes[0].episode_id,
            seen=", ".join(f"{felt} is a line of {told}" for felt, told in found),
            allowed="states that are measured",
            hint="name those: `continuon train --state`; named states are not judged",
        )
