"""What a smaller artifact makes the robot do: its error on held-out episodes.

Weights of 8 bits are another network. Whether it is as good is not said by how near its
golden ticks are, but by its task: the actions of episodes that nothing was learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import numpy as np

__all__ = ["TASK_FLOOR", "TASK_SLACK", "TaskEpisode", "TaskScore", "task_scores"]

TASK_SLACK, TASK_FLOOR = 0.05, 0.005
"""A smaller artifact's error may be larger by this share, or by this much."""
Array = np.ndarray[Any, Any]


@attrs.frozen(kw_only=True, eq=False)
class TaskEpisode:
    """One episode from its first tick.

    Attributes:
        inputs: `image` uint8 [T, h, w, 3], `proprio` float32 [T, P], `depth` [T, h, w],
            `instruction` [T, n], as the policy has.
        action: float32 [T, A] in [-1, 1], what the teacher did.
        valid: bool [T]; other ticks are seen but not scored.
    """

    inputs: dict[str, Array]
    action: Array
    valid: Array


@attrs.frozen(kw_only=True)
class TaskScore:
    """Mean absolute action error of one artifact, and of the float32 one.

    `allowed` is the largest that `error` may be; `ticks` were scored.
    """

    backend: str
    error: float
    error_fp32: float
    allowed: float
    episodes: int
    ticks: int

    @property
    def ok(self) -> bool:
        """Whether the error is within what is allowed; NaN is not."""
        return self.error <= self.allowed


def task_scores(
    directory: Path, backends: Sequence[str], episodes: Sequence[TaskEpisode]
) -> tuple[TaskScore, ...]:
    """Drive every artifact through the episodes, by the backend that will run it.

    Each episode starts from a reset state; a previous action is the policy's own.

    Args:
        directory: a compiled policy with a float32 `.tflite`.
        backends: to be judged; none, or no episodes, gives none.
        episodes: held out.
    """
    if not backends or not episodes:
        return ()
    reference = _error(directory, "litert", episodes)
    allowed = reference + max(TASK_SLACK * reference, TASK_FLOOR)
    return tuple(
        TaskScore(
            backend=backend,
            error=_error(directory, backend, episodes),
            error_fp32=reference,
            allowed=allowed,
            episodes=len(episodes),
            ticks=sum(int(episode.valid.sum()) for episode in episodes),
        )
        for backend in backends
    )


def _error(directory: Path, backend: str, episodes: Sequence[TaskEpisode]) -> float:
    edge: Any = import_module("continuon.edge")
    policy = edge.load_policy(directory, backend=backend)
    errors = []
    for episode in episodes:
        policy.reset()
        told = [
            policy.step(**{name: value[tick] for name, value in episode.inputs.items()})
            for tick in range(len(episode.action))
        ]
        seen = np.stack([out.action for out in told]).astype(np.float64)
        errors.append(np.abs(seen - episode.action)[episode.valid])
    return float(np.concatenate(errors).mean())
