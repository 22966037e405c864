"""What a policy is told in the pipeline: the task of the recordings it learnt from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs

from continuon.edge import read_spec
from continuon.edge.spec import SPEC_FILE
from continuon.pipeline.context import Context
from continuon.rlds.steps import read_steps

__all__ = ["Asked", "asked_by"]


@attrs.frozen
class Asked:
    """What some policies ask of the robot that is to try them.

    Attributes:
        depth: whether one sees depth.
        told: the instruction, "" where none listens to one.
    """

    depth: bool
    told: str


def asked_by(context: Context, policies: Iterable[Path | None]) -> Asked:
    """Return what compiled policies ask for; a place without one asks for nothing.

    Raises:
        DataError: one must be told, and no recording here says what.
    """
    places = [p for p in policies if p is not None and (p / SPEC_FILE).is_file()]
    specs = [read_spec(place) for place in places]
    told = ""
    if any(spec.instruction_size for spec in specs):
        told = next(iter(read_steps(context.home.episodes))).metadata.task
    return Asked(any(spec.depth_height for spec in specs), told)
