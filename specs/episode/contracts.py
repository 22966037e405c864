"""The contract over aligned columns, as a pandera schema on polars.

Few columns and two block checks: cost is per column, so vectors are judged as arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from continuon.errors import ContractError, MissingPackageError
from continuon.rlds.plan_columns import step_columns
from continuon.rlds.plan_episode import PlanEpisode
from continuon.rlds.plan_rules import MAX_LENGTH_ERROR, MAX_SKEW_NS
from continuon.rlds.steps import EpisodeSteps

__all__ = [
    "VERSION",
    "check_plan",
    "check_steps",
    "plan_step_schema",
    "plan_step_table",
    "step_schema",
    "step_table",
]

VERSION = 1


def _packages() -> tuple[Any, Any]:
    try:
        import pandera.polars as pandera
        import polars as pl
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "pandera[polars]", "data", purpose="checking columns"
        ) from error
    return pandera, pl


def step_schema() -> Any:
    """Return the pandera schema of one episode's step table."""
    pandera, pl = _packages()
    check = pandera.Check
    return pandera.DataFrameSchema(
        {
            "stamp_ns": pandera.Column(pl.Int64, check.ge(0)),
            "dt_ns": pandera.Column(pl.Int64, check.ge(0)),
            "image_bytes": pandera.Column(pl.Int64, check.ge(1)),
            "action_finite": pandera.Column(pl.Boolean, check.isin([True])),
            "state_finite": pandera.Column(pl.Boolean, check.isin([True])),
            "is_first": pandera.Column(pl.Boolean),
            "is_last": pandera.Column(pl.Boolean),
        },
        strict=True,
    )


def step_table(steps: EpisodeSteps) -> Any:
    """Return the masked-in steps of an episode as the table that the schema judges."""
    _, pl = _packages()
    keep = steps.valid
    return pl.DataFrame(
        {
            "stamp_ns": steps.stamp_ns[keep],
            "dt_ns": np.diff(steps.stamp_ns, prepend=steps.stamp_ns[:1])[keep],
            "image_bytes": np.array([len(blob) for blob in steps.image], np.int64)[
                keep
            ],
            "action_finite": np.isfinite(steps.action).all(axis=1)[keep],
            "state_finite": np.isfinite(steps.state).all(axis=1)[keep],
            "is_first": steps.is_first[keep],
            "is_last": steps.is_last[keep],
        }
    )


def check_steps(steps: EpisodeSteps) -> None:
    """Check an episode's masked-in steps.

    Raises:
        ContractError: they break the contract, with every failing row counted.
    """
    _validated(step_schema(), step_table(steps), steps.metadata.episode_id)


def plan_step_schema() -> Any:
    """Return the pandera schema of the plan's steps: few columns, block checks."""
    pandera, pl = _packages()
    check = pandera.Check
    holds = pandera.Column(pl.Boolean, check.isin([True]))
    return pandera.DataFrameSchema(
        {
            "stamp_ns": pandera.Column(pl.Int64, check.ge(0)),
            "dt_ns": pandera.Column(pl.Int64, check.ge(0)),
            "skew_ns": pandera.Column(pl.Int64, check.le(MAX_SKEW_NS)),
            "has_command": holds,
            "is_finite": holds,
            "is_in_range": holds,
            "gaze_is_unit": holds,
            "attitude_is_unit": holds,
            "flags_fit": holds,
        },
        strict=True,
    )


def plan_step_table(episode: PlanEpisode) -> Any:
    """Return an episode's steps as the table that the schema judges."""
    _, pl = _packages()
    columns = step_columns(episode.steps)
    count = len(columns)
    at = np.arange(count)
    skew = np.zeros(count, np.int64)
    for name, column in columns.times.items():
        if name != "action" and column.comparable:
            far = np.abs(column.skew_ns)
            skew[column.rows] = np.maximum(skew[column.rows], far)
    in_range = np.ones(count, bool)
    in_range[[row for row, _ in columns.outside]] = False
    first = np.array([step.is_first for step in episode.steps], bool)
    last = np.array([step.is_last for step in episode.steps], bool)
    return pl.DataFrame(
        {
            "stamp_ns": columns.stamp_ns,
            "dt_ns": np.diff(columns.stamp_ns, prepend=columns.stamp_ns[:1]),
            "skew_ns": skew,
            "has_command": [
                bool(s.action.command or s.action.arm_commands or s.action.annotation)
                for s in episode.steps
            ],
            "is_finite": columns.block_finite(),
            "is_in_range": in_range,
            "gaze_is_unit": columns.gaze_error <= MAX_LENGTH_ERROR,
            "attitude_is_unit": columns.quaternion_error <= MAX_LENGTH_ERROR,
            "flags_fit": (first == (at == 0)) & (last == (at == count - 1)),
        },
    )


def check_plan(episode: PlanEpisode) -> None:
    """Check the columns of the plan's steps.

    Raises:
        ContractError: they break the contract, with every failing row counted.
    """
    _validated(
        plan_step_schema(), plan_step_table(episode), episode.metadata.episode_id
    )


def _validated(schema: Any, table: Any, where: str) -> None:
    pandera, _ = _packages()
    try:
        schema.validate(table, lazy=True)
    except pandera.errors.SchemaErrors as error:
        raise ContractError(
            "E-EPISODE-COLUMNS-001",
            "the episode's columns break their contract",
            where=where,
            seen=_failing(error.failure_cases),
        ) from error


def _failing(cases: Any) -> str:
    """Return each failing column with the count of its failing rows."""
    counts: dict[str, int] = {}
    for column in cases["column"].to_list():
        counts[str(column)] = counts.get(str(column), 0) + 1
    return ", ".join(f"{column}: {count}" for column, count in sorted(counts.items()))
