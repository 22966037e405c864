"""The contract over aligned columns, as a pandera schema on polars.

Few columns and two block checks: cost is per column, so vectors are judged as arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from continuon.errors import ContractError, MissingPackageError
from continuon.rlds.steps import EpisodeSteps

__all__ = ["VERSION", "check_steps", "step_columns", "step_schema"]

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


def step_columns(steps: EpisodeSteps) -> Any:
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
    pandera, _ = _packages()
    try:
        step_schema().validate(step_columns(steps), lazy=True)
    except pandera.errors.SchemaErrors as error:
        raise ContractError(
            "E-EPISODE-COLUMNS-001",
            "the episode's columns break their contract",
            where=steps.metadata.episode_id,
            seen=_failing(error.failure_cases),
        ) from error


def _failing(cases: Any) -> str:
    """Return each failing column with the count of its failing rows."""
    counts: dict[str, int] = {}
    for column in cases["column"].to_list():
        counts[str(column)] = counts.get(str(column), 0) + 1
    return ", ".join(f"{column}: {count}" for column, count in sorted(counts.items()))
