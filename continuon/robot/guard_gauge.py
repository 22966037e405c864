"""The guard's seldom look at the battery: never where a stop could wait for it.

The gauge hangs on the servo board's bus, which only the guard may use. One healthy look
takes about 1.5 ms. A gauge that holds the bus longer, or fails, is not asked again
before the outputs are off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from continuon.clock import Clock
from continuon.robot.supply import GaugeState, Supply

if TYPE_CHECKING:
    from continuon.rig.protocols import Battery

__all__ = ["GuardGauge"]

PERIOD_NS = 1_000_000_000
SLOW_NS = 10_000_000


class GuardGauge:
    """Looks once a second, when the guard says that it may.

    Args:
        rig: whose `battery` is looked for once, while the outputs are off: finding it
            takes several calls.
        clock: the host's.
    """

    def __init__(self, rig: object, clock: Clock) -> None:
        self._rig = rig
        self._clock = clock
        self._battery: Battery | None = None
        self._looked_for = False
        self._trusted = False
        self._due_ns = 0

    def look(self, *, driving: bool) -> Supply | None:
        """Return what the gauge says, or None while it is not asked.

        Args:
            driving: whether pulses are on the outputs; if so, only a gauge that was
                quick and right the last time is asked.
        """
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._due_ns or (driving and not self._trusted):
            return None
        seen = self._read(now_ns)
        done_ns = self._clock.monotonic_ns()
        took_ns = done_ns - now_ns
        self._due_ns = done_ns + PERIOD_NS
        self._trusted = seen.state is GaugeState.READ and took_ns <= SLOW_NS
        return attrs.evolve(seen, took_ns=took_ns)

    def _read(self, now_ns: int) -> Supply:
        try:
            if not self._looked_for:
                self._looked_for = True
                self._battery = getattr(self._rig, "battery", None)
            if self._battery is None:
                return _nothing(GaugeState.ABSENT, now_ns, self._why_absent())
            reading = self._battery.read()
        except Exception as error:  # noqa: BLE001 - no gauge may end the guard
            why = f"{type(error).__name__}: {error}".rstrip(": ")
            return _nothing(GaugeState.FAILED, now_ns, why)
        return Supply(
            state=GaugeState.READ,
            capture_ns=reading.capture_ns,
            volts=reading.volts,
            amps=reading.amps,
            fraction=reading.fraction,
            cells=reading.cells,
        )

    def _why_absent(self) -> str:
        reasons: dict[str, str] = getattr(self._rig, "reasons", {})
        return reasons.get("battery", "")


def _nothing(state: GaugeState, now_ns: int, reason: str) -> Supply:
    return Supply(state=state, capture_ns=now_ns, reason=reason)
