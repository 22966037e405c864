"""Which backend runs here: the maker's order, what is installed, the golden check."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import attrs

from continuon.edge.golden import GoldenReport, check_golden
from continuon.edge.policy import Backend, Policy, load_policy
from continuon.edge.spec import read_spec
from continuon.errors import DataError

__all__ = ["RUNNABLE", "Choice", "choose_backend"]

RUNNABLE = {
    "litert": "ai_edge_litert",
    "litert-fp16": "ai_edge_litert",
    "litert-int8": "ai_edge_litert",
    "onnxruntime": "onnxruntime",
    "numpy": "numpy",
}
"""Backends of this room, and the package that each one needs."""


@attrs.frozen(eq=False)
class Choice:
    """A policy that met its golden ticks here.

    Attributes:
        policy: loaded and reset.
        golden: what its check said.
        passed_over: a sentence for each backend that the maker prefers and that is not
            used, in that order.
    """

    policy: Policy
    golden: GoldenReport
    passed_over: tuple[str, ...]


def choose_backend(directory: Path, order: Sequence[str] | None = None) -> Choice:
    """Return the first backend in the maker's order that answers here as it should.

    Args:
        directory: a compiled policy.
        order: names of backends; None is the spec's. What no robot runs is left out.

    Raises:
        DataError: E-EDGE-BACKEND-002, none does, with the reason of each; and what
            `load_policy` says of an altered artifact, which is no reason to go on.
    """
    named = [a.backend for a in read_spec(directory).artifacts if not a.is_placeholder]
    passed_over: list[str] = []
    for name in named if order is None else order:
        if name not in RUNNABLE or name not in named:
            continue
        if find_spec(RUNNABLE[name]) is None:
            passed_over.append(f"{name}: {RUNNABLE[name]} is not installed")
            continue
        policy = load_policy(directory, backend=cast("Backend", name))
        golden = check_golden(policy, directory)
        if golden.ok:
            return Choice(policy, golden, tuple(passed_over))
        passed_over.append(
            f"{name}: golden ticks missed, error {golden.max_abs_error:.2e} of "
            f"{golden.tolerance:g} allowed"
        )
    raise DataError(
        "E-EDGE-BACKEND-002",
        "no backend of the policy answers here as it should",
        where=directory,
        seen="; ".join(passed_over) or ", ".join(named) or "none",
        allowed=", ".join(RUNNABLE),
        hint="install a backend's package, or compile the policy again",
    )
