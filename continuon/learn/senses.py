"""Senses that are off unless asked for: depth, and the instruction of an episode.

An episode that does not hold what is asked for is an error, never zeros in its place:
zeros would say "nothing near" and "no instruction".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError, UsageError
from continuon.learn.frames import room_for

if TYPE_CHECKING:
    from continuon.hope import HopeConfig
    from continuon.rlds.steps import EpisodeSteps

__all__ = ["DEPTH", "INSTRUCTION", "NO_SENSES", "Senses", "extra_of"]

DEPTH, INSTRUCTION = "depth", "instruction"


@attrs.frozen
class Senses:
    """What is wanted beside image and proprioception.

    Attributes:
        depth_height, depth_width: pixels of the depth picture; 0 for none.
        instruction_size: buckets of the hashed instruction; 0 for none.

    Raises:
        UsageError: E-LEARN-SENSE-004, a negative size, or depth with one side alone.
    """

    depth_height: int = 0
    depth_width: int = 0
    instruction_size: int = 0

    def __attrs_post_init__(self) -> None:
        size = (self.depth_height, self.depth_width)
        if min(size) < 0 or (min(size) == 0 < max(size)) or self.instruction_size < 0:
            raise UsageError(
                "E-LEARN-SENSE-004",
                "a sense has no such size",
                seen=f"depth {size[0]} {size[1]}, instruction {self.instruction_size}",
                allowed="depth of 1 or more rows and columns, or 0 0 for none; "
                "instruction 0 or more",
            )

    @classmethod
    def of(cls, config: HopeConfig) -> Senses:
        """Return what a network senses."""
        return cls(config.depth_height, config.depth_width, config.instruction_size)

    @property
    def as_fields(self) -> dict[str, int]:
        """Return the fields of a `HopeConfig` that are to be on."""
        return {name: value for name, value in attrs.asdict(self).items() if value}


NO_SENSES = Senses()


def extra_of(
    steps: EpisodeSteps, senses: Senses, *, scratch: Path | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return the wanted senses of an episode, depth on the disk of `scratch` if any.

    Returns:
        `depth` [T, h, w] in metres, 0 where it is not known, and `instruction` [T, n],
        the same at every step.

    Raises:
        DataError: E-LEARN-SENSE-002, the episode has no depth, or none whose unit is
            known; -003, it has no instruction.
    """
    extra: dict[str, NDArray[np.float32]] = {}
    if senses.depth_height:
        extra[DEPTH] = _depth(steps, senses, scratch)
    if senses.instruction_size:
        extra[INSTRUCTION] = _instruction(steps, senses.instruction_size)
    return extra


def _depth(
    steps: EpisodeSteps, senses: Senses, scratch: Path | None
) -> NDArray[np.float32]:
    from continuon.rlds.depth_codecs import decode_depth
    from continuon.rlds.depth_picture import policy_depth

    if steps.depth is None or steps.depth_unit_m is None:
        raise DataError(
            "E-LEARN-SENSE-002",
            "an episode holds no depth that a policy could learn from",
            where=steps.metadata.episode_id,
            seen="no depth" if steps.depth is None else "depth of an unknown unit",
            allowed="a depth stream, in a recording that says its unit",
            hint="learn without depth, or from the recordings that hold it",
        )
    size = (senses.depth_height, senses.depth_width)
    pictures = room_for((len(steps), *size), np.float32, scratch)
    for index in np.flatnonzero(steps.valid).tolist():
        counts = decode_depth(bytes(steps.depth[index]))
        pictures[index] = policy_depth(
            counts, height=size[0], width=size[1], unit_m=steps.depth_unit_m
        )
    return pictures


def _instruction(steps: EpisodeSteps, size: int) -> NDArray[np.float32]:
    from continuon.instruction import embed_instruction

    if not steps.metadata.task.strip():
        raise DataError(
            "E-LEARN-SENSE-003",
            "an episode holds no instruction, and the policy is to be told one",
            where=steps.metadata.episode_id,
            seen="task is empty",
            allowed="the instruction in words",
            hint="record with --task, or learn without instructions",
        )
    told = embed_instruction(steps.metadata.task, size)
    return np.tile(told, (len(steps), 1))
