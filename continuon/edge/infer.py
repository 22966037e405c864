"""Smoke inference: an artifact runs here, meets its golden ticks, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import attrs

from continuon.edge.choice import choose_backend
from continuon.edge.golden import GoldenReport, check_golden
from continuon.edge.latency import measure_latency
from continuon.edge.policy import Backend, load_policy
from continuon.edge.spec import read_spec
from continuon.errors import UsageError

__all__ = ["InferReport", "infer"]


@attrs.frozen
class InferReport:
    """What one artifact did on this machine.

    `passed_over` says of each backend that the maker prefers why it was not used; it is
    empty where a backend was asked for.
    """

    name: str
    backend: str
    passed_over: tuple[str, ...]
    observation_size: int
    action_size: int
    golden: GoldenReport
    latency: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether the golden ticks were met."""
        return self.golden.ok

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**attrs.asdict(self), "ok": self.ok}


def infer(
    model_path: Path,
    *,
    obs_dim: int | None = None,
    action_dim: int | None = None,
    backend: Backend | None = None,
    order: Sequence[str] | None = None,
    ticks: int = 300,
) -> InferReport:
    """Load an artifact, replay its golden ticks and time its steps.

    Args:
        model_path: a compiled policy's directory, or one artifact in it.
        obs_dim: expected scalars per observation: image h * w * 3 plus proprio.
        action_dim: expected components of the action.
        backend: by default the one that the file's name asks for, else the first in
            the maker's order that is installed and meets the golden ticks.
        order: the maker's, by name; None is the spec's.
        ticks: steps to time.

    Raises:
        UsageError: E-EDGE-INFER-001, a size is not the spec's.
        DataError: what `load_policy` and `check_golden` raise.
    """
    directory = model_path if model_path.is_dir() else model_path.parent
    if backend is None:
        named = {a.path: a.backend for a in read_spec(directory).artifacts}
        backend = cast("Backend | None", named.get(model_path.name))
    chosen = None if backend else choose_backend(directory, order)
    policy = (
        chosen.policy
        if chosen
        else load_policy(directory, backend=cast("Backend", backend))
    )
    spec = policy.spec
    for name, asked, real in (
        ("--obs-dim", obs_dim, spec.observation_size),
        ("--action-dim", action_dim, len(spec.action)),
    ):
        if asked is not None and asked != real:
            raise UsageError(
                "E-EDGE-INFER-001",
                f"{name} is not what the policy has",
                where=directory,
                seen=asked,
                allowed=real,
            )
    golden = chosen.golden if chosen else check_golden(policy, directory)
    latency = measure_latency(policy, ticks=ticks)
    sizes = (spec.observation_size, len(spec.action))
    passed_over = chosen.passed_over if chosen else ()
    return InferReport(spec.name, policy.backend, passed_over, *sizes, golden, latency)
