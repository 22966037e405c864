"""Whoever drives: a policy, a person, or a simulator's expert, behind one call.

A pilot gets the senses of one tick and returns what it wants, or None when it has
nothing to say (which the safety kernel treats as a hold).
"""

from __future__ import annotations

from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import UsageError
from continuon.rlds.episode import ActionSource
from continuon.robot.observing import Lack, Observation, Observer, Senses

__all__ = [
    "ExpertPilot",
    "Intent",
    "Pilot",
    "PolicyPilot",
    "Senses",
    "TeleopPilot",
]

TELEOP_TTL_NS = 300_000_000


@attrs.frozen(eq=False, kw_only=True)
class Intent:
    """What a pilot wants.

    Attributes:
        action: float32 [channels], the intended action; this is what is learnt from.
        source: who intends it.
        observed_ns: capture time of what it rests on.
        applied: what to send in its place, where a pilot disturbs itself on purpose.
        policy_ns: time that a policy step took; 0 where none was taken at this tick.
        surprise: the policy's own, NaN where it has none.
    """

    action: NDArray[np.float32]
    source: ActionSource
    observed_ns: int
    applied: NDArray[np.float32] | None = None
    policy_ns: int = 0
    surprise: float = float("nan")


class Pilot(Protocol):
    """Anything that can drive."""

    def __call__(self, senses: Senses) -> Intent | None:
        """Return what it wants at this tick."""
        ...


class PolicyPilot:
    """Steps a policy once for each fresh frame and holds its action in between.

    Args:
        policy: an edge backend: `.spec`, `.reset()`, `.step(image, proprio)`, and
            `depth` and `instruction` by name where the spec has them.
        now_ns: reads the clock that a step's duration is measured with.

    Attributes:
        lacks: what it could not be stepped without when it last might, else None.
    """

    def __init__(self, policy: Any, now_ns: Any) -> None:
        self.policy = policy
        self._now_ns = now_ns
        self._held: Intent | None = None
        self._observer = Observer(policy.spec)
        self.lacks: Lack | None = None

    @property
    def surprise_target(self) -> str | None:
        """What its surprise is about: the config fixes the latent that is predicted.

        None where the policy does not name its config.
        """
        digest = getattr(self.policy.spec, "config_digest", None)
        return f"hope-frozen-target:{digest}" if digest else None

    def reset(self) -> None:
        """Forget everything, as at the start of an episode."""
        self.policy.reset()
        self._held = None

    def __call__(self, senses: Senses) -> Intent | None:
        """Return the action for a fresh frame, or the held one.

        A frame without its depth, where the policy sees depth, is none. What else it
        lacks leaves it with nothing to say, and `lacks` says what.
        """
        lacks = self._observer.lacks(senses)
        if lacks is not None:
            self.lacks, self._held = lacks, None
            return None
        seen = self._observe(senses)
        if seen is None:
            return attrs.evolve(self._held, policy_ns=0) if self._held else None
        observation, begun_ns = seen
        output = self.policy.step(
            observation.image, observation.proprio, **observation.more
        )
        self._held = Intent(
            action=np.asarray(output.action, np.float32),
            source=ActionSource.VLA_POLICY,
            observed_ns=observation.observed_ns,
            policy_ns=max(1, self._now_ns() - begun_ns),
            surprise=float(output.surprise),
        )
        return self._held

    def _observe(self, senses: Senses) -> tuple[Observation, int] | None:
        if senses.frame is None:
            return None
        begun_ns = self._now_ns()
        observation = self._observer(senses.frame, senses)
        self.lacks = Lack.DEPTH if observation is None else None
        return None if observation is None else (observation, begun_ns)


class TeleopPilot:
    """Holds a person's last command for a short while.

    A command that is older than `ttl_ns` is no command: hands off means stop.
    """

    def __init__(self, *, ttl_ns: int = TELEOP_TTL_NS) -> None:
        self._ttl_ns = ttl_ns
        self._last: Intent | None = None

    def command(
        self, action: NDArray[np.float32], source: ActionSource, *, received_ns: int
    ) -> None:
        """Take a command that arrived at `received_ns`."""
        self._last = Intent(action=action, source=source, observed_ns=received_ns)

    def reset(self) -> None:
        """Forget the last command."""
        self._last = None

    def __call__(self, senses: Senses) -> Intent | None:
        """Return the last command while it is fresh."""
        last = self._last
        if last is None or senses.now_ns - last.observed_ns > self._ttl_ns:
            return None
        return last


class ExpertPilot:
    """A simulator's privileged driver in the place of a human teleoperator.

    Args:
        rig: offers `expert(noise) -> action`, as `continuon.sim` does.
        noise: amplitude of the disturbance that the expert has to correct.
        source: what the recording says of who drove.

    Raises:
        UsageError: the rig has no expert; a real one never has.
    """

    def __init__(
        self,
        rig: Any,
        *,
        noise: float | None = None,
        source: str = ActionSource.HUMAN_TELEOP_XR,
    ) -> None:
        if not callable(getattr(rig, "expert", None)):
            raise UsageError(
                "E-ROBOT-PILOT-001",
                "this rig has no expert to drive it",
                seen=getattr(rig, "name", type(rig).__name__),
                allowed="a simulated rig, or a person at the controls",
            )
        self._rig = rig
        self._noise = noise
        self._source = ActionSource(source)

    def __call__(self, senses: Senses) -> Intent | None:
        """Return the expert's intention for the world as it is now."""
        action = np.asarray(self._rig.expert(self._noise), np.float32)
        return Intent(action=action, source=self._source, observed_ns=senses.now_ns)
