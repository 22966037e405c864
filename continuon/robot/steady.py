"""A camera and a policy whose failures are counted, and never end the loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from continuon.clock import Clock
from continuon.errors import ContinuonError, HardwareError
from continuon.rig.protocols import Camera, Frame
from continuon.robot.observing import Lack, Senses
from continuon.robot.pilots import Intent, PolicyPilot
from continuon.robot.policies import ActiveModel
from continuon.robot.shadow import Shadow

__all__ = ["MEND_NS", "SteadyBrain", "SteadyEye"]


MEND_NS = 2_000_000_000


class SteadyEye:
    """A camera whose failures are counted and reported, not raised into the loop.

    One that failed is opened again every two seconds, so that a cable put back needs no
    restart. That takes a thread: it may last longer than a tick.

    Args:
        camera: open already.
        clock: the host's.
        apart: calls a function beside the loop, as `threading.Thread` does.
    """

    def __init__(
        self,
        camera: Camera,
        clock: Clock,
        *,
        apart: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._camera = camera
        self._clock = clock
        self._apart = apart or _in_a_thread
        self._mending = False
        self._mend_due_ns = 0
        self.failures = 0
        self.last_failure: str | None = None

    def poll(self) -> Frame | None:
        """Return a fresh frame; None also where the camera failed, or is opened."""
        if self._mending:
            return None
        try:
            return self._camera.poll()
        except HardwareError as error:
            self._failed(error)
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._mend_due_ns:
            self._mending = True
            self._apart(self._mend)
        return None

    def _mend(self) -> None:
        try:
            self._camera.close()
            self._camera.open()
        except OSError as error:
            self._failed(error)
        finally:
            self._mend_due_ns = self._clock.monotonic_ns() + MEND_NS
            self._mending = False

    def _failed(self, error: OSError) -> None:
        self.failures += 1
        self.last_failure = str(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)


def _in_a_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="camera-mend", daemon=True).start()


class SteadyBrain:
    """The active policy as a pilot; a policy that raises is one that says nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pilot: PolicyPilot | None = None
        self.shadow: Shadow | None = None
        self.failures = 0
        self.failed = False
        self.last_failure: str | None = None

    @property
    def lacks(self) -> Lack | None:
        """What the policy could not be stepped without at the last call, else None."""
        return self._pilot.lacks if self._pilot is not None else None

    def use(self, model: ActiveModel) -> None:
        """Think with this policy from the next call on."""
        self._pilot = PolicyPilot(model.policy, self._clock.monotonic_ns)

    def reset(self) -> None:
        """Forget everything, as at the start of an episode."""
        if self._pilot is not None:
            self._pilot.reset()

    def __call__(self, senses: Senses) -> Intent | None:
        """Return what the policy wants, None where it has nothing to say."""
        intent = self._think(senses)
        if self.shadow is not None:
            self.shadow.watch(senses, intent)
        return intent

    def _think(self, senses: Senses) -> Intent | None:
        self.failed = False
        if self._pilot is None:
            return None
        try:
            return self._pilot(senses)
        except (ContinuonError, ValueError, RuntimeError) as error:
            self.failures += 1
            self.failed = True
            self.last_failure = f"{type(error).__name__}: {error}"
            return None
