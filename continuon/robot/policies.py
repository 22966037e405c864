"""Bring a policy to the point where it may drive: loaded, warmed, golden-checked."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from continuon.errors import ContractError, TrustError
from continuon.robot.kernel import SafetyLimits
from continuon.robot.remote_policy import RemoteSpec

__all__ = ["ActiveModel", "load_checked", "load_edge_policy"]

_WARM_STEPS = 5
_REST = 3.0
_MAX_REST_S = 0.02

GoldenCheck = Callable[[Any], Any]
"""Steps a policy through its golden inputs and returns edge's report."""


@attrs.frozen(eq=False, kw_only=True)
class ActiveModel:
    """A policy that may drive, and what it showed.

    Attributes:
        serial: counts the policies of one control process; 0 is none.
        policy: the edge backend.
        artifact_dir: where it came from.
        golden_max_abs_error: largest difference from the golden outputs.
        load_ms, warm_ms, golden_ms: what each step took.
        limits: the envelope that its bundle asks for; None keeps the robot's own.
    """

    serial: int
    policy: Any
    artifact_dir: str
    backend: str
    golden_max_abs_error: float
    golden_tolerance: float
    load_ms: float
    warm_ms: float
    golden_ms: float
    limits: SafetyLimits | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        fields = attrs.fields(type(self))
        skip = attrs.filters.exclude(fields.policy, fields.limits)
        return attrs.asdict(self, filter=skip)


class _Gentle:
    """A policy that rests after each step, so that a running loop keeps its time.

    Preparing a policy shares the processor with the loop; resting three times as long
    as it works leaves most of it to the loop.
    """

    def __init__(self, policy: Any, rest_s: Callable[[float], object]) -> None:
        self._policy = policy
        self._rest_s = rest_s

    def step(self, *given: Any, **named: Any) -> Any:
        begun_ns = time.monotonic_ns()
        output = self._policy.step(*given, **named)
        self._rest_s(min(_REST * (time.monotonic_ns() - begun_ns) / 1e9, _MAX_REST_S))
        return output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)


def load_edge_policy(directory: str, backend: str) -> tuple[Any, GoldenCheck]:
    """Return a policy by `continuon.edge`, and its golden check."""
    edge: Any = import_module("continuon.edge")
    path = Path(directory)
    policy = edge.load_policy(path, backend=backend)
    return policy, lambda stepped: edge.check_golden(stepped, path)


def load_checked(
    loader: Callable[[str, str], tuple[Any, GoldenCheck]],
    directory: str,
    backend: str,
    *,
    serial: int,
    action_count: int,
    now_ns: Callable[[], int] = time.monotonic_ns,
    rest_s: Callable[[float], object] = time.sleep,
) -> ActiveModel:
    """Load a policy, step it warm, check it against its golden outputs, reset it.

    Raises:
        TrustError: E-ROBOT-SWAP-001, golden outputs differ by more than is tolerated.
        ContractError: E-ROBOT-SWAP-002, its actions are not this robot's.
    """
    t0 = now_ns()
    policy, golden_check = loader(directory, backend)
    spec = policy.spec
    if len(spec.action) != action_count:
        raise ContractError(
            "E-ROBOT-SWAP-002",
            "the policy's action is not this robot's",
            where=directory,
            seen=f"{len(spec.action)} channels",
            allowed=f"{action_count} channels",
        )
    t1 = now_ns()
    policy.reset()
    nothing = {name: np.zeros(s, t) for name, t, s in RemoteSpec.like(spec).senses}
    image, proprio = nothing.pop("image", None), nothing.pop("proprio", None)
    gentle = _Gentle(policy, rest_s)
    for _ in range(_WARM_STEPS):
        gentle.step(image, proprio, **nothing)
    t2 = now_ns()
    report = golden_check(gentle)
    error = float(report.max_abs_error)
    # A NaN error compares as false, and so is refused too.
    if not (report.ok and error <= report.tolerance):
        raise TrustError(
            "E-ROBOT-SWAP-001",
            "the policy does not compute here what it computed when it was made",
            where=directory,
            seen=error,
            allowed=f"at most {report.tolerance}",
            hint="this runtime or processor differs; do not deploy the bundle here",
        )
    policy.reset()
    t3 = now_ns()
    return ActiveModel(
        serial=serial,
        policy=policy,
        artifact_dir=directory,
        backend=backend,
        golden_max_abs_error=error,
        golden_tolerance=float(report.tolerance),
        load_ms=(t1 - t0) / 1e6,
        warm_ms=(t2 - t1) / 1e6,
        golden_ms=(t3 - t2) / 1e6,
    )
