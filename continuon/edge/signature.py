"""What the signatures of an artifact must have, so that its state can be carried."""

from __future__ import annotations

from pathlib import Path

from continuon.edge.spec import STATE_PREFIX, PolicySpec
from continuon.errors import DataError

__all__ = ["LOG_PREFIX", "check_names", "check_signatures"]

LOG_PREFIX = "log/"
Names = tuple[set[str], set[str]]


def check_names(
    path: Path, spec: PolicySpec, inputs: set[str], outputs: set[str]
) -> None:
    """Check that an artifact has the spec's inputs and outputs, no more and no less.

    Raises:
        DataError: E-EDGE-LITERT-001, naming the difference.
    """
    state = {STATE_PREFIX + name for name in spec.state}
    _same(path, inputs, state | _senses(spec))
    _same(path, outputs, state | {"action", "surprise"})


def check_signatures(
    path: Path,
    spec: PolicySpec,
    *,
    step: Names,
    fold: Names,
    every: tuple[int, set[int]],
) -> None:
    """Check that what one signature tells, the same or the other one takes.

    An artifact may hold the spec's state in another shape, so its state's names must
    fit together, not the spec's.

    Args:
        path: of the artifact.
        spec: of the policy.
        step: names of the inputs and of the outputs.
        fold: likewise, both empty for none.
        every: ticks between folds as the spec has it, and the rows of the logs.

    Raises:
        DataError: E-EDGE-LITERT-001, naming the difference.
    """
    told, rows = every
    _same(path, _without(step[0], STATE_PREFIX), _senses(spec))
    _same(path, _without(_without(step[1], STATE_PREFIX), LOG_PREFIX), _ANSWERS)
    _same(path, _only(step[1], LOG_PREFIX), _only(fold[0], LOG_PREFIX))
    taken, given = (_only(step[i] | fold[i], STATE_PREFIX) for i in (0, 1))
    _same(path, given, taken)
    if not fold[0]:
        _same(path, {str(told)}, {"0"})
    else:
        _same(path, {str(row) for row in rows | {told}}, {str(max(told, 1))})


_ANSWERS = {"action", "surprise"}


def _senses(spec: PolicySpec) -> set[str]:
    own = {"previous_action"} if spec.use_previous_action else set()
    return set(spec.senses) | own


def _only(names: set[str], prefix: str) -> set[str]:
    return {name for name in names if name.startswith(prefix)}


def _without(names: set[str], prefix: str) -> set[str]:
    return names - _only(names, prefix)


def _same(path: Path, seen: set[str], allowed: set[str]) -> None:
    if seen != allowed:
        raise DataError(
            "E-EDGE-LITERT-001",
            "the artifact's signature is not the one that the spec describes",
            where=path,
            seen=", ".join(sorted(seen - allowed)) or "names missing",
            allowed=", ".join(sorted(allowed - seen)) or "no more",
        )
