"""Change the policy under a running loop: watch the candidate, switch between ticks.

The candidate was loaded and checked in its own process before the loop hears of it;
here it costs a connection, some packets, and one reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import msgspec

from continuon.errors import ContinuonError, UsageError
from continuon.robot.kernel import SafetyLimits
from continuon.robot.policies import ActiveModel
from continuon.robot.remote_policy import RemotePolicy, RemoteSpec
from continuon.robot.shadow import Shadow, ShadowReport, ShadowRule

__all__ = ["Swapper", "Switch"]

Prepare = Callable[[str, str, int], ActiveModel]


@attrs.frozen(eq=False, kw_only=True)
class Switch:
    """The end of a request: a model that takes over now, or why none does."""

    request_id: int
    model: ActiveModel | None = None
    error: dict[str, Any] | None = None
    shadow: ShadowReport | None = None


class Swapper:
    """Holds the active and the previous policy; one request at a time.

    Args:
        prepare: (directory, backend, serial) -> a model that may drive; only for the
            first policy, before the loop runs.
        admit: raises where the robot has not what a policy's spec asks for.
        answer_timeout_s: a step that takes longer is none, and the loop goes on.
    """

    def __init__(
        self,
        prepare: Prepare,
        *,
        admit: Callable[[Any], None] = lambda _spec: None,
        answer_timeout_s: float = 0.1,
    ) -> None:
        self._prepare = prepare
        self._admit = admit
        self.answer_timeout_s = answer_timeout_s
        self._ready: Switch | None = None
        self._candidate: Switch | None = None
        self._serial = 0
        self.shadow: Shadow | None = None
        self.active: ActiveModel | None = None
        self.previous: ActiveModel | None = None

    def adopt(self, directory: str, backend: str) -> ActiveModel:
        """Prepare a policy here and make it the active one; the loop does not run yet.

        Raises:
            ContinuonError: it may not drive.
        """
        self._serial += 1
        model = self._prepare(directory, backend, self._serial)
        self._admit(model.policy.spec)
        self.active = model
        return model

    def request(
        self,
        request_id: int,
        offer: Mapping[str, Any],
        *,
        limits: SafetyLimits | None = None,
        rule: ShadowRule | None = None,
    ) -> None:
        """Connect to a prepared policy; its switch comes out of `take`.

        `rule` says how it is watched first; None switches at the next `take`.

        Raises:
            UsageError: E-ROBOT-SWAP-003, another swap is under way.
            ContinuonError: E-ROBOT-SWAP-005, its process is gone; what `admit` says.
        """
        self._refuse_if_busy()
        spec = msgspec.convert(offer["spec"], RemoteSpec)
        self._admit(spec)
        try:
            policy = RemotePolicy.connect(
                Path(offer["path"]), spec, timeout_s=self.answer_timeout_s
            )
        except OSError as error:
            raise ContinuonError(
                "E-ROBOT-SWAP-005",
                "the new policy's process is gone",
                seen=error.strerror,
                where=offer["path"],
            ) from None
        self._serial += 1
        figures = dict(offer["figures"]) | {"serial": self._serial}
        model = ActiveModel(**figures, policy=policy, limits=limits)
        switch = Switch(request_id=request_id, model=model)
        if rule is None or rule.frames == 0:
            self._ready = switch
        else:
            self._candidate = switch
            self.shadow = Shadow(policy, rule)

    def request_back(self, request_id: int) -> None:
        """Let the previous policy take over at the next `take`.

        Raises:
            UsageError: E-ROBOT-SWAP-003 or -004, busy, or there is no previous one.
            ContinuonError: E-ROBOT-POLICY-002, the previous one's process is gone.
        """
        self._refuse_if_busy()
        if self.previous is None:
            raise UsageError(
                "E-ROBOT-SWAP-004",
                "there is no previous policy to go back to",
                hint="swap in the bundle that should drive",
            )
        self.previous.policy.reset()
        self._ready = Switch(request_id=request_id, model=self.previous)

    def take(self) -> Switch | None:
        """Return the end of a request, once; with it the references have changed.

        The loop calls this between two ticks. It never waits.
        """
        if self.shadow is not None and self.shadow.tick():
            self._ready = self._end_of_shadow(self.shadow)
        switch = self._ready
        if switch is None:
            return None
        self._ready = None
        if switch.model is not None:
            dropped = None if switch.model is self.previous else self.previous
            self.active, self.previous = switch.model, self.active
            if isinstance(switch.model.policy, RemotePolicy):
                switch.model.policy.drive()
            _let_go(dropped)
        return switch

    def close(self) -> None:
        """Let every policy go that lives in a process of its own."""
        waiting = self._ready or self._candidate
        models = (self.active, self.previous, waiting.model if waiting else None)
        for model in models:
            _let_go(model)

    def _end_of_shadow(self, shadow: Shadow) -> Switch:
        candidate = self._candidate
        assert candidate is not None
        self.shadow = self._candidate = None
        try:
            return attrs.evolve(candidate, shadow=shadow.judge())
        except ContinuonError as error:
            _let_go(candidate.model)
            return attrs.evolve(candidate, model=None, error=error.as_dict())

    def _refuse_if_busy(self) -> None:
        if self._candidate is not None or self._ready is not None:
            raise UsageError(
                "E-ROBOT-SWAP-003",
                "another swap is under way",
                hint="wait for its answer",
            )


def _let_go(model: ActiveModel | None) -> None:
    if model is not None and isinstance(model.policy, RemotePolicy):
        model.policy.close()
