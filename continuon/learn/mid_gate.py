"""What an adapter must show on held-out episodes before it may be used.

The candidate is measured as it was written: the file is read back, and an adapter
that changes nothing is refused, since a dropped one would look exactly so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.clock import Clock
from continuon.learn.data import EpisodeArrays

if TYPE_CHECKING:
    from continuon.hope import Adapter, HopeConfig

__all__ = [
    "ActionBounds",
    "Baseline",
    "GateFigures",
    "GateLimits",
    "judge",
    "measure",
    "measure_baseline",
    "violations",
]


@attrs.frozen(kw_only=True)
class ActionBounds:
    """What the robot's safety rules allow; one value for each action component.

    Attributes:
        names: of the components.
        low, high: of the component.
        max_rate_per_s: of its change; infinity where there is no such rule.
    """

    names: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    max_rate_per_s: tuple[float, ...] = ()

    def of(self, action: Sequence[str]) -> ActionBounds:
        """Return the bounds of these components, in their order.

        One without a rule keeps to [-1, 1], as every action does, at any rate.
        """
        given = zip(self.low, self.high, self.max_rate_per_s, strict=True)
        rules = dict(zip(self.names, given, strict=True))
        each = [rules.get(name, (-1.0, 1.0, float("inf"))) for name in action]
        low, high, rate = zip(*each, strict=True)
        return ActionBounds(
            names=tuple(action), low=low, high=high, max_rate_per_s=rate
        )


@attrs.frozen(kw_only=True)
class GateLimits:
    """The gate's thresholds.

    Attributes:
        max_action_delta: largest mean change of an action component in any held-out
            episode, in action units.
        min_activity: an adapter must change some action by more than this.
        min_episodes, min_steps: fewer held-out ones prove nothing.
    """

    max_action_delta: float = 0.25
    min_activity: float = 1e-4
    min_episodes: int = 2
    min_steps: int = 32


@attrs.frozen(kw_only=True)
class GateFigures:
    """What was measured on the held-out episodes.

    Attributes:
        mae_before: mean absolute action error with what the robot has now (the current
            adapter, or none); mae_after: with the candidate.
        action_delta: see `GateLimits.max_action_delta`, from now to the candidate.
        violations: ticks at which the candidate breaks a bound.
        violations_before: the same of what the robot has now, for the report.
        activity: largest change of any action that the candidate makes over the bare
            network.
        episodes, steps: held-out ones, valid.
    """

    mae_before: float
    mae_after: float
    action_delta: float
    violations: int
    violations_before: int
    activity: float
    episodes: int
    steps: int


@attrs.frozen(kw_only=True, eq=False)
class Baseline:
    """The held-out episodes as the robot answers them before anything is learnt.

    It is measured first: what the gate will cost is known before training takes its
    time, and the candidate runs in code that is compiled already.

    Attributes:
        held_out: the episodes.
        bare: actions of the network without an adapter, float32 [T, A] an episode.
        now: those with what the robot has now.
        violations: of `now`.
        rollout_s: what one more run over the episodes costs.
    """

    held_out: tuple[EpisodeArrays, ...]
    bare: tuple[NDArray[np.float32], ...]
    now: tuple[NDArray[np.float32], ...]
    violations: int
    rollout_s: float


def measure_baseline(
    params: Any,
    config: HopeConfig,
    *,
    start: Adapter,
    held_out: Sequence[EpisodeArrays],
    bounds: ActionBounds,
    clock: Clock,
) -> Baseline:
    """Run the bare network and what the robot has now.

    Args:
        params: of the network.
        config: of the network.
        start: the adapter in use, or a fresh one, which changes nothing.
        held_out: episodes that are not learnt from.
        bounds: safety rules.
        clock: times the second of two runs; the first one compiles.
    """
    # An adapter that adds nothing, not none: the same program, which is compiled once
    # and took a tenth of a short run's time.
    nothing = {
        path: {**parts, "up": np.zeros_like(parts["up"])}
        for path, parts in start.items()
    }
    bare = _actions(params, config, nothing, held_out)
    now = _actions(params, config, start, held_out)
    begun_ns = clock.monotonic_ns()
    _actions(params, config, start, held_out)
    return Baseline(
        held_out=tuple(held_out),
        bare=bare,
        now=now,
        violations=violations(now, held_out, bounds),
        rollout_s=(clock.monotonic_ns() - begun_ns) / 1e9,
    )


def measure(
    params: Any,
    config: HopeConfig,
    *,
    baseline: Baseline,
    candidate: Adapter,
    bounds: ActionBounds,
) -> GateFigures:
    """Run the candidate, and compare it with what was there before.

    Raises:
        ContractError: E-HOPE-LORA-002, an adapter does not fit; nothing is dropped.
    """
    held_out, bare, now = baseline.held_out, baseline.bare, baseline.now
    new = _actions(params, config, candidate, held_out)
    return GateFigures(
        mae_before=_error(now, held_out),
        mae_after=_error(new, held_out),
        action_delta=max(
            float(np.abs(a - b).mean(0).max()) for a, b in zip(new, now, strict=True)
        ),
        violations=violations(new, held_out, bounds),
        violations_before=baseline.violations,
        activity=max(
            float(np.abs(a - b).max()) for a, b in zip(new, bare, strict=True)
        ),
        episodes=len(held_out),
        steps=sum(int(e.valid.sum()) for e in held_out),
    )


def _actions(
    params: Any,
    config: HopeConfig,
    adapter: Adapter,
    held_out: Sequence[EpisodeArrays],
) -> tuple[NDArray[np.float32], ...]:
    from continuon.hope import attach_adapter
    from continuon.learn.rollout import predict

    used = attach_adapter(params, adapter)
    return tuple(told.action for told in predict(used, config, held_out))


def violations(
    actions: Sequence[NDArray[np.float32]],
    episodes: Sequence[EpisodeArrays],
    bounds: ActionBounds,
) -> int:
    """Return the ticks at which an action is not finite, out of bounds or too fast.

    A change is judged by the measured time between the two ticks.
    """
    low, high = np.asarray(bounds.low), np.asarray(bounds.high)
    broken = 0
    for action, episode in zip(actions, episodes, strict=True):
        values = action.astype(np.float64)
        bad = ~np.isfinite(values) | (values < low - 1e-6) | (values > high + 1e-6)
        seconds = np.maximum(np.diff(episode.stamp_ns), 1)[:, None] / 1e9
        step = np.abs(np.diff(values, axis=0))
        bad[1:] |= ~(step <= np.asarray(bounds.max_rate_per_s) * seconds + 1e-6)
        broken += int(bad.any(1).sum())
    return broken


def judge(figures: GateFigures, limits: GateLimits) -> tuple[str, ...]:
    """Return why the candidate may not be used; empty if it may.

    Every comparison is written so that NaN refuses.
    """
    facts = (
        (
            figures.episodes >= limits.min_episodes
            and figures.steps >= limits.min_steps,
            f"only {figures.episodes} held-out episodes, {figures.steps} steps",
        ),
        (
            figures.activity > limits.min_activity,
            f"the adapter changes nothing ({figures.activity:.2g}): is it attached?",
        ),
        (
            figures.action_delta <= limits.max_action_delta,
            (
                f"the actions change by {figures.action_delta:.3f}, "
                f"allowed {limits.max_action_delta:g}"
            ),
        ),
        (figures.violations == 0, f"{figures.violations} safety violations"),
        (
            figures.mae_after < figures.mae_before,
            (
                f"the held-out error does not fall: {figures.mae_before:.4f} to "
                f"{figures.mae_after:.4f}"
            ),
        ),
    )
    return tuple(reason for holds, reason in facts if not holds)


def _error(
    actions: Sequence[NDArray[np.float32]], episodes: Sequence[EpisodeArrays]
) -> float:
    pairs = zip(actions, episodes, strict=True)
    errors = [np.abs(a - e.action)[e.valid] for a, e in pairs]
    return float(np.concatenate(errors).mean(dtype=np.float64))
