"""Change the policy under a running loop: prepare on a thread, switch between ticks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import attrs

from continuon.errors import ContinuonError, UsageError
from continuon.robot.kernel import SafetyLimits
from continuon.robot.policies import ActiveModel

__all__ = ["Swapper", "Switch"]

Prepare = Callable[[str, str, int], ActiveModel]


@attrs.frozen(eq=False, kw_only=True)
class Switch:
    """The end of a request: a model that takes over now, or why none does."""

    request_id: int
    model: ActiveModel | None = None
    error: dict[str, Any] | None = None


class Swapper:
    """Holds the active and the previous policy; one request at a time.

    Args:
        prepare: (directory, backend, serial) -> a model that may drive, on any thread.
        on_thread: called first on the loader's thread, to set its priority.
    """

    def __init__(
        self, prepare: Prepare, on_thread: Callable[[], object] = lambda: None
    ) -> None:
        self._prepare = prepare
        self._on_thread = on_thread
        self._thread: threading.Thread | None = None
        self._ready: Switch | None = None
        self._serial = 0
        self.active: ActiveModel | None = None
        self.previous: ActiveModel | None = None

    def adopt(self, directory: str, backend: str) -> ActiveModel:
        """Prepare a policy on this thread and make it the active one.

        Raises:
            ContinuonError: it may not drive.
        """
        self._serial += 1
        self.active = self._prepare(directory, backend, self._serial)
        return self.active

    def request(
        self,
        request_id: int,
        directory: str,
        backend: str,
        limits: SafetyLimits | None = None,
    ) -> None:
        """Begin to prepare a policy; the result comes out of `take`.

        Raises:
            UsageError: E-ROBOT-SWAP-003, another swap is under way.
        """
        self._refuse_if_busy()
        self._serial += 1
        self._thread = threading.Thread(
            target=self._work,
            args=(request_id, directory, backend, self._serial, limits),
            name="swap",
            daemon=True,
        )
        self._thread.start()

    def request_back(self, request_id: int) -> None:
        """Let the previous policy take over at the next `take`.

        Raises:
            UsageError: E-ROBOT-SWAP-003 or -004, busy, or there is no previous one.
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
        switch = self._ready
        if switch is None:
            return None
        self._ready = None
        self._thread = None
        if switch.model is not None:
            self.active, self.previous = switch.model, self.active
        return switch

    def _refuse_if_busy(self) -> None:
        if self._thread is not None or self._ready is not None:
            raise UsageError(
                "E-ROBOT-SWAP-003",
                "another swap is under way",
                hint="wait for its answer",
            )

    def _work(
        self,
        request_id: int,
        directory: str,
        backend: str,
        serial: int,
        limits: SafetyLimits | None,
    ) -> None:
        try:
            self._on_thread()
            model = self._prepare(directory, backend, serial)
            model = attrs.evolve(model, limits=limits)
            self._ready = Switch(request_id=request_id, model=model)
        except ContinuonError as error:
            self._ready = Switch(request_id=request_id, error=error.as_dict())
        except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
            wrapped = ContinuonError(
                "E-ROBOT-SWAP-005",
                f"the policy could not be loaded: {type(error).__name__}: {error}",
                where=directory,
                hint="the previous policy goes on driving; look at the bundle",
            )
            self._ready = Switch(request_id=request_id, error=wrapped.as_dict())
