"""The service's own look at the robot's health: one memory for everybody who asks."""

from __future__ import annotations

import threading
from collections.abc import Callable

from continuon.health import HealthReport, HealthWatch
from continuon.rig.protocols import Rig
from continuon.robot.factory import Factory

__all__ = ["VitalsDesk"]


class VitalsDesk:
    """Looks when asked, from any thread; levels are held over all looks.

    Args:
        rig: builds the body as this process may see it: never its servos or its bus.
        read: takes that rig and the last report as measured, returns the next one.
    """

    def __init__(
        self, rig: Factory, read: Callable[[Rig, HealthReport | None], HealthReport]
    ) -> None:
        self._factory = rig
        self._read = read
        self._lock = threading.Lock()
        self._rig: Rig | None = None
        self._watch: HealthWatch | None = None

    def look(self) -> HealthReport:
        """Return the checks with their levels as they are to be shown."""
        with self._lock:
            if self._rig is None or self._watch is None:
                rig = self._rig = self._factory.build()
                self._watch = HealthWatch(lambda last: self._read(rig, last), rig.clock)
            report, _ = self._watch.update()
            return report

    def close(self) -> None:
        """Release the body; may be called twice."""
        with self._lock:
            if self._rig is not None:
                self._rig.close()
            self._rig = self._watch = None
