"""Check of the I2C bus: does it answer every time, and soon."""

from __future__ import annotations

from typing import Any

from continuon.errors import ContinuonError
from continuon.health.body import absent
from continuon.health.levels import Level, regrade, worst
from continuon.health.report import Check
from continuon.health.thresholds import bounds
from continuon.rig.pca9685 import Pca9685Servos
from continuon.rig.protocols import Rig

__all__ = ["check_bus"]


def check_bus(
    rig: Rig, limits: dict[str, Any], *, before: Level | None = None
) -> Check:
    """Read a register of the servo board many times; nothing is written."""
    if not isinstance(rig.servos, Pca9685Servos):
        return Check(
            name="bus",
            level=Level.UNKNOWN,
            text=absent(rig, "servos", "no servo board to read from"),
            origin=rig.origin,
            hint="`continuon rig scan` says what answers",
        )
    bus, address = rig.servos.bus, rig.servos.address
    retries, failures, calls = bus.retries, bus.failures, bus.calls
    bus.slowest_ns = 0
    last: ContinuonError | None = None
    for _ in range(limits["reads"]):
        try:
            bus.read(address, 0, 1)
        except ContinuonError as error:
            last = error
            break
    retries, failures = bus.retries - retries, bus.failures - failures
    slowest_ms = bus.slowest_ns / 1e6
    level = worst(
        [
            regrade(
                slowest_ms, bounds(limits, "slowest_ms", above=True), before=before
            ),
            Level.WARN if retries else Level.OK,
            Level.CRITICAL if failures else Level.OK,
        ]
    )
    text = (
        f"{bus.calls - calls} reads, {retries} tried again, slowest {slowest_ms:.1f} ms"
    )
    return Check(
        name="bus",
        level=level,
        text=text if last is None else str(last),
        figures={
            "bus_reads": bus.calls - calls,
            "bus_retries": retries,
            "bus_failures": failures,
            "bus_slowest_ms": round(slowest_ms, 3),
            "bus_max_hang_ms": bus.max_hang_ms or "the adapter's own",
        },
        origin=rig.origin,
        hint=None
        if level is Level.OK
        else "look for loose or long wires beside motor leads, a weak 3.3 V supply",
    )
