"""Which backends this package runs, and the first of a list that can run here."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from continuon.edge.choice import RUNNABLE
from continuon.errors import UsageError

__all__ = ["RUNNABLE", "first_runnable"]


def first_runnable(names: Sequence[str]) -> str:
    """Return the first backend that this package runs and whose package is installed.

    The order is the maker's; whether it computes here what it should, the golden check
    says before it may drive.

    Raises:
        UsageError: E-ROBOT-UPDATE-001, there is none.
    """
    lacking = []
    for name in names:
        package = RUNNABLE.get(name)
        if package is not None and find_spec(package) is not None:
            return name
        if package is not None:
            lacking.append(f"{name} needs {package}")
    raise UsageError(
        "E-ROBOT-UPDATE-001",
        "the bundle has no backend that runs here",
        seen="; ".join(lacking) or ", ".join(names) or "none",
        allowed=", ".join(RUNNABLE),
        hint="install its package, or compile the policy for one of them",
    )
