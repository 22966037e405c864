"""Which bundle the robot runs, as its slots say, and the way back to the one before."""

from __future__ import annotations

from typing import Any, Protocol

from continuon.errors import ContinuonError, UsageError
from continuon.home import Home
from continuon.robot.envelope import car_limits
from continuon.robot.update import choose_backend

__all__ = ["Software"]

PUBLIC_KEY = "release.pub.pem"
CODE = "E-ROBOT-ROLLBACK-001"


class _Control(Protocol):
    def swap(self, artifact_dir: Any, backend: str, *, limits: Any) -> Any:
        """Let another policy take over."""
        ...

    def swap_back(self) -> Any:
        """Let the previous policy take over again."""
        ...

    def is_resident(self, artifact_dir: Any) -> bool:
        """Return whether the previous policy is that slot's."""
        ...


class Software:
    """The device's slots, as the service sees them; nothing is kept open.

    Args:
        home: where slots and keys lie.
        state_names: what the robot measures of itself.
    """

    def __init__(self, home: Home, state_names: tuple[str, ...]) -> None:
        self._home = home
        self._state_names = state_names

    def status(self) -> dict[str, Any]:
        """Return the slots' record; `configured` is False before a first key."""
        updater = self._updater()
        if updater is None:
            return {"configured": False}
        return {"configured": True, **updater.status().as_dict()}

    def roll_back(self, control: _Control, reason: str) -> dict[str, Any]:
        """Return to the bundle before, on disk and in the running loop.

        Where its policy is still resident the loop goes first, and the record follows;
        else the record goes first, and the policy is prepared anew.

        Raises:
            UsageError: there is nothing to go back to.
            ContinuonError: the record is rolled back, but the running loop could not
                take the bundle over; the caller stops motion.
        """
        from continuon.bundle.verify import verify_bundle

        updater = self._updater()
        if updater is None:
            raise UsageError(
                "E-ROBOT-ROLLBACK-002",
                "this robot has no bundle to go back to",
                hint="put release.pub.pem into the home's keys and stage a bundle",
            )
        status = updater.status()
        before = status.good if status.on_trial else status.previous
        if before is not None and control.is_resident(before.directory):
            resident = control.swap_back()
            done = updater.rollback(reason, code=CODE)
            return {**done.as_dict(), "swap": resident.as_dict()}
        report = updater.rollback(reason, code=CODE)
        told: dict[str, Any] = dict(report.as_dict())
        directory = report.active_directory
        if directory is None:
            return told
        bundle = verify_bundle(
            directory, updater.public_keys, threshold=updater.threshold
        )
        limits = car_limits(manifest=bundle.safety, state_names=self._state_names)
        swap = control.swap(directory, choose_backend(bundle.manifest), limits=limits)
        return told | {"swap": swap.as_dict()}

    def _updater(self) -> Any:
        key = self._home.keys / PUBLIC_KEY
        if not key.exists():
            return None
        try:
            from continuon.bundle import load_public_key
            from continuon.ota import Updater
        except ImportError as error:
            raise ContinuonError(
                "E-ROBOT-ROLLBACK-003", f"updates need a package: {error}"
            ) from error
        return Updater(self._home.model, [load_public_key(key)])
