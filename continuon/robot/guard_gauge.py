"""The guard's seldom look at the battery: never where a stop could wait for it.

The gauge hangs on the servo board's bus, which only the guard may use. One healthy look
takes about 1.5 ms. A gauge that holds the bus longer, or fails, is not asked again
before the outputs are off; one that is not there is looked for again now and then.
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
SEARCH_NS = 10_000_000_000
SLOW_NS = 10_000_000


class GuardGauge:
    """Looks once a second, when the guard says that it may.

    Args:
        rig: whose `battery` is looked for while the outputs are off, for finding it
            takes several calls; `look_again`, where it has that, makes it look anew.
        clock: the host's.
    """

    def __init__(self, rig: object, clock: Clock) -> None:
        self._rig = rig
        self._clock = clock
        self._battery: Battery | None = None
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
        is_absent = seen.state is GaugeState.ABSENT
        self._due_ns = done_ns + (SEARCH_NS if is_absent else PERIOD_NS)
        if seen.state is not GaugeState.READ:
            self._battery = None  # one that came back has forgotten its settings
        self._trusted = seen.state is GaugeState.READ and took_ns <= SLOW_NS
        return attrs.evolve(seen, took_ns=took_ns)

    def _read(self, now_ns: int) -> Supply:
        try:
            if self._battery is None:
                self._battery = self._find()
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

    def _find(self) -> Battery | None:
        look_again = getattr(self._rig, "look_again", None)
        if look_again is not None:
            look_again("battery")
        found: Battery | None = getattr(self._rig, "battery", None)
        return found

    def _why_absent(self) -> str:
        reasons: dict[str, str] = getattr(self._rig, "reasons", {})
        return reasons.get("battery", "")


def _nothing(state: GaugeState, now_ns: int, reason: str) -> Supply:
    return Supply(state=state, capture_ns=now_ns, reason=reason)
