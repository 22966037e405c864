"""A candidate policy thinks along before it may drive, and what it wants is compared.

It gets the same observations as the one that drives, and answers when it can: the loop
never waits for it. What it wants goes nowhere but into the figures.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.bundle.manifest import HealthGate
from continuon.errors import ContinuonError, TrustError
from continuon.robot.observing import Senses
from continuon.robot.pilots import Intent, PolicyPilot
from continuon.robot.remote_policy import RemoteOutput, RemotePolicy

__all__ = ["Shadow", "ShadowReport", "ShadowRule"]

_PATIENCE = 20


@attrs.frozen(kw_only=True)
class ShadowRule:
    """How long a candidate is watched, and how far it may differ.

    Attributes:
        frames: observations to compare; 0 switches at once.
        max_mean_divergence: bound of the mean absolute difference of the actions in
            the channel that differs most, where an action is in [-1, 1]. A mean over
            all channels would let one run away beside others that agree.
        max_divergence: bound of any one difference: a policy that agrees but for a
            single jerk has a small mean.
        min_answered_fraction: share of them that it must have answered.
    """

    frames: int = 25
    max_mean_divergence: float = 0.3
    max_divergence: float = 1.0
    min_answered_fraction: float = 0.9

    @classmethod
    def of(cls, gate: HealthGate) -> ShadowRule:
        """Return the rule that a bundle's own health gate asks for."""
        return cls(
            max_mean_divergence=gate.max_shadow_mean,
            max_divergence=gate.max_shadow_peak,
        )


@attrs.frozen(kw_only=True)
class ShadowReport:
    """What was seen; divergences are NaN where nothing was compared.

    `mean_divergence` is that of the channel that differs most.
    """

    frames: int
    answered: int
    non_finite: int
    mean_divergence: float
    max_divergence: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, in which NaN is null."""
        facts = attrs.asdict(self)
        return {
            name: None
            if isinstance(value, float) and not math.isfinite(value)
            else value
            for name, value in facts.items()
        }


class Shadow:
    """One candidate, from its first observation to the verdict.

    Args:
        policy: the candidate.
        rule: how it is judged.
    """

    def __init__(self, policy: RemotePolicy, rule: ShadowRule) -> None:
        self._policy = policy
        self._rule = rule
        self._asks = _Asks(policy)
        self._pilot = PolicyPilot(self._asks, lambda: 0)
        self._wanted: dict[int, NDArray[np.float32]] = {}
        self._divergences: list[NDArray[np.float64]] = []
        self._sent = self._ticks = self._non_finite = 0
        self._since_last = 0
        self.failure: ContinuonError | None = None

    def watch(self, senses: Senses, intent: Intent | None) -> None:
        """Compare what was answered by now, and hand over a fresh observation."""
        if self.failure is not None:
            return
        try:
            for number, output in self._policy.answers():
                self._compare(self._wanted.pop(number, None), output)
            fresh = senses.frame is not None and intent is not None
            if fresh and self._sent < self._rule.frames:
                assert intent is not None
                self._pilot(senses)
                for number in self._asks.take():
                    self._wanted[number] = intent.action
                    self._sent += 1
        except (ContinuonError, ValueError) as error:
            self.failure = _failed(error)

    def tick(self) -> bool:
        """Count a tick of the loop; return whether the verdict can be asked for."""
        self._ticks += 1
        if self.failure is not None or self._ticks > _PATIENCE * self._rule.frames:
            return True
        if self._sent < self._rule.frames:
            return False
        self._since_last += 1
        return not self._wanted or self._since_last > _PATIENCE

    def report(self) -> ShadowReport:
        """Return the figures so far."""
        parts = self._divergences
        compared = np.stack(parts) if parts else np.array([[math.nan]])
        return ShadowReport(
            frames=self._sent,
            answered=len(parts) + self._non_finite,
            non_finite=self._non_finite,
            mean_divergence=float(compared.mean(axis=0).max()),
            max_divergence=float(compared.max()),
        )

    def judge(self) -> ShadowReport:
        """Return the figures if the candidate may take over.

        Raises:
            ContinuonError: E-ROBOT-POLICY-002, it failed meanwhile.
            TrustError: E-ROBOT-SWAP-006 it wants something else than the one that
                drives, or what is no number; -007 too little was compared.
        """
        if self.failure is not None:
            raise self.failure
        rule, found = self._rule, self.report()
        needed = math.ceil(rule.min_answered_fraction * rule.frames)
        if found.answered < needed:
            raise TrustError(
                "E-ROBOT-SWAP-007",
                "the new policy could not be compared with the one that drives",
                seen=f"{found.answered} answers to {found.frames} observations",
                allowed=f"at least {needed}",
                hint="does the camera send frames, and is the machine not overloaded?",
            )
        alike = (
            found.mean_divergence <= rule.max_mean_divergence
            and found.max_divergence <= rule.max_divergence
        )
        if found.non_finite or not alike:
            raise TrustError(
                "E-ROBOT-SWAP-006",
                "the new policy wants something else than the one that drives",
                seen=f"mean {found.mean_divergence:.3g}, largest "
                f"{found.max_divergence:.3g}, {found.non_finite} not finite",
                allowed=f"a mean of at most {rule.max_mean_divergence:g}, "
                f"no difference above {rule.max_divergence:g}",
                hint="look at what it was trained on; the old one goes on driving",
            )
        return found

    def _compare(
        self, wanted: NDArray[np.float32] | None, output: RemoteOutput
    ) -> None:
        if wanted is None:
            return
        apart = np.abs(np.asarray(output.action, np.float64) - wanted)
        if np.isfinite(output.action).all():
            # What drives may itself want what is no number; then nothing is comparable.
            self._divergences.append(np.nan_to_num(apart, nan=2.0, posinf=2.0))
        else:
            self._non_finite += 1


class _Asks:
    """Hands observations to a policy and returns at once, with nothing decided."""

    def __init__(self, policy: RemotePolicy) -> None:
        self._policy = policy
        self.spec = policy.spec
        self._numbers: list[int] = []
        self._blank = RemoteOutput(np.zeros(len(policy.spec.action), np.float32), 0.0)

    def reset(self) -> None:
        self._policy.reset()

    def step(
        self,
        image: NDArray[np.uint8] | None,
        proprio: NDArray[np.float32] | None,
        **more: NDArray[np.float32],
    ) -> RemoteOutput:
        self._numbers.append(self._policy.ask(image, proprio, **more))
        return self._blank

    def take(self) -> list[int]:
        """Return the numbers of what was asked since the last call."""
        numbers, self._numbers = self._numbers, []
        return numbers


def _failed(error: Exception) -> ContinuonError:
    if isinstance(error, ContinuonError):
        return error
    return ContinuonError("E-ROBOT-POLICY-002", f"the new policy cannot run: {error}")
