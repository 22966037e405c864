"""Safety kernel: the last judge of a command before it leaves the control loop.

Pure: a proposal and two times go in, a verdict and a command come out. Holding is what
it does when it cannot judge, stopping is what it does when it has held for too long.
"""

from __future__ import annotations

import math
from enum import StrEnum

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from continuon.errors import ContractError

__all__ = [
    "UNLIMITED_PER_S",
    "Decision",
    "KernelState",
    "Reason",
    "SafetyLimits",
    "Verdict",
    "judge",
]

UNLIMITED_PER_S = 1e9
"""A rate that limits nothing; finite, because infinity times no time is NaN."""


class Verdict(StrEnum):
    """What became of a proposal; STOP means that outputs go off."""

    PASS = "pass"  # noqa: S105
    CLIPPED = "clipped"
    HELD = "held"
    STOP = "stop"


class Reason(StrEnum):
    """Why a proposal was not passed as it was."""

    MISSING = "missing"
    SHAPE = "shape"
    NON_FINITE = "non_finite"
    RANGE = "range"
    RATE = "rate"
    STALE_OBSERVATION = "stale_observation"
    FUTURE_OBSERVATION = "future_observation"
    NO_OBSERVATION = "no_observation"
    SPEED = "speed"
    SPEED_UNKNOWN = "speed_unknown"
    HELD_TOO_LONG = "held_too_long"
    BATTERY_CRITICAL = "battery_critical"
    BATTERY_UNKNOWN = "battery_unknown"
    NO_INSTRUCTION = "no_instruction"
    STOPPED = "stopped"


def _tuple_of_floats(values: ArrayLike) -> tuple[float, ...]:
    return tuple(float(value) for value in np.asarray(values, np.float64).ravel())


@attrs.frozen(kw_only=True)
class SafetyLimits:
    """The envelope that commands must stay in; all tuples have one entry a channel.

    Attributes:
        names: action channels, in the policy's order.
        low, high: bounds in the action's own unit.
        max_rate_per_s: largest change a second; UNLIMITED_PER_S for no limit.
        neutral: the command that moves nothing.
        max_observation_age_ns: an older observation is not acted on.
        max_hold_ns: holding the last command for longer is a stop.
        max_step_ns: cap of the time that a rate limit may count between two commands.
        future_tolerance_ns: how far a stamp may lie ahead before it is disbelieved.
        throttle: index of the forward channel; None where there is none.
        max_speed_mps: speed above which throttle may not push; None sets no limit.
        unenforced: limits of the manifest that this robot cannot measure, by name.
    """

    names: tuple[str, ...]
    low: tuple[float, ...] = attrs.field(converter=_tuple_of_floats)
    high: tuple[float, ...] = attrs.field(converter=_tuple_of_floats)
    max_rate_per_s: tuple[float, ...] = attrs.field(converter=_tuple_of_floats)
    neutral: tuple[float, ...] = attrs.field(converter=_tuple_of_floats)
    max_observation_age_ns: int = 500_000_000
    max_hold_ns: int = 200_000_000
    max_step_ns: int = 40_000_000
    future_tolerance_ns: int = 5_000_000
    throttle: int | None = None
    max_speed_mps: float | None = None
    unenforced: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        """Refuse an envelope that is no envelope."""
        count = len(self.names)
        sizes = {len(self.low), len(self.high), len(self.max_rate_per_s)}
        ok = (
            count > 0
            and sizes | {len(self.neutral)} == {count}
            and all(
                math.isfinite(low) and math.isfinite(high) and low <= rest <= high
                for low, rest, high in zip(
                    self.low, self.neutral, self.high, strict=True
                )
            )
            and all(0 < rate <= UNLIMITED_PER_S for rate in self.max_rate_per_s)
            and min(self.max_observation_age_ns, self.max_hold_ns) > 0
            and self.max_step_ns > 0
            and (self.throttle is None or 0 <= self.throttle < count)
            and (self.max_speed_mps is None or self.max_speed_mps > 0)
        )
        if not ok:
            raise ContractError(
                "E-ROBOT-KERNEL-001",
                "the safety limits hold a bound that is no bound",
                seen=self,
                allowed="one finite low <= neutral <= high, 0 < rate <= 1e9 a channel",
            )


@attrs.frozen(kw_only=True)
class KernelState:
    """What the kernel remembers between two commands.

    Attributes:
        last: the last command that left, neutral at a start.
        last_ns: when it left.
        good_ns: when a proposal was last acted on; holding is counted from here.
        stopped: a STOP was given; only a new start ends it.
    """

    last: tuple[float, ...]
    last_ns: int
    good_ns: int
    stopped: bool = False

    @classmethod
    def start(cls, limits: SafetyLimits, now_ns: int) -> KernelState:
        """Return the memory of a fresh, explicit start at neutral."""
        return cls(last=limits.neutral, last_ns=now_ns, good_ns=now_ns)


@attrs.frozen(eq=False, kw_only=True)
class Decision:
    """A verdict and the command that goes out: float32 [channels], neutral for STOP."""

    verdict: Verdict
    command: NDArray[np.float32]
    reasons: tuple[Reason, ...] = ()


def judge(
    limits: SafetyLimits,
    state: KernelState,
    proposal: ArrayLike | None,
    *,
    now_ns: int,
    observed_ns: int | None,
    speed_mps: float | None = None,
    barred: Reason | None = None,
) -> tuple[KernelState, Decision]:
    """Return the next memory, and what leaves in place of `proposal`.

    Args:
        limits: the envelope.
        state: what this function returned at the tick before.
        proposal: the wished command, float [channels] in the action's unit.
        now_ns: time of this tick, host monotonic.
        observed_ns: capture time of the observation that the proposal rests on.
        speed_mps: measured speed; None or NaN where unknown.
        barred: why nothing may drive at all, whatever is proposed: a STOP at once.
    """
    if state.stopped:
        return state, _stop(limits, (Reason.STOPPED,))
    if barred is not None:
        stopped = attrs.evolve(state, last=limits.neutral, stopped=True)
        return stopped, _stop(limits, (barred,))
    wish, refusal = _read(limits, proposal)
    refusal = refusal or _age_problem(limits, now_ns, observed_ns)
    if wish is None or refusal is not None:
        return _hold(limits, state, now_ns, refusal or Reason.MISSING)
    safe, reasons = _fit(limits, state, wish, now_ns, speed_mps)
    verdict = Verdict.CLIPPED if reasons else Verdict.PASS
    memory = KernelState(last=_tuple_of_floats(safe), last_ns=now_ns, good_ns=now_ns)
    return memory, Decision(verdict=verdict, command=safe, reasons=reasons)


def _read(
    limits: SafetyLimits, proposal: ArrayLike | None
) -> tuple[NDArray[np.float64] | None, Reason | None]:
    if proposal is None:
        return None, Reason.MISSING
    try:
        wish = np.asarray(proposal, np.float64)
    except (TypeError, ValueError):
        return None, Reason.SHAPE
    if wish.shape != (len(limits.names),):
        return None, Reason.SHAPE
    return (wish, None) if np.isfinite(wish).all() else (None, Reason.NON_FINITE)


def _age_problem(
    limits: SafetyLimits, now_ns: int, observed_ns: int | None
) -> Reason | None:
    if observed_ns is None:
        return Reason.NO_OBSERVATION
    age_ns = now_ns - observed_ns
    if age_ns < -limits.future_tolerance_ns:
        return Reason.FUTURE_OBSERVATION
    if age_ns > limits.max_observation_age_ns:
        return Reason.STALE_OBSERVATION
    return None


def _fit(
    limits: SafetyLimits,
    state: KernelState,
    wish: NDArray[np.float64],
    now_ns: int,
    speed_mps: float | None,
) -> tuple[NDArray[np.float32], tuple[Reason, ...]]:
    reasons = []
    inside = np.clip(wish, limits.low, limits.high)
    if (inside != wish).any():
        reasons.append(Reason.RANGE)
    inside, speed_reason = _cap_speed(limits, inside, speed_mps)
    if speed_reason is not None:
        reasons.append(speed_reason)
    dt_s = min(max(now_ns - state.last_ns, 0), limits.max_step_ns) / 1e9
    reach = np.asarray(limits.max_rate_per_s) * dt_s
    before = np.asarray(state.last)
    reached = before + np.clip(inside - before, -reach, reach)
    if not np.allclose(reached, inside, rtol=0.0, atol=1e-7):
        reasons.append(Reason.RATE)
    return reached.astype(np.float32), tuple(reasons)


def _cap_speed(
    limits: SafetyLimits, wish: NDArray[np.float64], speed_mps: float | None
) -> tuple[NDArray[np.float64], Reason | None]:
    index = limits.throttle
    if limits.max_speed_mps is None or index is None:
        return wish, None
    known = speed_mps is not None and math.isfinite(speed_mps)
    speed = speed_mps if known and speed_mps is not None else math.nan
    push = wish[index] - limits.neutral[index]
    if abs(speed) <= limits.max_speed_mps or push == 0.0 or push * speed < 0.0:
        return wish, None
    capped = wish.copy()
    capped[index] = limits.neutral[index]
    return capped, Reason.SPEED if known else Reason.SPEED_UNKNOWN


def _hold(
    limits: SafetyLimits, state: KernelState, now_ns: int, reason: Reason
) -> tuple[KernelState, Decision]:
    if now_ns - state.good_ns > limits.max_hold_ns:
        stopped = attrs.evolve(state, last=limits.neutral, stopped=True)
        return stopped, _stop(limits, (reason, Reason.HELD_TOO_LONG))
    held = np.asarray(state.last, np.float32)
    memory = attrs.evolve(state, last_ns=now_ns)
    return memory, Decision(verdict=Verdict.HELD, command=held, reasons=(reason,))


def _stop(limits: SafetyLimits, reasons: tuple[Reason, ...]) -> Decision:
    neutral = np.asarray(limits.neutral, np.float32)
    return Decision(verdict=Verdict.STOP, command=neutral, reasons=reasons)
